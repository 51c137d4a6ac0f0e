"""What a client may ask for: docs/PROTOCOL.md, "Actions" and "Errors", from raw event to frames."""

import json
import logging
from typing import Any

import boto3
import pytest

from chalicelib.delivery.delivery import Outcome
from chalicelib.errors import NotRegistered
from chalicelib.handlers import websocket
from chalicelib.handlers.actions import ACTIONS
from chalicelib.handlers.router import Request
from chalicelib.peal import Peal, build
from chalicelib.protocol.frame import MAX_FRAME_BYTES
from chalicelib.protocol.grants import Grants, Rights
from chalicelib.settings import Settings
from tests.conftest import Clock
from tests.support import raw_events
from tests.support.clients import Client
from tests.support.fakes import FakeWebsocketApi, gone, refused
from tests.support.signing import NEW, token
from tests.support.signing import NOW as SOON
from tests.support.signing import OLD as OTHER

NOW = "2026-11-23T09:30:10.000Z"


@pytest.fixture
def alice(peal: Peal, api: FakeWebsocketApi) -> Client:
    return Client(peal, api, "alice=", userId="u_123", deviceId="phone", attributes='{"room":"a"}')


@pytest.fixture
def bob(peal: Peal, api: FakeWebsocketApi) -> Client:
    return Client(peal, api, "bob=", userId="u_456")


@pytest.fixture
def bobs_tablet(peal: Peal, api: FakeWebsocketApi) -> Client:
    return Client(peal, api, "bobs-tablet=", userId="u_456")


@pytest.fixture
def stranger(peal: Peal, api: FakeWebsocketApi) -> Client:
    return Client(peal, api, "stranger=")


def event_of(client: Client, frame: dict[str, Any]) -> dict[str, Any]:
    return raw_events.message(json.dumps(frame), client.id)


def reply(frame_id: object, **data: Any) -> dict[str, Any]:
    return {"type": "reply", "id": frame_id, "data": data}


class TestPing:
    def test_a_ping_with_an_id_gets_a_reply(self, alice: Client) -> None:
        alice.sends({"action": "ping", "id": 1})
        alice.receives(reply(1))

    def test_a_ping_without_an_id_gets_no_reply(self, alice: Client) -> None:
        alice.sends({"action": "ping"})
        alice.receives_nothing()


class TestWhoami:
    def test_it_is_what_the_registry_knows(self, alice: Client) -> None:
        alice.sends({"action": "whoami", "id": "me"})
        alice.receives(
            reply(
                "me",
                connectionId="alice=",
                userId="u_123",
                deviceId="phone",
                connectedAt="2026-11-23T09:30:00.125Z",
                expiresAt=None,
                attributes={"room": "a"},
                channels=[],
            )
        )

    def test_an_anonymous_client_is_a_connection_without_a_user(self, stranger: Client) -> None:
        stranger.sends({"action": "whoami", "id": 1})
        (frame,) = stranger.api.frames("stranger=")
        assert frame["data"]["userId"] is None
        assert frame["data"]["connectionId"] == "stranger="


