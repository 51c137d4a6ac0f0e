"""Centrifugo's commands for a connected client, from subscribe to rpc: docs/PROTOCOL.md, "Official SDKs"."""

import json
from typing import Any

import pytest

from chalicelib.delivery.delivery import Outcome
from chalicelib.handlers import jobs as worker
from chalicelib.handlers import router
from chalicelib.limits import LIMITS, Limits
from chalicelib.peal import Peal
from chalicelib.protocol.jobs import Advance, dump_job
from chalicelib.protocol.namespaces import resolve
from chalicelib.protocol.publication import Position
from chalicelib.store.lease import Leases
from chalicelib.store.registry import Registry
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.support.clients import Client, Sdk
from tests.support.fakes import FakeJobs, FakeWebsocketApi, does
from tests.support.signing import token

ROOM = "chat:lobby"


@pytest.fixture
def alice(peal: Peal, api: FakeWebsocketApi) -> Sdk:
    return Sdk(peal, api, "alice=", userId="alice", attributes='{"room":"a"}')


@pytest.fixture
def bob(peal: Peal, api: FakeWebsocketApi) -> Client:
    """A client of action frames."""
    return Client(peal, api, "bob=", userId="bob")


class TestSubscribing:
    def test_the_reply_has_the_position_and_pushes_continue_from_it(self, alice: Sdk, peal: Peal) -> None:
        epoch = peal.publish(ROOM, 1).epoch
        assert alice.calls("subscribe", channel=ROOM) == {
            "recoverable": True,
            "positioned": True,
            "epoch": epoch,
            "offset": 1,
        }
        peal.publish(ROOM, 2)
        (push,) = alice.receives_pushes()
        assert (push["channel"], push["pub"]) == (ROOM, {"data": 2, "offset": 2})

    def test_the_reply_has_what_was_missed(self, alice: Sdk, peal: Peal) -> None:
        *_, epoch = (peal.publish(ROOM, n).epoch for n in range(3))
        result = alice.calls("subscribe", channel=ROOM, recover=True, epoch=epoch, offset=1)
        assert (result["recovered"], result["offset"]) == (True, 1)
        assert [each["data"] for each in result["publications"]] == [1, 2]

    @pytest.mark.parametrize("position", [{}, {"epoch": "_"}, {"epoch": "over", "offset": 1}])
    def test_an_unknown_position_is_not_recovered(self, alice: Sdk, peal: Peal, position: dict[str, Any]) -> None:
        peal.publish(ROOM, 1)
        result = alice.calls("subscribe", channel=ROOM, recover=True, **position)
        assert (result["was_recovering"], "recovered" in result, result["offset"]) == (True, False, 1)

    def test_without_the_history_grant_nothing_is_recovered(self, peal: Peal, api: FakeWebsocketApi) -> None:
        credential = token(channels={ROOM: ["subscribe"]})
        client = Sdk(peal, api, "c=", connect={"token": credential})
        epoch = peal.publish(ROOM, 1).epoch
        result = client.calls("subscribe", channel=ROOM, recover=True, epoch=epoch, offset=0)
        assert (result["was_recovering"], "recovered" in result, "publications" in result) == (True, False, False)

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({}, 107),
            ({"channel": "nowhere:1"}, 102),
            ({"channel": "user:bob"}, 103),
            ({"channel": ROOM, "recover": True, "offset": -1}, 107),
            ({"channel": ROOM, "recover": "yes"}, 107),
        ],
    )
    def test_a_bad_subscribe_gets_the_code_of_its_error(self, alice: Sdk, fields: dict[str, Any], code: int) -> None:
        assert alice.calls("subscribe", **fields)["code"] == code

    def test_unsubscribing_twice_is_no_error(self, alice: Sdk, peal: Peal) -> None:
        slept: list[float] = []
        peal.sleep = slept.append
        alice.calls("subscribe", channel=ROOM)
        assert alice.calls("unsubscribe", channel=ROOM) == {}
        assert slept == []
        assert alice.calls("unsubscribe", channel=ROOM) == {}
        assert slept == list(router.PAUSES_SECONDS)

    def test_the_commands_of_a_frame_share_one_waiting_time(
        self, alice: Sdk, api: FakeWebsocketApi, peal: Peal
    ) -> None:
        slept: list[float] = []
        peal.sleep = slept.append
        ids = alice.sends_commands(*(("unsubscribe", {"channel": f"chat:{n}"}) for n in range(20)))
        assert [answer["id"] for answer in api.frames(alice.id)] == ids
        assert slept == list(router.PAUSES_SECONDS)


