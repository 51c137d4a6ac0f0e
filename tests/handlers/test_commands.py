"""Connections and frames of Centrifugo's protocol: docs/PROTOCOL.md, "Official SDKs", from raw event to frames."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from chalicelib.channels.subscribe import Subscriptions
from chalicelib.delivery.delivery import Delivery, Outcome
from chalicelib.errors import TableError
from chalicelib.handlers import commands
from chalicelib.limits import LIMITS
from chalicelib.peal import Peal
from chalicelib.peal import build as build_peal
from chalicelib.protocol import centrifuge
from chalicelib.settings import RateLimit, Settings
from chalicelib.store.registry import Registry
from tests.conftest import Clock
from tests.support.clients import Client, Sdk
from tests.support.fakes import FakeJobs, FakeWebsocketApi
from tests.support.signing import NEW, NOW, token

ROOM = "chat:lobby"
Build = Callable[..., Peal]


@pytest.fixture
def build(
    table_name: str, api: FakeWebsocketApi, session: boto3.session.Session, clock: Clock, jobs: FakeJobs
) -> Build:
    """Build Peal with other settings."""

    def build(**settings: Any) -> Peal:
        return build_peal(Settings(table_name, jwt_secrets=NEW, **settings), api, session, clock, jobs=jobs)

    return build


@pytest.fixture
def alice(peal: Peal, api: FakeWebsocketApi) -> Sdk:
    return Sdk(peal, api, "alice=", userId="alice", attributes='{"room":"a"}')


@pytest.fixture
def bob(peal: Peal, api: FakeWebsocketApi) -> Client:
    """A client of action frames."""
    return Client(peal, api, "bob=", userId="bob")


def goodbye(code: int, reason: str) -> dict[str, Any]:
    return {"disconnect": {"code": code, "reason": reason}}


class TestConnecting:
    def test_connect_switches_the_connection_to_this_protocol(self, alice: Sdk, peal: Peal) -> None:
        assert alice.connected == {"client": "alice=", "version": "peal"}
        assert peal.connection("alice=").codec == "centrifuge"

    def test_a_second_connect_changes_nothing(self, alice: Sdk, dynamodb_calls: list[str]) -> None:
        assert alice.calls("connect") == alice.connected
        assert dynamodb_calls == ["GetItem"]

    def test_a_token_signs_in_an_anonymous_connection(self, peal: Peal, api: FakeWebsocketApi) -> None:
        anyone = Sdk(peal, api, "c=", connect={"token": token(exp=NOW + 3_600)})
        assert anyone.connected == {"client": "c=", "version": "peal", "expires": True, "ttl": 3_570}
        me = peal.connection("c=")
        assert (me.user_id, me.codec) == ("u_123", "centrifuge")
        assert [connection.connection_id for connection in peal.connections_of("u_123")] == ["c="]

    def test_a_token_of_another_user_is_refused(self, peal: Peal, api: FakeWebsocketApi) -> None:
        assert Sdk(peal, api, "c=", userId="bob", connect={"token": token()}).connected["code"] == 103

    @pytest.mark.parametrize(
        ("credential", "code"), [({}, 101), ({"token": "not.a.token"}, 101), ({"token": token(exp=NOW - 1)}, 109)]
    )
    def test_a_client_without_a_valid_token_is_not_admitted(
        self, build: Build, api: FakeWebsocketApi, credential: dict[str, str], code: int
    ) -> None:
        strict = build(allow_late_authentication=True)
        client = Sdk(strict, api, "c=", connect=credential)
        assert client.connected["code"] == code
        assert client.calls("subscribe", channel=ROOM)["code"] == 101
        assert strict.connection("c=").codec == "peal"

    def test_a_late_token_is_enough(self, build: Build, api: FakeWebsocketApi) -> None:
        strict = build(allow_late_authentication=True)
        Sdk(strict, api, "c=", connect={"token": token()})
        assert strict.send_to_user("u_123", "hi") == Outcome(sent=1)

    def test_commands_before_connect_are_refused_and_the_socket_stays_open(self, bob: Client) -> None:
        bob.sends('{"id":1,"publish":{"channel":"chat:lobby","data":1}}')
        bob.receives({"id": 1, "error": {"code": 101, "message": "Not signed in."}})
        bob.sends({"action": "ping", "id": 2})
        bob.receives({"type": "reply", "id": 2, "data": {}})

    def test_a_connection_forgotten_meanwhile_is_closed(
        self, peal: Peal, api: FakeWebsocketApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = Client(peal, api, "c=")
        monkeypatch.setattr(Registry, "speak", lambda *_: None)
        client.sends('{"id":1,"connect":{}}')
        client.receives({"push": goodbye(3005, "Not signed in any more: connect again.")})
        assert api.closed == ["c="]

    def test_a_refresh_extends_the_connection(self, peal: Peal, api: FakeWebsocketApi, clock: Clock) -> None:
        client = Sdk(peal, api, "c=", connect={"token": token(exp=NOW + 60)})
        assert client.calls("refresh", token=token(exp=NOW + 3_600)) == {"expires": True, "ttl": 3_570}
        clock.now += 120
        assert client.calls("ping") == {}
        assert peal.connection("c=").codec == "centrifuge"
        assert client.calls("refresh", token=token(exp=NOW))["code"] == 109


class TestConnectingWithSubscriptions:
    def test_the_client_is_a_member_and_knows_its_position(self, peal: Peal, api: FakeWebsocketApi) -> None:
        epoch = peal.publish(ROOM, 1).epoch
        client = Sdk(peal, api, "c=", userId="carol", connect={"subs": {ROOM: {}, "live:map": {}, "nowhere:1": {}}})
        joined = {"recoverable": True, "positioned": True, "epoch": epoch, "offset": 1}
        assert client.connected["subs"] == {ROOM: joined, "live:map": {}}
        peal.publish(ROOM, 2)
        peal.publish("live:map", 3)
        assert [push["pub"]["data"] for push in client.receives_pushes()] == [2, 3]

    def test_what_was_missed_follows_in_the_reply_and_in_pushes(self, peal: Peal, api: FakeWebsocketApi) -> None:
        peal.recovery.limits = LIMITS._replace(part_bytes=0)
        *_, epoch = (peal.publish(ROOM, n).epoch for n in range(4))
        subs = {ROOM: {"recover": True, "epoch": epoch, "offset": 1}, "feed:x": {"recover": True, "epoch": "over"}}
        client = Sdk(peal, api, "c=", userId="carol", connect={"subs": subs})
        result = client.connected["subs"][ROOM]
        assert (result["recovered"], result["offset"]) == (True, 1)
        assert [each["data"] for each in result["publications"]] == [1]
        assert [push["pub"]["data"] for push in client.receives_pushes()] == [2, 3]
        assert "recovered" not in client.connected["subs"]["feed:x"]

    def test_publications_during_connect_are_not_missed(
        self, peal: Peal, api: FakeWebsocketApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reply = Delivery.reply

        def publish_meanwhile(*arguments: Any) -> Any:
            monkeypatch.setattr(Delivery, "reply", reply)
            outcome = reply(*arguments)
            peal.publish(ROOM, "meanwhile")
            return outcome

        monkeypatch.setattr(Delivery, "reply", publish_meanwhile)
        client = Sdk(peal, api, "c=", connect={"subs": {ROOM: {}}})
        assert [push["pub"]["data"] for push in client.receives_pushes()] == ["meanwhile"]

    def test_a_failed_subscription_asks_the_client_to_reconnect(
        self, peal: Peal, api: FakeWebsocketApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise TableError("UpdateItem", "InternalServerError")

        monkeypatch.setattr(Subscriptions, "subscribe", broken)
        client = Sdk(peal, api, "c=", connect={"subs": {ROOM: {}}})
        assert client.receives_pushes() == [goodbye(3010, "insufficient state")]
        assert api.closed == ["c="]

    def test_subs_must_be_an_object(self, peal: Peal, api: FakeWebsocketApi) -> None:
        assert Sdk(peal, api, "c=", connect={"subs": [ROOM]}).connected["code"] == 107
        assert Sdk(peal, api, "d=", connect={"subs": {ROOM: None}}).connected["subs"].keys() == {ROOM}


class TestFrames:
    def test_several_commands_are_answered_in_one_frame(self, alice: Sdk, api: FakeWebsocketApi) -> None:
        alice.sends_commands(("ping", {}), ("rpc", {"method": "dance"}), ("history", {"channel": ROOM}))
        ((_, text),) = api.inbox
        first, second, third = map(json.loads, text.split("\n"))
        assert first == {"id": 2, "ping": {}}
        assert second == {"id": 3, "error": {"code": 104, "message": "There is no action 'dance'."}}
        assert third["history"]["publications"] == []

    @pytest.mark.slow
    def test_one_frame_may_hold_all_subscribes_of_a_client(self, alice: Sdk, api: FakeWebsocketApi) -> None:
        ids = alice.sends_commands(*(("subscribe", {"channel": f"chat:{n}"}) for n in range(20)))
        answers = api.frames(alice.id)
        assert sorted(answer["id"] for answer in answers) == ids
        assert all("subscribe" in answer for answer in answers)

    def test_commands_after_a_connect_run_as_its_user(self, peal: Peal, api: FakeWebsocketApi) -> None:
        client = Client(peal, api, "c=")
        lines = [{"id": 1, "connect": {"token": token()}}, {"id": 2, "rpc": {"method": "whoami"}}]
        client.sends("\n".join(map(json.dumps, lines)))
        _, answer = api.frames("c=")
        assert answer["rpc"]["data"]["userId"] == "u_123"

    def test_the_reply_to_connect_is_sent_first(self, peal: Peal, api: FakeWebsocketApi) -> None:
        peal.publish(ROOM, 1)
        client = Client(peal, api, "c=", userId="carol")
        recover = {"recover": True, "epoch": peal.history(ROOM).epoch, "offset": 0}
        lines = [
            {"id": 1, "connect": {}},
            {"id": 2, "ping": {}},
            {"id": 3, "subscribe": {"channel": ROOM, **recover}},
            {"id": 4, "subscribe": {"channel": "feed:news"}},
            {"id": 5, "rpc": {"method": "ping"}},
        ]
        client.sends("\n".join(map(json.dumps, lines)))
        answers = api.frames("c=")
        ids = [answer["id"] for answer in answers]
        assert not any("error" in answer for answer in answers)
        assert ids[:2] == [1, 2]
        assert sorted(ids[2:4]) == [3, 4]
        assert ids[4:] == [5]

    def test_a_frame_holds_at_most_1024_commands(self, peal: Peal) -> None:
        line = '{"id":1,"ping":{}}'
        assert len(centrifuge.parse("\n".join([line] * 1_024)) or ()) == 1_024
        assert centrifuge.parse("\n".join([line] * 1_025)) is None

    def test_a_command_without_an_id_is_done_without_a_reply(self, alice: Sdk, peal: Peal) -> None:
        alice.sends('{"publish":{"channel":"chat:lobby","data":1}}')
        alice.sends('{"publish":{"channel":"feed:news","data":1}}')
        alice.receives_nothing()
        assert peal.history(ROOM).offset == 1

    def test_a_command_that_is_too_large_does_not_stop_the_others(self, alice: Sdk, api: FakeWebsocketApi) -> None:
        alice.sends_commands(("publish", {"channel": ROOM, "data": "x" * 32_000}), ("ping", {}))
        refusal, answer = api.frames(alice.id)
        assert refusal["error"]["code"] == 107
        assert "are more than the 32000 a frame may have" in refusal["error"]["message"]
        assert "ping" in answer

    @pytest.mark.parametrize("text", ['{"action":"ping","id":1}', "hello", '{"id":1,"dance":{}}'])
    def test_a_frame_of_another_protocol_closes_the_connection(
        self, alice: Sdk, api: FakeWebsocketApi, text: str
    ) -> None:
        alice.sends(text)
        assert alice.receives_pushes() == [goodbye(3501, "bad request")]
        assert api.closed == ["alice="]

    def test_a_pong_does_nothing(self, alice: Sdk) -> None:
        alice.sends("{}")
        alice.receives_nothing()

    def test_the_rate_limit_counts_commands(self, build: Build, api: FakeWebsocketApi) -> None:
        peal = build(allow_anonymous=True, rate_limit=RateLimit(per_second=1, burst=3))
        client = Sdk(peal, api, "c=")
        client.sends_commands(("ping", {}), ("ping", {}), ("ping", {}))
        refusals = api.frames("c=")
        assert [(frame["error"]["code"], frame["error"]["temporary"]) for frame in refusals] == [(111, True)] * 3
        client.sends_commands(("ping", {}), ("ping", {}))
        assert ["ping" in frame for frame in api.frames("c=")] == [True, True]

    def test_a_forgotten_connection_is_asked_to_reconnect(self, alice: Sdk, peal: Peal, api: FakeWebsocketApi) -> None:
        peal.departures.forget("alice=")
        alice.sends_commands(("ping", {}), ("ping", {}))
        assert alice.receives_pushes() == [goodbye(3005, "Not signed in any more: connect again.")]
        assert api.closed == ["alice="]

    def test_a_failure_on_our_side_is_reported_without_details(
        self, alice: Sdk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise TableError("GetItem", "InternalServerError")

        monkeypatch.setattr(Registry, "get", broken)
        answer = alice.calls("ping")
        assert answer == {"code": 100, "message": "Something went wrong on our side.", "temporary": True}


class TestPushes:
    def test_clients_of_both_protocols_are_sent_to_in_one_pass(
        self, alice: Sdk, bob: Client, peal: Peal, dynamodb_calls: list[str]
    ) -> None:
        alice.calls("subscribe", channel="live:map")
        bob.asks("subscribe", channel="live:map")
        dynamodb_calls.clear()
        assert peal.publish("live:map", {"x": 1}).outcome == Outcome(sent=2)
        assert dynamodb_calls == ["Query"]
        assert alice.receives_pushes() == [{"channel": "live:map", "pub": {"data": {"x": 1}}}]
        assert bob.receives_in("live:map") == [{"x": 1}]

    def test_messages_and_broadcasts_carry_the_action_frame(self, alice: Sdk, peal: Peal) -> None:
        peal.send_to_user("alice", "hi")
        peal.send_to_connection("alice=", data=1)
        peal.broadcast("all")
        frames = [push["message"]["data"] for push in alice.receives_pushes()]
        assert [frame["type"] for frame in frames] == ["message", "message", "broadcast"]
        assert (frames[0]["text"], frames[1]["data"], frames[2]["note"]) == ("hi", 1, "all")

    def test_joins_and_leaves(self, alice: Sdk, bob: Client) -> None:
        alice.calls("subscribe", channel=ROOM)
        bob.asks("subscribe", channel=ROOM)
        bob.asks("unsubscribe", channel=ROOM)
        info = {"info": {"user": "bob", "client": "bob="}}
        assert alice.receives_pushes() == [{"channel": ROOM, "join": info}, {"channel": ROOM, "leave": info}]

    def test_an_unsubscribe_by_the_server(self, alice: Sdk, peal: Peal) -> None:
        alice.calls("subscribe", channel=ROOM)
        assert peal.unsubscribe_user(ROOM, "alice") == 1
        assert alice.receives_pushes() == [
            {"channel": ROOM, "unsubscribe": {"code": 2000, "reason": "unsubscribed by the server"}}
        ]

    def test_a_disconnect_precedes_the_close(self, alice: Sdk, peal: Peal, api: FakeWebsocketApi) -> None:
        peal.close_user("alice", reason="Signed out elsewhere.")
        assert alice.receives_pushes() == [goodbye(3503, "Signed out elsewhere.")]
        assert api.closed == ["alice="]


def test_every_command_of_the_protocol_is_known() -> None:
    assert set(commands.COMMANDS) == set(centrifuge.NAMES)
