"""The builders of events for handlers that are called without a gateway."""

import time

import pytest

from gatewaykit import RECORDING, write_project
from localgateway.contract import events
from localgateway.testing import Gateway, connect_event, disconnect_event, message_event


@pytest.fixture
def gateway(tmp_path):
    with Gateway(write_project(tmp_path / "project", RECORDING)) as gateway:
        yield gateway


def test_they_have_the_keys_of_the_gateways_own_events(gateway):
    alice = gateway.connect(query={"a": "1"}, headers={"User-Agent": "tests/1"}, compression=None)
    real = gateway.app.events.get()
    made = connect_event(alice.connection_id, {"a": "1"}, stage="api")
    for event in (real, made):
        event["headers"].pop("Sec-WebSocket-Extensions", None)
    assert set(made) == set(real)
    assert set(made["requestContext"]) == set(real["requestContext"])
    assert set(map(str.lower, made["headers"])) == set(map(str.lower, real["headers"])) - {"accept-encoding"}
    alice.closes(1001)
    real, made = gateway.app.events.get(timeout=10), disconnect_event(alice.connection_id, code=1001)
    assert set(made) == set(real)
    assert set(made["requestContext"]) == set(real["requestContext"])
    assert made["requestContext"]["disconnectReason"] == real["requestContext"]["disconnectReason"]


def test_their_time_is_now_by_default():
    before_ms = int(time.time() * 1000)
    connected_at_ms = connect_event()["requestContext"]["connectedAt"]
    assert before_ms <= connected_at_ms <= time.time() * 1000
    context = message_event("x", connected_at_ms=1_000, now_ms=2_000)["requestContext"]
    assert (context["connectedAt"], context["requestTimeEpoch"]) == (1_000, 2_000)


def test_what_they_say_of_the_connection_can_be_chosen():
    event = connect_event("abc=", {"t": ["a", "b"]}, {"Cookie": "c"}, source_ip="::1", user_agent=None, stage="dev")
    context = event["requestContext"]
    assert (context["connectionId"], context["stage"], context["identity"]) == ("abc=", "dev", {"sourceIp": "::1"})
    assert event["multiValueQueryStringParameters"] == {"t": ["a", "b"]}
    assert (event["headers"]["Cookie"], event["headers"]["X-Forwarded-For"]) == ("c", "::1")
    assert "User-Agent" not in event["headers"]


def test_a_body_that_is_no_text_is_written_as_json():
    assert message_event({"a": 1}, route_key="join")["body"] == '{"a": 1}'
    assert message_event("{a")["body"] == "{a"


def test_ids_are_new_each_time_and_the_requests_is_in_two_places():
    first, second = (message_event("x")["requestContext"] for _ in range(2))
    assert first["requestId"] == first["extendedRequestId"] != second["requestId"]
    assert len(first["messageId"]) == len(events.to_id(bytes(events.ID_BYTES)))


def test_a_close_without_a_code_says_so():
    context = disconnect_event()["requestContext"]
    assert (context["disconnectStatusCode"], context["disconnectReason"]) == (
        1005,
        "Client-side close frame status not set",
    )
