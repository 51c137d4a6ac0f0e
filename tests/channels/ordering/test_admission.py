"""A subscriber that finds the lease held is admitted by its holder."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chalicelib.delivery.delivery import Outcome
from chalicelib.handlers import jobs as worker
from chalicelib.limits import LIMITS
from chalicelib.peal import Peal
from chalicelib.protocol.namespaces import resolve
from chalicelib.protocol.publication import Position
from chalicelib.store import keys
from chalicelib.store.lease import Leases
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone
from tests.support.lambdas import CHANNEL, ROOM, Build, Killed, before, epoch_of, kill_in


class TestAdmission:
    """The holder of the lease admits all waiting subscribers; nobody waits for a lease."""

    @pytest.fixture
    def delivering(self, alice: Client, peal: Peal, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
        """Publish, and call `meanwhile` during the delivery."""

        def deliver(meanwhile: Callable[[], Any]) -> None:
            before(monkeypatch, Leases, "let_go", meanwhile)
            peal.publish(CHANNEL, "first")

        return deliver

    def test_a_subscriber_is_admitted_by_the_running_deliverer(
        self, alice: Client, peal: Peal, api: FakeWebsocketApi, delivering: Any
    ) -> None:
        names = ("bob", "carol", "dave")
        waiting = [Client(peal, api, f"{name}=", userId=name) for name in names]

        def subscribe() -> None:
            for client in waiting:
                client.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})
                client.receives_nothing()
            assert peal.publish(CHANNEL, "second").outcome is None

        delivering(subscribe)
        for client in waiting:
            reply, *pushes = api.frames(client.id)
            assert reply["data"]["offset"] == 2
            assert pushes == []
        assert peal.publish(CHANNEL, "third").outcome == Outcome(sent=4)

    def test_a_waiting_subscriber_gets_what_it_missed(self, peal: Peal, api: FakeWebsocketApi, delivering: Any) -> None:
        epoch = peal.publish(CHANNEL, "missed").epoch
        bob = Client(peal, api, "bob=", userId="bob")
        recover = {"epoch": epoch, "offset": 0}
        delivering(lambda: bob.sends({"action": "subscribe", "id": "s", "channel": CHANNEL, "recover": recover}))
        (reply,) = api.frames(bob.id)
        assert (reply["id"], reply["data"]["recovered"], reply["data"]["offset"]) == ("s", True, 2)
        assert [publication["data"] for publication in reply["data"]["publications"]] == ["missed", "first"]

    def test_a_member_that_subscribes_again_misses_nothing_while_it_waits(
        self, alice: Client, peal: Peal, delivering: Any
    ) -> None:
        def subscribe_again() -> None:
            alice.sends({"action": "subscribe", "id": 2, "channel": CHANNEL})
            peal.publish(CHANNEL, "second")

        delivering(subscribe_again)
        first, second, reply = alice.api.frames(alice.id)
        assert (first["data"], second["data"], reply["data"]["offset"]) == ("first", "second", 2)

    def test_a_second_subscribe_while_waiting_is_answered_once(
        self, alice: Client, peal: Peal, api: FakeWebsocketApi, delivering: Any
    ) -> None:
        bob = Client(peal, api, "bob=", userId="bob")

        def subscribe_twice() -> None:
            for frame_id in (1, 2):
                bob.sends({"action": "subscribe", "id": frame_id, "channel": CHANNEL})
            peal.publish(CHANNEL, "second")

        delivering(subscribe_twice)
        (reply,) = api.frames(bob.id)
        assert (reply["id"], reply["data"]["offset"]) == (2, 2)

    def test_an_unreachable_subscriber_is_no_member_and_delays_nobody(
        self, alice: Client, peal: Peal, api: FakeWebsocketApi, delivering: Any, rows: Table
    ) -> None:
        clients = [Client(peal, api, f"{name}=", userId=name) for name in ("bob", "carol", "dave")]

        def subscribe_and_go() -> None:
            for client in clients:
                client.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})
            clients[0].disconnects()
            rows.put(keys.membership_key(CHANNEL, 0, "bob=") | {"waiting": "{"})
            api.fails[clients[1].id] = [gone(), gone()]

        delivering(subscribe_and_go)
        assert [frame["type"] for frame in api.frames("dave=")] == ["reply"]
        assert peal.publish(CHANNEL, 1).outcome == Outcome(sent=2)

    @pytest.mark.slow
    @pytest.mark.parametrize("asked", ["7", '[[],["e",true]]', '[1,{"epoch":"e"}]', "[null,7]"])
    def test_a_request_of_another_version_is_read_as_far_as_possible(
        self, alice: Client, peal: Peal, api: FakeWebsocketApi, delivering: Any, rows: Table, asked: str
    ) -> None:
        bob = Client(peal, api, "bob=", userId="bob")

        def subscribe() -> None:
            bob.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})
            rows.put(keys.membership_key(CHANNEL, 0, bob.id) | {"waiting": asked})

        delivering(subscribe)
        api.frames(bob.id)
        peal.publish(CHANNEL, 1)
        assert bob.receives_in(CHANNEL) == [1]

    def test_a_subscriber_admits_itself_if_nobody_delivers_any_more(
        self,
        alice: Client,
        peal: Peal,
        api: FakeWebsocketApi,
        build: Build,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        other = Leases(peal.registry.rows, clock)
        channel = resolve(CHANNEL, ROOM)
        stream = Position(epoch_of(peal), 0)
        held = other.claim(channel, 0, stream)
        assert held
        bob = Client(peal, api, "bob=", userId="bob")
        let_go = before(monkeypatch, Leases, "announce_join", lambda: other.let_go(held, 0))
        bob.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})
        assert let_go == [None]
        (reply,) = api.frames(bob.id)
        assert reply["data"]["offset"] == 0

    def test_a_subscriber_that_admits_itself_admits_the_next_one_too(
        self, alice: Client, peal: Peal, api: FakeWebsocketApi, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = Leases(peal.registry.rows, clock)
        held = other.claim(resolve(CHANNEL, ROOM), 0, Position(epoch_of(peal), 0))
        assert held
        bob, carol = (Client(peal, api, f"{name}=", userId=name) for name in ("bob", "carol"))
        subscribe = {"action": "subscribe", "id": 1, "channel": CHANNEL}

        def carol_subscribes() -> None:
            carol.sends(subscribe)
            carol.receives_nothing()

        def holder_is_done() -> None:
            other.let_go(held, 0)
            before(monkeypatch, Leases, "let_go", carol_subscribes)

        before(monkeypatch, Leases, "announce_join", holder_is_done)
        bob.sends(subscribe)
        assert [frame["data"]["offset"] for client in (bob, carol) for frame in api.frames(client.id)] == [0, 0]

    def test_a_crowd_is_admitted_in_several_rounds(
        self, alice: Client, peal: Peal, api: FakeWebsocketApi, delivering: Any
    ) -> None:
        peal.sequencer.admission.limits = LIMITS._replace(admitted=2)
        clients = [Client(peal, api, f"m{n}=", userId=f"u{n}") for n in range(5)]
        delivering(lambda: [client.sends({"action": "subscribe", "channel": CHANNEL}) for client in clients])
        assert peal.publish(CHANNEL, 1).outcome == Outcome(sent=6)

    def test_a_job_admits_the_subscribers_of_a_dead_deliverer(
        self,
        alice: Client,
        peal: Peal,
        api: FakeWebsocketApi,
        jobs: FakeJobs,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        kill_in(monkeypatch, Leases, "let_go")
        with pytest.raises(Killed):
            peal.publish(CHANNEL, 1)
        bob = Client(peal, api, "bob=", userId="bob")
        bob.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})
        bob.receives_nothing()
        ((job, delay_seconds),) = jobs.put_jobs
        clock.now += delay_seconds
        worker.work(peal, {"Records": [{"body": json.dumps(job)}]})
        (reply,) = api.frames(bob.id)
        assert reply["data"]["offset"] == 1

    @pytest.mark.slow
    def test_a_storm_of_subscribers_is_admitted_by_a_few_deliverers(
        self, build: Build, api: FakeWebsocketApi, ticking: Callable[[], float]
    ) -> None:
        lambdas = [build(ticking) for _ in range(4)]
        members = [Client(lambdas[n % 4], api, f"m{n}=", userId=f"u_{n}") for n in range(120)]

        def subscribe(member: Client) -> None:
            member.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})

        with ThreadPoolExecutor(24) as threads:
            list(threads.map(subscribe, members))
        for member in members:
            (reply,) = api.frames(member.id)
            assert reply["type"] == "reply"
        assert lambdas[0].publish(CHANNEL, 1).outcome == Outcome(sent=120)
