"""The REST routes: docs/REST.md."""

from typing import Any

import pytest

from chalicelib.handlers import rest, websocket
from chalicelib.peal import Peal, build
from chalicelib.settings import Settings
from tests.support import raw_events
from tests.support.fakes import FakeWebsocketApi, gone, refused

ID = "L0SM9cOFvHcCIhw="
PATH_ID = "L0SM9cOFvHcCIhw%3D"
NOT_FOUND = {"code": "not_found", "message": "There is no such connection.", "retryable": False}
OUR_FAULT = {"code": "internal_error", "message": "Something went wrong on our side.", "retryable": True}


@pytest.fixture
def connected(peal: Peal) -> Peal:
    websocket.connect(peal, raw_events.connect(ID, {"userId": "u_456", "attributes": '{"room":"a"}'}))
    return peal


class TestSending:
    @pytest.mark.parametrize("connection_id", [ID, PATH_ID])
    def test_to_a_connection(self, connected: Peal, api: FakeWebsocketApi, connection_id: str) -> None:
        answer = rest.answer(rest.post_to_connection, connected, connection_id, b'{"text":"hi","data":[1]}')
        assert answer == (200, {"sent": 1, "gone": 0, "failed": 0})
        assert api.frames(ID) == [
            {"type": "message", "from": None, "text": "hi", "data": [1], "time": "2026-11-23T09:30:10.000Z"}
        ]

    def test_to_a_user(self, connected: Peal, api: FakeWebsocketApi) -> None:
        answer = rest.answer(rest.post_to_user, connected, "u_456", b'{"text":"hi"}')
        assert answer == (200, {"sent": 1, "gone": 0, "failed": 0})
        assert api.frames(ID)[0]["text"] == "hi"

    def test_to_a_user_without_connections(self, connected: Peal) -> None:
        assert rest.answer(rest.post_to_user, connected, "nobody", b'{"text":"hi"}') == (
            200,
            {"sent": 0, "gone": 0, "failed": 0},
        )

    @pytest.mark.parametrize(("body", "note"), [(b"", None), (b"{}", None), (b'{"note":"hello"}', "hello")])
    def test_to_everyone(self, connected: Peal, api: FakeWebsocketApi, body: bytes, note: str | None) -> None:
        assert rest.answer(rest.post_broadcast, connected, body) == (200, {"sent": 1, "gone": 0, "failed": 0})
        assert api.frames(ID)[0]["note"] == note

    def test_to_a_connection_that_is_not_registered(self, connected: Peal) -> None:
        assert rest.answer(rest.post_to_connection, connected, "nobody=", b'{"text":"hi"}') == (
            404,
            {"error": NOT_FOUND},
        )

    def test_to_a_registered_connection_that_is_gone(self, connected: Peal, api: FakeWebsocketApi) -> None:
        api.fails = {ID: [gone(), gone()]}
        assert rest.answer(rest.post_to_connection, connected, ID, b'{"text":"hi"}') == (404, {"error": NOT_FOUND})

    def test_to_a_connection_that_cannot_be_reached(self, connected: Peal, api: FakeWebsocketApi) -> None:
        api.fails = {ID: [refused("LimitExceededException")]}
        assert rest.answer(rest.post_to_connection, connected, ID, b'{"text":"hi"}') == (
            200,
            {"sent": 0, "gone": 0, "failed": 1},
        )