class TestTheLastCommandWins:
    """API Gateway passes frames on at once, and SDKs send one after the other without waiting for replies."""

    @pytest.fixture(params=[ROOM, "live:map"])
    def room(self, request: pytest.FixtureRequest) -> str:
        """A channel with history and one without."""
        return str(request.param)

    def test_a_late_unsubscribe_undoes_no_later_subscribe(self, alice: Sdk, bob: Client, peal: Peal, room: str) -> None:
        before = peal.connection(alice.id)
        peal.subscribe(before, room, None, 6, join_ref=6)
        at_seven = peal.connection(alice.id)
        peal.subscribe(at_seven, room, None, 8, join_ref=8)
        peal.unsubscribe(at_seven, room, join_ref=7)
        assert peal.publish(room, 1).outcome == Outcome(sent=1)
        peal.unsubscribe(peal.connection(alice.id), room, join_ref=9)
        assert peal.publish(room, 2).outcome == Outcome()
        assert peal.connection(alice.id).channels == frozenset()

    @pytest.mark.parametrize("late", ["add_channel", "get"])
    def test_a_late_unsubscribe_during_a_subscribe_does_not_undo_it(
        self, alice: Sdk, peal: Peal, room: str, late: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        peal.subscribe(peal.connection(alice.id), room, None, 6, join_ref=6)
        at_seven = peal.connection(alice.id)
        original = getattr(Registry, late)

        def unsubscribe_first(registry: Registry, *arguments: Any) -> Any:
            monkeypatch.setattr(Registry, late, original)
            found = original(registry, *arguments) if late == "add_channel" else None
            peal.unsubscribe(at_seven, room, join_ref=7)
            return found or original(registry, *arguments)

        monkeypatch.setattr(Registry, late, unsubscribe_first)
        peal.subscribe(at_seven, room, None, 8, join_ref=8)
        assert peal.publish(room, 1).outcome == Outcome(sent=1)
        assert room in peal.connection(alice.id).channels

    def test_a_late_subscribe_keeps_the_later_membership(self, alice: Sdk, peal: Peal, room: str) -> None:
        before = peal.connection(alice.id)
        peal.subscribe(before, room, None, 8, join_ref=8)
        peal.subscribe(before, room, None, 6, join_ref=6)
        peal.unsubscribe(peal.connection(alice.id), room, join_ref=7)
        assert peal.publish(room, 1).outcome == Outcome(sent=1)

    def test_an_unsubscribe_waits_for_the_subscribe_that_it_overtook(
        self, alice: Sdk, peal: Peal, room: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = peal.connection(alice.id)
        peal.sleep = lambda _: peal.subscribe(before, room, None, 1, join_ref=1)
        assert alice.calls("unsubscribe", channel=room) == {}
        assert peal.publish(room, 1).outcome == Outcome()

    def test_a_waiting_subscriber_is_admitted_with_its_last_join_ref(
        self, alice: Sdk, peal: Peal, rows: Table, clock: Clock
    ) -> None:
        epoch, leases = peal.publish(ROOM, 0).epoch, Leases(rows, clock)
        lease = leases.claim(resolve(ROOM), 0, Position(str(epoch), 1))
        assert lease
        before = peal.connection(alice.id)
        peal.subscribe(before, ROOM, None, 8, join_ref=8)
        peal.subscribe(before, ROOM, None, 6, join_ref=6)
        peal.unsubscribe(peal.connection(alice.id), ROOM, join_ref=7)
        alice.receives_nothing()
        leases.abandon(lease, lease.delivered)
        does(peal, dump_job(Advance(ROOM, 0)))
        (reply,) = alice.api.frames(alice.id)
        assert reply["id"] == 8
        assert peal.publish(ROOM, 1).outcome == Outcome(sent=1)


class TestOtherCommands:
    def test_publish_does_what_the_action_does(self, alice: Sdk, peal: Peal) -> None:
        assert alice.calls("publish", channel=ROOM, data=None) == {}
        (published,) = peal.history(ROOM).publications
        assert (published.data, published.sender) == (None, {"userId": "alice", "connectionId": "alice="})
        assert alice.calls("publish", channel="feed:news", data=1)["code"] == 103
        assert alice.calls("publish", channel=ROOM)["code"] == 107

    def test_presence_lists_each_connection(self, alice: Sdk, bob: Client) -> None:
        alice.calls("subscribe", channel=ROOM)
        bob.asks("subscribe", channel=ROOM)
        assert alice.calls("presence", channel=ROOM) == {
            "presence": {
                "alice=": {"user": "alice", "client": "alice=", "conn_info": {"room": "a"}},
                "bob=": {"user": "bob", "client": "bob="},
            }
        }
        assert alice.calls("presence_stats", channel=ROOM) == {"num_clients": 2, "num_users": 2}
        assert alice.calls("presence", channel="live:map")["code"] == 108

    @pytest.mark.parametrize(
        "limits", [LIMITS._replace(counted=1), LIMITS._replace(listed_bytes=50)], ids=["counted", "listed"]
    )
    def test_a_presence_list_that_would_not_fit_is_refused(self, alice: Sdk, bob: Client, limits: Limits) -> None:
        alice.calls("subscribe", channel=ROOM)
        bob.asks("subscribe", channel=ROOM)
        assert alice.calls("presence", channel=ROOM)["code"] == 106

    def test_a_disconnected_user_is_listed_until_its_leave_or_return(
        self, alice: Sdk, peal: Peal, api: FakeWebsocketApi, jobs: FakeJobs, clock: Clock
    ) -> None:
        def here() -> set[str]:
            return set(alice.calls("presence", channel=ROOM)["presence"])

        alice.calls("subscribe", channel=ROOM)
        first, second, third = (Client(peal, api, f"bob{n}=", userId="bob") for n in range(3))
        for bob, others in ((first, set()), (second, {"bob0="})):
            bob.asks("subscribe", channel=ROOM)
            assert here() == {"alice=", bob.id, *others}
        first.disconnects()
        assert here() == {"alice=", "bob1="}
        second.disconnects()
        assert here() > {"alice=", "bob1="}
        assert alice.calls("presence_stats", channel=ROOM) == {"num_clients": 1, "num_users": 2}
        third.asks("subscribe", channel=ROOM)
        assert here() == {"alice=", "bob2="}
        third.disconnects()
        clock.now += LIMITS.grace_seconds
        for job in jobs.take():
            worker.work(peal, {"Records": [{"body": json.dumps(job)}]})
        assert here() == {"alice="}

    def test_history_returns_as_much_as_was_asked_for(self, alice: Sdk, peal: Peal) -> None:
        for n in range(3):
            peal.publish(ROOM, n)
        whole = alice.calls("history", channel=ROOM, limit=-1)
        assert (whole["offset"], [each["data"] for each in whole["publications"]]) == (3, [0, 1, 2])
        assert alice.calls("history", channel=ROOM)["publications"] == []
        assert len(alice.calls("history", channel=ROOM, limit=10_000)["publications"]) == 3
        for since, expected in [
            ({"epoch": whole["epoch"], "offset": 2}, [2]),
            ({"offset": 1}, [1, 2]),
            ({"epoch": whole["epoch"]}, [0, 1, 2]),
        ]:
            page = alice.calls("history", channel=ROOM, since=since, limit=10)
            assert [each["data"] for each in page["publications"]] == expected
        latest = alice.calls("history", channel=ROOM, limit=1, reverse=True)
        assert [each["data"] for each in latest["publications"]] == [2]

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"since": {"epoch": "over", "offset": 1}}, 112),
            ({"since": 3}, 107),
            ({"since": {"offset": "3"}}, 107),
            ({"limit": -2}, 107),
            ({"channel": "live:map"}, 108),
            ({"channel": "user:bob"}, 103),
        ],
    )
    def test_a_bad_history_gets_the_code_of_its_error(self, alice: Sdk, fields: dict[str, Any], code: int) -> None:
        assert alice.calls("history", **{"channel": ROOM} | fields)["code"] == code

    def test_rpc_calls_any_action_by_name(self, alice: Sdk, bob: Client) -> None:
        answer = alice.calls("rpc", method="sendMessage", data={"targetUserId": "bob", "text": "hi"})
        assert answer == {"data": {"sent": 1, "gone": 0, "failed": 0}}
        assert alice.calls("rpc", method="whoami")["data"]["userId"] == "alice"
        assert bob.api.frames("bob=")[0]["text"] == "hi"

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"method": "dance"}, 104),
            ({"method": "subscribe", "data": {"channel": ROOM}}, 104),
            ({"method": "unsubscribe", "data": {"channel": ROOM}}, 104),
            ({"method": ""}, 107),
            ({"method": "ping", "data": [1]}, 107),
            ({"method": "sendMessage", "data": {"targetConnectionId": 7, "text": "hi"}}, 107),
        ],
    )
    def test_a_bad_rpc_gets_the_code_of_its_error(self, alice: Sdk, fields: dict[str, Any], code: int) -> None:
        assert alice.calls("rpc", **fields)["code"] == code

    def test_send_runs_an_action_frame_without_a_reply(self, alice: Sdk, bob: Client) -> None:
        alice.sends('{"send":{"data":{"action":"sendMessage","targetUserId":"bob","text":"hi"}}}')
        alice.sends('{"send":{"data":{"action":"sendMessage"}}}')
        alice.sends('{"send":{"data":"hi"}}')
        alice.receives_nothing()
        assert [frame["text"] for frame in bob.api.frames("bob=")] == ["hi"]

    def test_subscriptions_have_no_tokens(self, alice: Sdk) -> None:
        assert alice.calls("sub_refresh", channel=ROOM, token="x")["code"] == 108