class TestAuthenticate:
    @pytest.fixture
    def peal(self, table_name: str, api: FakeWebsocketApi, session: boto3.session.Session, clock: Clock) -> Peal:
        """A service whose clients may sign in after they have connected."""
        settings = Settings(table_name, jwt_secrets=NEW, allow_late_authentication=True)
        return build(settings, api, session, clock)

    def test_it_signs_in_a_connection_without_a_credential(self, stranger: Client, peal: Peal, clock: Clock) -> None:
        clock.now += 9
        stranger.sends({"action": "authenticate", "id": 1, "token": token(sub="u_456", deviceId="phone")})
        stranger.receives(reply(1, userId="u_456", expiresAt=SOON + 3_600))
        stranger.sends({"action": "ping", "id": 2})
        stranger.receives(reply(2))
        connection = peal.connection(stranger.id)
        assert (connection.user_id, connection.device_id, connection.ttl) == ("u_456", "phone", SOON + 3_600)
        assert peal.send_to_user("u_456", "hi").sent == 1

    @pytest.mark.parametrize("frame", [{"action": "ping"}, {"action": "whoami"}, {"action": "dance"}])
    def test_before_it_every_other_frame_is_refused(self, stranger: Client, frame: dict[str, Any]) -> None:
        stranger.sends(frame | {"id": 1})
        stranger.gets_error("unauthenticated", "Not signed in.", 1)

    def test_before_it_nothing_is_sent_to_the_connection(self, stranger: Client, peal: Peal) -> None:
        assert peal.broadcast("hi").sent == 0
        assert peal.send_to_connection(stranger.id, "hi") == Outcome(gone=1)
        stranger.receives_nothing()

    def test_a_bad_token_changes_nothing_and_a_good_one_may_follow(self, stranger: Client) -> None:
        stranger.sends({"action": "authenticate", "id": 1, "token": token(OTHER)})
        stranger.gets_error("unauthenticated", "Not signed in.", 1)
        stranger.sends({"action": "authenticate", "id": 2})
        stranger.gets_error("invalid", "token must be a string that is not empty.", 2)
        stranger.sends({"action": "authenticate", "id": 3, "token": token()})
        stranger.receives(reply(3, userId="u_123", expiresAt=SOON + 3_600))

    @pytest.mark.parametrize("frame", ['{"action":"authenticate","id":1,"token":"x"}', "nonsense"])
    def test_after_ten_seconds_it_is_too_late(self, stranger: Client, clock: Clock, frame: str) -> None:
        clock.now += 10
        stranger.sends(frame)
        stranger.gets_error("unauthenticated", "Not signed in.", 1 if "id" in frame else None, then_closed=True)

    def test_it_extends_a_connection(self, peal: Peal, api: FakeWebsocketApi, clock: Clock) -> None:
        alice = Client(peal, api, "alice=", token=token(exp=SOON + 60, users=["u_1"]))
        clock.now += 59
        alice.sends({"action": "authenticate", "id": 1, "token": token(exp=SOON + 120, users=["u_2"])})
        alice.receives(reply(1, userId="u_123", expiresAt=SOON + 120))
        clock.now += 60
        alice.sends({"action": "whoami", "id": 2})
        assert api.frames("alice=")[0]["data"]["expiresAt"] == SOON + 120
        assert peal.connection("alice=").grants == Grants(Rights(users=frozenset({"u_2"})))

    def test_it_never_changes_the_user(self, peal: Peal, api: FakeWebsocketApi) -> None:
        alice = Client(peal, api, "alice=", token=token())
        alice.sends({"action": "authenticate", "id": 1, "token": token(sub="u_456")})
        alice.gets_error("forbidden", "This is not allowed.", 1)
        assert peal.connection("alice=").user_id == "u_123"

    def test_a_connection_closed_meanwhile_is_not_registered_again(self, peal: Peal, api: FakeWebsocketApi) -> None:
        Client(peal, api, "alice=", token=token())
        connection = peal.arrivals.admit("alice=")
        peal.departures.forget("alice=")
        with pytest.raises(NotRegistered):
            peal.authenticate(connection, token())
        assert peal.broadcast().sent == 0


class TestExpiry:
    @pytest.fixture
    def ann(self, peal: Peal, api: FakeWebsocketApi) -> Client:
        return Client(peal, api, "ann=", token=token(exp=SOON + 60, users=["*"], broadcast=True))

    def test_an_expired_connection_is_sent_nothing(self, ann: Client, peal: Peal, clock: Clock) -> None:
        clock.now += 59
        assert peal.send_to_user("u_123", "hi").sent == 1
        clock.now += 1
        assert peal.send_to_user("u_123", "hi") == Outcome()
        assert peal.send_to_connection("ann=", "hi") == Outcome(gone=1)
        assert peal.broadcast().sent == 0

    @pytest.mark.parametrize("action", ["ping", "broadcastAll", "authenticate", "dance"])
    def test_a_frame_of_it_is_refused_and_the_connection_closed(
        self, ann: Client, bob: Client, clock: Clock, dynamodb: Any, table_name: str, action: str
    ) -> None:
        clock.now += 60
        ann.sends({"action": action, "id": 1, "token": token()})
        ann.gets_error("unauthenticated", "Not signed in.", 1, then_closed=True)
        bob.receives_nothing()
        assert "CONN#ann=" not in str(dynamodb.scan(TableName=table_name)["Items"])

    def test_a_connection_that_is_already_closed_is_not_closed_again(
        self, ann: Client, clock: Clock, api: FakeWebsocketApi
    ) -> None:
        clock.now += 60
        api.fails = {"ann=": [gone(), gone(), gone()]}
        ann.sends({"action": "ping"})
        ann.receives_nothing()
        assert api.closed == []

    def test_the_row_lives_no_longer_than_a_socket_can(self, peal: Peal, api: FakeWebsocketApi) -> None:
        Client(peal, api, "late=", token=token(exp=SOON + 100_000))
        connection = peal.connection("late=")
        assert (connection.expires_at, connection.ttl) == (SOON + 100_000, 1_795_426_200 + 7_800)