class TestOneConnection:
    def test_it_is_what_the_registry_knows(self, connected: Peal) -> None:
        assert rest.answer(rest.get_connection, connected, PATH_ID) == (
            200,
            {
                "connectionId": ID,
                "connectedAt": "2026-11-23T09:30:00.125Z",
                "ttl": 1_795_434_000,
                "endpoint": "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api",
                "userId": "u_456",
                "deviceId": None,
                "sourceIp": "192.0.2.7",
                "userAgent": "tests/1",
                "attributes": {"room": "a"},
                "channels": [],
                "expiresAt": None,
                "grants": None,
                "isSignedIn": True,
                "codec": "peal",
            },
        )

    @pytest.mark.parametrize(("door", "query"), [(rest.get_connection, []), (rest.delete_connection, [{}])])
    def test_an_unknown_connection_is_not_found(self, connected: Peal, door: Any, query: list[Any]) -> None:
        assert rest.answer(door, connected, "nobody=", *query) == (404, {"error": NOT_FOUND})

    def test_deleting_closes_and_forgets_it(self, connected: Peal, api: FakeWebsocketApi) -> None:
        assert rest.answer(rest.delete_connection, connected, PATH_ID, {}) == (204, None)
        assert api.frames(ID) == [{"type": "goodbye", "code": "closed", "reason": None}]
        assert api.closed == [ID]
        assert rest.answer(rest.get_connection, connected, ID)[0] == 404

    def test_deleting_one_that_is_already_gone_forgets_it(self, connected: Peal, api: FakeWebsocketApi) -> None:
        api.fails = {ID: [gone()]}
        assert rest.answer(rest.delete_connection, connected, ID, {}) == (204, None)
        assert rest.answer(rest.get_connection, connected, ID)[0] == 404

    def test_one_that_cannot_be_closed_stays_registered(self, connected: Peal, api: FakeWebsocketApi) -> None:
        api.fails = {ID: [refused("LimitExceededException"), refused("LimitExceededException")]}
        assert rest.answer(rest.delete_connection, connected, ID, {}) == (500, {"error": OUR_FAULT})
        assert rest.answer(rest.get_connection, connected, ID)[0] == 200


class TestTickets:
    def test_a_ticket_connects_one_client_once(self, peal: Peal) -> None:
        body = b'{"userId":"u_456","deviceId":"phone","expiresAt":1795430000,"channels":{"chat:*":["subscribe"]}}'
        status, answer = rest.answer(rest.post_ticket, peal, body)
        assert status == 201
        assert answer
        assert answer.keys() == {"ticket", "expiresAt"}
        assert answer["expiresAt"] == 1_795_426_210 + 60
        handshake = raw_events.connect(ID, {"ticket": answer["ticket"]})
        assert websocket.connect(peal, handshake) == {"statusCode": 200}
        _, view = rest.answer(rest.get_connection, peal, ID)
        assert view
        assert (view["userId"], view["deviceId"], view["expiresAt"]) == ("u_456", "phone", 1_795_430_000)
        assert view["grants"] == {"channels": {"chat:*": ["subscribe"]}}
        assert websocket.connect(peal, raw_events.connect("b=", {"ticket": answer["ticket"]})) == {"statusCode": 401}


class TestErrors:
    @pytest.mark.parametrize(
        ("door", "arguments", "message"),
        [
            (rest.post_to_user, ("u_456", b""), "A frame is a JSON object: this is not JSON."),
            (rest.post_to_user, ("u_456", b"\xff"), "A frame is a JSON object: this is not JSON."),
            (rest.post_to_user, ("u_456", b"[]"), "A frame is a JSON object: this is JSON, but no object."),
            (rest.post_to_user, ("u_456", b"{}"), "text or data must be given."),
            (rest.post_to_user, ("u_456", b'{"text":1}'), "text must be a string."),
            (rest.post_broadcast, (b'{"note":1}',), "note must be a string."),
            (
                rest.post_to_user,
                ("a%23b", b'{"text":"hi"}'),
                "userId must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -.",
            ),
            (rest.post_ticket, (b"",), "A frame is a JSON object: this is not JSON."),
            (rest.post_ticket, (b"{}",), "userId must be a string."),
            (rest.post_ticket, (b'{"userId":"u_1","users":7}',), "users must be an array of patterns."),
            (
                rest.get_connection,
                ("a%2Fb",),
                "connectionId must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -.",
            ),
            (
                rest.post_broadcast,
                (b" " * 32_001,),
                "32001 bytes are more than the 32000 a frame may have.",
            ),
        ],
    )
    def test_the_callers_fault_is_400_with_a_message(
        self, connected: Peal, api: FakeWebsocketApi, door: Any, arguments: tuple[Any, ...], message: str
    ) -> None:
        status, body = rest.answer(door, connected, *arguments)
        assert status == 400
        assert body
        assert body["error"]["message"] == message
        assert api.frames(ID) == []

    def test_our_fault_is_500_without_a_detail(self, api: FakeWebsocketApi, session: Any) -> None:
        broken = build(Settings("no-such-table", allow_anonymous=True), api, session)
        assert rest.answer(rest.post_to_user, broken, "u_456", b'{"text":"hi"}') == (500, {"error": OUR_FAULT})
