"""Raw events at the border: what API Gateway sends becomes a record, anything else a clear refusal."""

import pytest

from chalicelib.errors import Invalid
from chalicelib.protocol.events import parse_connect, parse_disconnect, parse_message
from tests.support import raw_events


def test_a_connect_event_names_the_connection_and_its_client() -> None:
    event = parse_connect(raw_events.connect("abc=", {"userId": "u_1"}))
    assert event.context.connection_id == "abc="
    assert event.context.connected_at_ms == raw_events.CONNECTED_AT_MS
    assert (event.context.source_ip, event.context.user_agent) == ("192.0.2.7", "tests/1")
    assert (event.context.api_id, event.context.stage) == ("a1b2c3d4e5", "api")
    assert event.query == {"userId": "u_1"}


def test_header_names_are_lower_case() -> None:
    assert parse_connect(raw_events.connect()).headers["x-forwarded-proto"] == "https"


def test_a_connect_without_query_or_headers_has_none() -> None:
    event = raw_events.connect()
    del event["headers"]
    assert parse_connect(event).query == {}
    assert parse_connect(event).headers == {}


def test_a_client_without_a_user_agent_has_none() -> None:
    event = raw_events.connect(identity={"sourceIp": "192.0.2.7"})
    assert parse_connect(event).context.user_agent is None


def test_a_message_carries_its_text_unchanged() -> None:
    assert parse_message(raw_events.message("hi\r\n\té")).body == "hi\r\n\té"


@pytest.mark.parametrize("body", [None, 7])
def test_a_message_without_text_is_an_empty_one(body: object) -> None:
    assert parse_message({**raw_events.message(""), "body": body}).body == ""


@pytest.mark.parametrize("connected_at", [None, "now", 0, -1, True])
def test_an_impossible_connection_time_is_ignored(connected_at: object) -> None:
    event = parse_connect(raw_events.connect(connectedAt=connected_at))
    assert event.context.connected_at_ms is None


@pytest.mark.parametrize("connection_id", [None, "", 7, "a#b", "x" * 129])
@pytest.mark.parametrize("parse", [parse_connect, parse_message, parse_disconnect])
def test_an_event_without_a_usable_connection_id_is_invalid(parse, connection_id: object) -> None:
    with pytest.raises(Invalid, match="^connectionId must be "):
        parse(raw_events.disconnect(connection_id))


@pytest.mark.parametrize("event", [{}, {"requestContext": None}, {"requestContext": []}])
def test_an_event_without_a_context_is_invalid(event: dict[str, object]) -> None:
    with pytest.raises(Invalid, match="^requestContext is missing from the event.$"):
        parse_disconnect(event)