class TestSendMessage:
    def test_it_reaches_all_connections_of_the_user_and_nobody_else(
        self, alice: Client, bob: Client, bobs_tablet: Client, stranger: Client
    ) -> None:
        alice.sends('{"action":"sendMessage","targetUserId":"u_456","text":"hi"}')
        message = {
            "type": "message",
            "from": {"userId": "u_123", "connectionId": "alice="},
            "text": "hi",
            "data": None,
            "time": NOW,
        }
        bob.receives(message)
        bobs_tablet.receives(message)
        alice.receives_nothing()
        stranger.receives_nothing()

    def test_with_an_id_the_sender_gets_the_counts(self, alice: Client, bob: Client, bobs_tablet: Client) -> None:
        alice.sends({"action": "sendMessage", "id": 2, "targetUserId": "u_456", "text": "hi"})
        alice.receives(reply(2, sent=2, gone=0, failed=0))

    def test_it_can_address_one_connection(self, alice: Client, bob: Client, bobs_tablet: Client) -> None:
        alice.sends({"action": "sendMessage", "id": 3, "targetConnectionId": "bob=", "data": {"x": [1, None]}})
        (frame,) = bob.api.frames("bob=")
        assert (frame["text"], frame["data"]) == (None, {"x": [1, None]})
        bobs_tablet.receives_nothing()
        alice.receives(reply(3, sent=1, gone=0, failed=0))

    def test_a_user_without_connections_has_no_receivers(self, alice: Client) -> None:
        alice.sends({"action": "sendMessage", "id": 4, "targetUserId": "nobody", "text": "hi"})
        alice.receives(reply(4, sent=0, gone=0, failed=0))

    def test_an_unknown_connection_is_gone(self, alice: Client) -> None:
        alice.sends({"action": "sendMessage", "id": 5, "targetConnectionId": "nobody=", "text": "hi"})
        alice.receives(reply(5, sent=0, gone=1, failed=0))

    def test_bad_receivers_are_counted_and_the_gone_forgotten(
        self, alice: Client, bob: Client, bobs_tablet: Client, peal: Peal, api: FakeWebsocketApi
    ) -> None:
        Client(peal, api, "bobs-tv=", userId="u_456")
        api.fails = {"bob=": [gone(), gone()], "bobs-tablet=": [refused("LimitExceededException")]}
        alice.sends({"action": "sendMessage", "id": 6, "targetUserId": "u_456", "text": "hi"})
        alice.receives(reply(6, sent=1, gone=1, failed=1))
        alice.sends({"action": "sendMessage", "id": 7, "targetUserId": "u_456", "text": "still there?"})
        alice.receives(reply(7, sent=2, gone=0, failed=0))

    def test_the_sender_must_be_registered(self, alice: Client, bob: Client, peal: Peal) -> None:
        peal.departures.forget("alice=")
        alice.sends({"action": "sendMessage", "id": 8, "targetUserId": "u_456", "text": "hi"})
        alice.gets_error("unauthenticated", "Not signed in.", 8, then_closed=True)
        bob.receives_nothing()

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"text": "hi"}, "targetUserId or targetConnectionId must be given, and not both."),
            (
                {"targetUserId": "u_456", "targetConnectionId": "bob=", "text": "hi"},
                "targetUserId or targetConnectionId must be given, and not both.",
            ),
            ({"targetUserId": "u_456"}, "text or data must be given."),
            ({"targetUserId": "u_456", "text": 7}, "text must be a string."),
            ({"targetUserId": 456, "text": "hi"}, "targetUserId must be a string."),
            (
                {"targetUserId": "USER#u_456", "text": "hi"},
                "targetUserId must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -.",
            ),
            (
                {"targetConnectionId": "", "text": "hi"},
                "targetConnectionId must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -.",
            ),
        ],
    )
    def test_a_wrong_field_is_named_and_nothing_is_sent(
        self, alice: Client, bob: Client, fields: dict[str, Any], message: str
    ) -> None:
        alice.sends({"action": "sendMessage", "id": 9, **fields})
        alice.gets_error("invalid", message, 9)
        bob.receives_nothing()


