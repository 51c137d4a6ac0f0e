"""EVT: the events that the functions get."""

import re
import time
from datetime import datetime

import pytest

from gatewaykit import RECORDING, handshake
from localgateway import Additions

IMPORTED_AT_MS = int(time.time() * 1000)


@pytest.fixture
def three_events(serve):
    """Connect with a query, say something, leave: the events of one connection, in order."""
    probe = serve(RECORDING)
    client = probe.joins("?a=1", user_agent_header="tester/1")
    connected = probe.event()
    client.sends("x")
    said = probe.event()
    client.socket.close()
    return connected, said, probe.event()


@pytest.fixture
def contexts(three_events):
    return [event["requestContext"] for event in three_events]


def test_EVT_01_without_a_query_there_is_no_key_for_it(serve):
    """EVT-01 (B): without a query string the $connect event has no key for it."""
    probe = serve(RECORDING)
    probe.joins()
    assert not {"queryStringParameters", "multiValueQueryStringParameters"} & set(probe.event())


def test_EVT_02_a_query_is_there_once_by_its_last_and_once_by_all_values(serve):
    """EVT-02 (B): the query is in $connect's event twice: by single values and by lists of all."""
    probe = serve(RECORDING)
    probe.joins("?a=1&b=2&a=3&empty=&text=%C3%BC+x")
    event = probe.event()
    assert event["queryStringParameters"] == {"a": "3", "b": "2", "empty": "", "text": "ü x"}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "3"], "b": ["2"], "empty": [""], "text": ["ü x"]}


def test_EVT_03_connect_has_no_body(three_events):
    """EVT-03 (A): the $connect event has no body; isBase64Encoded is false."""
    connected, _, _ = three_events
    assert "body" not in connected
    assert connected["isBase64Encoded"] is False


def test_EVT_04_headers_are_the_clients_and_those_of_the_way(serve):
    """EVT-04 (B): $connect's headers are the client's without Connection and Upgrade, and where it came from."""
    probe = serve(RECORDING)
    probe.raw(handshake("/api", "x-lower: 1", "X-Twice: a", "X-Twice: b", "X-Forwarded-For: 203.0.113.9"))
    event = probe.event()
    headers = event["headers"]
    assert headers["Host"] == "localhost"
    assert headers["Sec-WebSocket-Key"] == "x3JJHMbDL1EzLkh9GBhXDw=="
    assert headers["Sec-WebSocket-Version"] == "13"
    assert headers["x-lower"] == "1"
    assert headers["X-Twice"] == "b"
    assert event["multiValueHeaders"]["X-Twice"] == ["a", "b"]
    assert headers["X-Forwarded-For"] == "203.0.113.9, 127.0.0.1"
    assert headers["X-Forwarded-Port"] == str(probe.address[1])
    assert headers["X-Forwarded-Proto"] == "http"
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", headers["X-Amzn-Trace-Id"])
    assert not {"connection", "upgrade"} & {name.lower() for name in headers}
    assert event["multiValueHeaders"].keys() == headers.keys()


def test_EVT_05_identity_has_the_user_agent(contexts):
    """EVT-05 (B): identity is the client's address and User-Agent, in every event."""
    assert [context["identity"] for context in contexts] == [{"sourceIp": "127.0.0.1", "userAgent": "tester/1"}] * 3


def test_EVT_05_a_client_without_a_user_agent_has_none(serve):
    """EVT-05 (B): identity has no userAgent where the client has sent none."""
    probe = serve(RECORDING)
    probe.joins(user_agent_header=None)
    assert probe.event()["requestContext"]["identity"] == {"sourceIp": "127.0.0.1"}


def test_EVT_06_no_event_has_the_request_id_of_another(contexts):
    """EVT-06 (A): requestId is new in every event and equals extendedRequestId; messageDirection is IN; eventType
    fits routeKey.
    """
    assert len({context["requestId"] for context in contexts}) == 3
    assert all(context["requestId"] == context["extendedRequestId"] for context in contexts)
    assert {context["messageDirection"] for context in contexts} == {"IN"}
    assert [context["eventType"] for context in contexts] == ["CONNECT", "MESSAGE", "DISCONNECT"]
    assert [context["routeKey"] for context in contexts] == ["$connect", "$default", "$disconnect"]


