"""No publication is lost or reordered if a Lambda dies, fails or is slow."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.errors import TableError
from chalicelib.handlers import jobs as worker
from chalicelib.peal import Peal
from chalicelib.store import lease as leases
from chalicelib.store.lease import Leases
from chalicelib.store.log import Log
from chalicelib.store.members import Members
from tests.conftest import Clock
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone
from tests.support.lambdas import CHANNEL, ROOM, Build, Killed, epoch_of, fail, kill_in, offsets


class TestDeath:
    def test_before_writing_leaves_an_offset_without_a_publication(
        self, alice: Client, peal: Peal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        peal.publish(CHANNEL, 1)
        kill_in(monkeypatch, Log, "write")
        with pytest.raises(Killed):
            peal.publish(CHANNEL, "lost before it was written")
        assert peal.publish(CHANNEL, 3).offset == 3
        assert offsets(alice) == [1, 3]
        back = alice.asks("subscribe", channel=CHANNEL, recover={"epoch": epoch_of(peal), "offset": 0})
        assert (back["recovered"], [p["data"] for p in back["publications"]]) == (True, [1, 3])
        assert [p.offset for p in peal.history(CHANNEL).publications] == [1, 3]
        assert [p.offset for p in peal.history(CHANNEL, reverse=True).publications] == [3, 1]

    def test_a_slow_publisher_takes_another_offset(
        self, alice: Client, build: Build, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow, quick = build(clock), build(clock)
        write = Log.write

        def write_late(history: Log, *arguments: Any) -> bool:
            monkeypatch.setattr(Log, "write", write)
            assert quick.publish(CHANNEL, "quick").offset == 2
            return write(history, *arguments)

        monkeypatch.setattr(Log, "write", write_late)
        assert slow.publish(CHANNEL, "slow").offset == 3
        assert alice.receives_in(CHANNEL) == ["quick", "slow"]

    def test_a_deliverer_waits_a_little_for_a_slow_publisher(
        self, alice: Client, build: Build, ticking: Callable[[], float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow, quick = (build(ticking, publication_seconds=10) for _ in range(2))
        write = Log.write

        def write_late(history: Log, *arguments: Any) -> bool:
            monkeypatch.setattr(Log, "write", write)
            racer.start()
            while slow.history(CHANNEL, limit=0).offset == 0 and not waits.wait(0.01):
                pass
            return write(history, *arguments)

        waits, reads = threading.Event(), []
        read = Log.read

        def notice(*arguments: Any, **named: Any) -> Any:
            # The second read proves that the first found nothing and that the reader waits.
            reads.append(1)
            if len(reads) > 1:
                waits.set()
            return read(*arguments, **named)

        monkeypatch.setattr(Log, "write", write_late)
        monkeypatch.setattr(Log, "read", notice)
        racer = threading.Thread(target=quick.publish, args=(CHANNEL, "quick"))
        assert slow.publish(CHANNEL, "slow").offset == 1
        racer.join()
        assert alice.receives_in(CHANNEL) == ["slow", "quick"]

    def test_a_slow_publisher_with_a_message_id_takes_another_offset_too(
        self, alice: Client, build: Build, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow, quick = build(clock), build(clock)
        write = Log.write_once

        def write_late(history: Log, *arguments: Any) -> Any:
            monkeypatch.setattr(Log, "write_once", write)
            quick.publish(CHANNEL, "quick")
            return write(history, *arguments)

        monkeypatch.setattr(Log, "write_once", write_late)
        assert slow.publish(CHANNEL, "slow", message_id="m-1").offset == 3
        assert slow.publish(CHANNEL, "slow", message_id="m-1").offset == 3
        assert alice.receives_in(CHANNEL) == ["quick", "slow"]

    def test_two_racing_publishers_of_a_message_id_publish_it_once(
        self, alice: Client, build: Build, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, other = build(clock), build(clock)
        write = Log.write_once

        def write_late(history: Log, *arguments: Any) -> Any:
            monkeypatch.setattr(Log, "write_once", write)
            assert other.publish(CHANNEL, "same", message_id="m-1").offset == 2
            return write(history, *arguments)

        monkeypatch.setattr(Log, "write_once", write_late)
        assert one.publish(CHANNEL, "same", message_id="m-1").offset == 2
        one.publish(CHANNEL, "next")
        assert alice.receives_in(CHANNEL) == ["same", "next"]

    def test_before_announcing_leaves_delivery_to_the_next_publisher(
        self, alice: Client, peal: Peal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kill_in(monkeypatch, Leases, "announce")
        with pytest.raises(Killed):
            peal.publish(CHANNEL, 1)
        assert offsets(alice) == []
        peal.publish(CHANNEL, 2)
        assert offsets(alice) == [1, 2]

    @pytest.mark.parametrize("where", ["receivers", "let_go"])
    def test_while_delivering_the_next_publisher_continues_after_the_lease(
        self, alice: Client, peal: Peal, clock: Clock, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        kill_in(monkeypatch, Leases if where == "let_go" else Members, where)
        with pytest.raises(Killed):
            peal.publish(CHANNEL, 1)
        assert peal.publish(CHANNEL, 2).outcome is None  # The lease of the dead Lambda still looks held.
        clock.now += leases.LEASE_MS / 1000
        outcome = peal.publish(CHANNEL, 3).outcome
        assert outcome
        assert outcome.sent == 1
        got = offsets(alice)
        # The dead Lambda may have sent the first publication: it is repeated, never lost or reordered.
        assert got in ([1, 2, 3], [1, 1, 2, 3])
        assert (got == [1, 1, 2, 3]) is (where == "let_go")

    def test_while_delivering_a_subscriber_continues_too(
        self, alice: Client, peal: Peal, clock: Clock, monkeypatch: pytest.MonkeyPatch, api: FakeWebsocketApi
    ) -> None:
        kill_in(monkeypatch, Members, "receivers")
        with pytest.raises(Killed):
            peal.publish(CHANNEL, 1)
        clock.now += leases.LEASE_MS / 1000
        bob = Client(peal, api, "bob=", userId="bob")
        assert bob.asks("subscribe", channel=CHANNEL)["offset"] == 1
        assert offsets(alice) == [1]
        bob.receives_nothing()

    def test_an_error_while_delivering_releases_the_lease_at_once(
        self, alice: Client, peal: Peal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Members, "receivers", fail)
            with pytest.raises(TableError):
                peal.publish(CHANNEL, 1)
        assert peal.publish(CHANNEL, 2).outcome
        assert offsets(alice) == [1, 2]

    def test_an_error_before_the_reply_leaves_no_member_and_no_lease(
        self, alice: Client, peal: Peal, api: FakeWebsocketApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bob = Client(peal, api, "bob=", userId="bob")
        with monkeypatch.context() as patch:
            patch.setattr(Leases, "renew", fail)
            assert bob.is_refused("subscribe", channel=CHANNEL) == "internal_error"
        assert peal.publish(CHANNEL, 1).outcome
        bob.receives_nothing()

    def test_an_error_after_the_reply_does_not_contradict_it(
        self, alice: Client, peal: Peal, api: FakeWebsocketApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bob = Client(peal, api, "bob=", userId="bob")
        with monkeypatch.context() as patch:
            patch.setattr(Leases, "let_go", fail)
            assert bob.asks("subscribe", channel=CHANNEL)["offset"] == 0
        bob.receives_nothing()


class TestAJob:
    def test_finishes_what_dead_lambdas_left_and_forgets_dead_connections(
        self, build: Build, clock: Clock, api: FakeWebsocketApi, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        peal = build(clock, {"room": replace(ROOM["room"], presence=True, join_leave=True)})
        bob, carol = (Client(peal, api, f"{name}=", userId=name) for name in ("bob", "carol"))
        for client in (bob, carol):
            client.asks("subscribe", channel=CHANNEL)
        for owner, method in ((Log, "write"), (Leases, "announce")):
            kill_in(monkeypatch, owner, method)
            with pytest.raises(Killed):
                peal.publish(CHANNEL, 1)
        api.fails[bob.id] = [gone(), gone()]
        work = json.dumps({"job": "advance", "channel": CHANNEL, "shard": 0})
        worker.work(peal, {"Records": [{"body": work}]})
        assert offsets(carol) == [2]
        assert offsets(bob) == []
        assert [job["connectionId"] for job in jobs.take()] == [bob.id]