class TestBroadcastAll:
    def test_it_reaches_everyone_including_sender_and_anonymous_clients(
        self, alice: Client, bob: Client, stranger: Client
    ) -> None:
        alice.sends('{"action":"broadcastAll"}')
        for client in (alice, bob, stranger):
            client.receives({"type": "broadcast", "time": NOW, "note": None, "data": None})

    def test_with_an_id_the_sender_gets_the_counts(self, alice: Client, bob: Client) -> None:
        alice.sends({"action": "broadcastAll", "id": 1, "note": "hello", "data": {"x": 1}})
        broadcast = {"type": "broadcast", "time": NOW, "note": "hello", "data": {"x": 1}}
        alice.receives(broadcast, reply(1, sent=2, gone=0, failed=0))
        bob.receives(broadcast)

    def test_a_note_is_a_string(self, alice: Client, bob: Client) -> None:
        alice.sends({"action": "broadcastAll", "note": 7})
        alice.gets_error("invalid", "note must be a string.")
        bob.receives_nothing()

    def test_the_time_has_milliseconds(self, alice: Client, clock: Clock) -> None:
        clock.now += 0.25
        alice.sends({"action": "broadcastAll"})
        assert alice.api.frames("alice=")[0]["time"] == "2026-11-23T09:30:10.250Z"


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "code", "message"),
        [
            ("hi", "bad_frame", "A frame is a JSON object: this is not JSON."),
            ("", "bad_frame", "A frame is a JSON object: this is not JSON."),
            ("[1]", "bad_frame", "A frame is a JSON object: this is JSON, but no object."),
            ("{}", "invalid", "action must be a string that is not empty."),
            ('{"action":7}', "invalid", "action must be a string that is not empty."),
            ('{"action":"dance"}', "unknown_action", "There is no action 'dance'."),
            ('{"action":"__class__"}', "unknown_action", "There is no action '__class__'."),
            (
                '{"action":"ping","id":[]}',
                "invalid",
                "id must be a string of at most 128 characters or a safe integer.",
            ),
            ("x" * (MAX_FRAME_BYTES + 1), "too_large", "32001 bytes are more than the 32000 a frame may have."),
        ],
    )
    def test_a_bad_frame_gets_an_error_frame_and_nothing_else_happens(
        self, alice: Client, bob: Client, text: str, code: str, message: str
    ) -> None:
        alice.sends(text)
        alice.gets_error(code, message)
        bob.receives_nothing()
        alice.sends({"action": "ping", "id": "still here"})
        alice.receives(reply("still here"))

    def test_an_error_has_the_id_if_it_could_be_read(self, alice: Client) -> None:
        alice.sends({"action": "dance", "id": "d"})
        alice.gets_error("unknown_action", "There is no action 'dance'.", "d")

    def test_a_long_name_is_not_echoed_in_full(self, alice: Client) -> None:
        alice.sends({"action": "x" * 9_000})
        alice.gets_error("unknown_action", f"There is no action {'x' * 64!r}.")

    def test_a_failure_on_our_side_is_logged_and_not_revealed(
        self, alice: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(request: Request) -> dict[str, Any]:
            raise RuntimeError("arn:aws:dynamodb:secret")

        websocket.message(alice.peal, event_of(alice, {"action": "broken", "id": 1}), {"broken": broken})
        alice.gets_error("internal_error", "Something went wrong on our side.", 1, retryable=True)
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.getMessage() == "invocation failed"

    def test_no_log_line_has_a_payload(self, alice: Client, bob: Client, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, logger="chalicelib")
        alice.sends({"action": "sendMessage", "targetUserId": "u_456", "text": "s3cret", "data": "s3cret"})
        alice.sends({"action": "s3cret"})
        alice.sends("s3cret")
        assert "s3cret" not in caplog.text


class TestTheTableOfActions:
    @pytest.mark.any_frames
    def test_adding_an_action_takes_one_function_and_one_row(self, alice: Client) -> None:
        def shout(request: Request) -> dict[str, Any]:
            return {"text": request.frame.string("text").upper()}

        websocket.message(
            alice.peal, event_of(alice, {"action": "shout", "id": 1, "text": "hi"}), {**ACTIONS, "shout": shout}
        )
        alice.receives(reply(1, text="HI"))
