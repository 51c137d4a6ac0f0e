"""The three events as values: nothing in them but what AWS sends, in the order it sends it."""

import pytest

from localgateway.contract.events import (
    ConnectionContext,
    connect_event,
    disconnect_event,
    message_event,
    to_id,
    to_request_time,
    to_trace_header,
)

CONTEXT = ConnectionContext(
    connection_id="L0SM9cOFvHcCIhw=",
    connected_at_ms=1_705_751_699_999,
    api_id="dl7ptocha9",
    stage="prod",
    domain_name="127.0.0.1:8001",
    source_ip="203.0.113.7",
    user_agent="tester/1",
)
NOW_MS = 1_705_751_700_123


def test_connect_carries_headers_and_query():
    event = connect_event(
        CONTEXT,
        headers=[
            ("Host", "x"),
            ("Connection", "Upgrade"),
            ("UPGRADE", "websocket"),
            ("A", "1"),
            ("A", "2"),
            ("a", "3"),
        ],
        query="a=1&b=%20&a=2",
        request_id="R1knPH17NjMFftw=",
        now_ms=NOW_MS,
    )
    assert event == {
        "headers": {"Host": "x", "A": "2", "a": "3"},
        "multiValueHeaders": {"Host": ["x"], "A": ["1", "2"], "a": ["3"]},
        "queryStringParameters": {"a": "2", "b": " "},
        "multiValueQueryStringParameters": {"a": ["1", "2"], "b": [" "]},
        "requestContext": {
            "routeKey": "$connect",
            "eventType": "CONNECT",
            "extendedRequestId": "R1knPH17NjMFftw=",
            "requestTime": "20/Jan/2024:11:55:00 +0000",
            "messageDirection": "IN",
            "stage": "prod",
            "connectedAt": 1_705_751_699_999,
            "requestTimeEpoch": NOW_MS,
            "identity": {"sourceIp": "203.0.113.7", "userAgent": "tester/1"},
            "requestId": "R1knPH17NjMFftw=",
            "domainName": "127.0.0.1:8001",
            "connectionId": "L0SM9cOFvHcCIhw=",
            "apiId": "dl7ptocha9",
        },
        "isBase64Encoded": False,
    }


def test_message_carries_its_body_and_an_id():
    event = message_event(
        CONTEXT, route_key="$default", body="hi", message_id="R1knPc2ntjMCFIA=", request_id="r", now_ms=NOW_MS
    )
    assert list(event) == ["requestContext", "body", "isBase64Encoded"]
    assert event["body"] == "hi"
    assert list(event["requestContext"]) == [
        "routeKey",
        "messageId",
        "eventType",
        "extendedRequestId",
        "requestTime",
        "messageDirection",
        "stage",
        "connectedAt",
        "requestTimeEpoch",
        "identity",
        "requestId",
        "domainName",
        "connectionId",
        "apiId",
    ]


def test_disconnect_carries_a_code_and_a_reason():
    event = disconnect_event(CONTEXT, code=1005, reason="none", request_id="r", now_ms=NOW_MS)
    assert list(event) == ["headers", "multiValueHeaders", "requestContext", "isBase64Encoded"]
    assert list(event["requestContext"])[:3] == ["routeKey", "disconnectStatusCode", "disconnectReason"]
    assert event["requestContext"]["disconnectStatusCode"] == 1005
    assert event["requestContext"]["disconnectReason"] == "none"


@pytest.mark.parametrize("query", ["", "&", "=&"])
def test_a_query_of_nothing_is_no_query(query):
    event = connect_event(CONTEXT, headers=[], query=query, request_id="r", now_ms=NOW_MS)
    assert ("queryStringParameters" in event) == (query == "=&")


@pytest.mark.parametrize(
    ("epoch_ms", "written"),
    [
        (0, "01/Jan/1970:00:00:00 +0000"),
        (1_705_751_700_999, "20/Jan/2024:11:55:00 +0000"),
        (1_709_251_199_000, "29/Feb/2024:23:59:59 +0000"),
        (1_798_761_599_000, "31/Dec/2026:23:59:59 +0000"),
    ],
)
def test_request_time_is_written_as_web_servers_log_it(epoch_ms, written):
    assert to_request_time(epoch_ms) == written


def test_an_id_is_fifteen_characters_and_an_equals_sign():
    assert to_id(bytes(range(11))) == "AAECAwQFBgcICQo="
    assert to_id(b"\xff" * 11) == "______________8="


def test_a_trace_header_has_the_time_in_it():
    assert to_trace_header(NOW_MS, bytes(12)) == "Root=1-65abb494-" + "0" * 24