def test_EVT_07_the_request_time_is_written_twice(contexts):
    """EVT-07 (A): requestTime is `20/Jan/2024:11:55:00 +0000`, the same second as requestTimeEpoch."""
    for context in contexts:
        assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["requestTime"])
        moment = datetime.strptime(context["requestTime"], "%d/%b/%Y:%H:%M:%S %z")
        assert moment.timestamp() == context["requestTimeEpoch"] // 1000
        assert IMPORTED_AT_MS <= context["requestTimeEpoch"] <= time.time() * 1000


def test_EVT_08_connected_at_stays_the_same(contexts):
    """EVT-08 (B): connectedAt, in milliseconds, is the same in all events and not after requestTimeEpoch."""
    assert len({context["connectedAt"] for context in contexts}) == 1
    assert all(context["connectedAt"] <= context["requestTimeEpoch"] for context in contexts)


def test_EVT_09_only_messages_have_a_message_id(serve):
    """EVT-09 (A): a message has a messageId of its own; $connect and $disconnect have none."""
    probe = serve(RECORDING)
    client = probe.joins()
    client.sends("one")
    connected, one = probe.event(), probe.event()
    client.sends("two")
    two = probe.event()
    client.socket.close()
    disconnected = probe.event()
    ids = [event["requestContext"].get("messageId") for event in (connected, one, two, disconnected)]
    assert ids[0] is ids[3] is None
    assert len({*ids[1:3]}) == 2
    assert all(len(message_id) == 16 for message_id in ids[1:3])


def test_EVT_10_a_message_has_no_headers_and_no_query(three_events):
    """EVT-10 (B): a message's event has no headers and no query, whatever the handshake had."""
    _, said, _ = three_events
    assert set(said) == {"requestContext", "body", "isBase64Encoded"}


def test_EVT_11_the_headers_of_disconnect_are_always_the_same_four(serve):
    """EVT-11 (A): $disconnect's headers are Host, x-api-key, X-Forwarded-For and x-restapi, the last three empty."""
    probe = serve(RECORDING)
    client = probe.joins("?a=1")
    probe.event()
    client.socket.close()
    event = probe.event()
    host = "{}:{}".format(*probe.address)
    assert event["headers"] == {"Host": host, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
    assert event["multiValueHeaders"] == {name: [value] for name, value in event["headers"].items()}
    assert set(event) == {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"}


@pytest.mark.parametrize("text", ["a\r\n\tb ü 🔔", '{"spaced" :  1}'])
def test_EVT_13_the_body_is_the_text_as_it_was_sent(serve, text):
    """EVT-13 (B): body is the text as it was sent: line ends, tabs and non-ASCII included."""
    probe = serve(RECORDING)
    client = probe.joins()
    probe.event()
    client.sends(text)
    event = probe.event()
    assert event["body"] == text
    assert event["isBase64Encoded"] is False


def test_EVT_14_the_authorizers_context_is_in_every_event(serve):
    """EVT-14 (B): after a Lambda authorizer, every event has its principalId and context, all values as strings."""
    probe = serve(
        RECORDING
        + """
@app.lambda_function(name="authorize")
def authorize(event, context):
    return {
        "principalId": "u_1",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": event["methodArn"]}],
        },
        "context": {"n": 1, "half": 0.5, "admin": True, "name": "Ü"},
    }
""",
        additions=Additions(authorizer="authorize"),
    )
    client = probe.joins()
    client.sends("x")
    events = [probe.event(), probe.event()]
    client.socket.close()
    events.append(probe.event())
    said = {"principalId": "u_1", "n": "1", "half": "0.5", "admin": "true", "name": "Ü"}
    assert [event["requestContext"]["authorizer"] for event in events] == [said] * 3
