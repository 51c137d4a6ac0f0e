"""Channels with history when things go wrong at once: DESIGN's promise 4, with threads, crashes and clocks.

Whoever subscribes sees, after the offset of its reply, every publication in the order of the offsets, and none twice
unless somebody died while delivering.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.channels.admission import Admission
from chalicelib.delivery.delivery import Outcome
from chalicelib.errors import TableError
from chalicelib.handlers import jobs as worker
from chalicelib.limits import LIMITS
from chalicelib.peal import Peal
from chalicelib.peal import build as build_peal
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.protocol.jobs import Advance, dump_job
from chalicelib.protocol.namespaces import Namespace, resolve
from chalicelib.protocol.publication import Position
from chalicelib.settings import Settings
from chalicelib.store import keys
from chalicelib.store import lease as leases
from chalicelib.store.lease import LeaseLost, Leases
from chalicelib.store.log import IDLE_SECONDS, Log
from chalicelib.store.members import Members
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, does, gone

CHANNEL = "room:1"
ROOM = {"room": Namespace(history_size=1_000, history_ttl_seconds=3_600)}
SHARDED = {"room": Namespace(history_size=1_000, history_ttl_seconds=3_600, shards=4)}


class Killed(BaseException):
    """The Lambda ends here: nothing of it runs any more."""


@pytest.fixture
def ticking(clock: Clock) -> Callable[[], float]:
    """A clock that starts where the fixed one stands and goes on as real time does."""
    start, base = time.monotonic(), clock.now
    return lambda: base + time.monotonic() - start


Build = Callable[..., Peal]


@pytest.fixture
def build(table_name: str, api: FakeWebsocketApi, session: Any, jobs: FakeJobs) -> Build:
    """Builds the service as another Lambda instance would, over the same table."""

    def build(clock: Callable[[], float], namespaces: Any = ROOM, **limits: float) -> Peal:
        settings = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING)
        # Where the clock stands still, waiting for it would take for ever.
        bounds = LIMITS._replace(**{"publication_seconds": 0, **limits})
        return build_peal(settings, api, session, clock, namespaces=namespaces, jobs=jobs, limits=bounds)

    return build


@pytest.fixture
def peal(build: Build, clock: Clock) -> Peal:
    return build(clock)


@pytest.fixture
def alice(peal: Peal, api: FakeWebsocketApi) -> Client:
    alice = Client(peal, api, "alice=", userId="alice")
    alice.asks("subscribe", channel=CHANNEL)
    return alice


def offsets(client: Client) -> list[int]:
    """The offsets that the client was pushed, in the order they came."""
    return [frame["offset"] for frame in client.api.frames(client.id) if frame["type"] == "publication"]


def kill_in(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    """The next call of that method is the Lambda's last; the one after it works again."""
    original = getattr(owner, name)

    def die(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(owner, name, original)
        raise Killed

    monkeypatch.setattr(owner, name, die)


class TestManyAtOnce:
    def test_fifty_publishers_and_joining_members_see_one_order(
        self, build: Build, api: FakeWebsocketApi, ticking: Callable[[], float]
    ) -> None:
        lambdas = [build(ticking, publication_seconds=5) for _ in range(4)]
        members = [Client(lambdas[n % 4], api, f"m{n}=", userId=f"u_{n}") for n in range(8)]
        for member in members[:4]:
            member.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})

        def publish(n: int) -> None:
            for k in range(3):
                lambdas[n % 4].publish(CHANNEL, [n, k])

        def join(member: Client, delay_seconds: float) -> None:
            time.sleep(delay_seconds)
            member.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})

        with ThreadPoolExecutor(54) as threads:
            work = [threads.submit(publish, n) for n in range(50)]
            work += [threads.submit(join, member, 0.2 * n) for n, member in enumerate(members[4:])]
            for done in work:
                done.result()
        for member in members:
            reply, *pushes = api.frames(member.id)
            assert reply["type"] == "reply"
            got = [push["offset"] for push in pushes]
            assert got == list(range(reply["data"]["offset"] + 1, 151))
            # Each publisher's own come in the order it published them.
            seen: dict[int, int] = {}
            for n, k in (push["data"] for push in pushes):
                assert k > seen.get(n, -1)
                seen[n] = k

    def test_through_workers_too(
        self, build: Build, api: FakeWebsocketApi, jobs: FakeJobs, ticking: Callable[[], float]
    ) -> None:
        lambdas = [build(ticking, SHARDED) for _ in range(3)]
        members = [Client(lambdas[0], api, f"m{n}=", userId=f"u_{n}") for n in range(12)]
        for member in members:
            member.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})

        def publish(n: int) -> None:
            for k in range(3):
                assert lambdas[n % 3].publish(CHANNEL, [n, k]).outcome is None

        def work(n: int) -> None:
            while not published.is_set() or jobs.put_jobs:
                for job in jobs.take():
                    # Delivered twice, as SQS may.
                    for _ in range(2):
                        worker.work(lambdas[n], {"Records": [{"body": json.dumps(job)}]})
                time.sleep(0.01)

        published = threading.Event()
        with ThreadPoolExecutor(13) as threads:
            workers = [threads.submit(work, n) for n in range(3)]
            for done in [threads.submit(publish, n) for n in range(10)]:
                done.result()
            published.set()
            for done in workers:
                done.result()
        for member in members:
            reply, *pushes = api.frames(member.id)
            assert (reply["data"]["offset"], [push["offset"] for push in pushes]) == (0, list(range(1, 31)))

    def test_after_the_reply_no_publish_is_missed(
        self, build: Build, api: FakeWebsocketApi, ticking: Callable[[], float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without history too: what begins after the reply arrives, however close it comes."""
        namespaces = ROOM | {"live": Namespace()}
        publisher, peal = build(ticking, namespaces), build(ticking, namespaces)
        for n in range(40):
            channel = f"live:{n}"
            member = Client(peal, api, f"m{n}=", userId="u")
            told = threading.Event()

            def publish_once_told(channel: str = channel, told: threading.Event = told) -> None:
                told.wait(10)
                publisher.publish(channel, "now")

            def send(connection_id: str, text: str, told: threading.Event = told) -> None:
                FakeWebsocketApi.send(api, connection_id, text)
                if '"reply"' in text:
                    told.set()

            monkeypatch.setattr(api, "send", send)
            racer = threading.Thread(target=publish_once_told)
            racer.start()
            member.sends({"action": "subscribe", "id": 1, "channel": channel})
            racer.join()
            assert member.receives_in(channel) == ["now"]


class TestDeath:
    def test_between_number_and_publication_leaves_a_number_nobody_used(
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

    def test_who_was_only_slow_takes_another_number(
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

    def test_a_little_patience_is_had_with_who_is_slow(
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
            # Once it has looked in vain, it looks again.
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

    def test_a_slow_one_with_a_message_id_too(
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

    def test_of_two_with_one_message_id_that_race_one_is_published(
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

    def test_before_announcing_the_next_one_brings_it_along(
        self, alice: Client, peal: Peal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kill_in(monkeypatch, Leases, "announce")
        with pytest.raises(Killed):
            peal.publish(CHANNEL, 1)
        assert offsets(alice) == []
        peal.publish(CHANNEL, 2)
        assert offsets(alice) == [1, 2]

    @pytest.mark.parametrize("where", ["receivers", "let_go"])
    def test_while_delivering_the_next_one_goes_on_once_the_lease_has_run_out(
        self, alice: Client, peal: Peal, clock: Clock, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        kill_in(monkeypatch, Leases if where == "let_go" else Members, where)
        with pytest.raises(Killed):
            peal.publish(CHANNEL, 1)
        assert peal.publish(CHANNEL, 2).outcome is None  # Somebody else seems to be at it.
        clock.now += leases.LEASE_MS / 1000
        outcome = peal.publish(CHANNEL, 3).outcome
        assert outcome
        assert outcome.sent == 1
        got = offsets(alice)
        # Who died may have sent the first one already: repeated, never lost, never out of order.
        assert got in ([1, 2, 3], [1, 1, 2, 3])
        assert (got == [1, 1, 2, 3]) is (where == "let_go")

    def test_while_delivering_who_subscribes_goes_on_too(
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

    def test_an_error_while_delivering_gives_the_lease_up_at_once(
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


def fail(*_: object, **__: object) -> Any:
    raise TableError("Query", "InternalServerError")


def epoch_of(peal: Peal) -> str:
    return peal.history(CHANNEL, limit=0).epoch


class TestLeases:
    def test_who_has_lost_its_lease_neither_moves_the_cursor_nor_sends_on(
        self, alice: Client, build: Build, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow, quick = build(clock), build(clock)
        receivers = Members.receivers

        def pause(*arguments: Any) -> Iterator[str]:
            monkeypatch.setattr(Members, "receivers", receivers)
            clock.now += leases.LEASE_MS / 1000
            quick.publish(CHANNEL, 2)
            yield from receivers(*arguments)

        monkeypatch.setattr(Members, "receivers", pause)
        assert slow.publish(CHANNEL, 1).outcome is None
        assert offsets(alice) == [1, 2]
        quick.publish(CHANNEL, 3)
        assert offsets(alice) == [3]

    def test_a_long_round_renews_its_lease(
        self, alice: Client, build: Build, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow, quick = build(clock), build(clock)
        receivers = Members.receivers

        def dawdle(*arguments: Any) -> Iterator[str]:
            monkeypatch.setattr(Members, "receivers", receivers)
            for _ in range(4):
                clock.now += leases.LEASE_MS / 1000 - 1
                yield from receivers(*arguments)
                assert quick.publish(CHANNEL, "left to the slow one").outcome is None

        monkeypatch.setattr(Members, "receivers", dawdle)
        assert slow.publish(CHANNEL, 1).outcome

    def test_who_subscribed_while_losing_its_lease_is_broken_off(
        self, alice: Client, build: Build, clock: Clock, api: FakeWebsocketApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow, quick = build(clock), build(clock)
        bob = Client(slow, api, "bob=", userId="bob")
        add = Members.add

        def add_late(*arguments: Any) -> None:
            clock.now += leases.LEASE_MS / 1000
            quick.publish(CHANNEL, "missed by who is no member yet")
            add(*arguments)

        monkeypatch.setattr(Members, "add", add_late)
        bob.asks("subscribe", channel=CHANNEL)
        assert api.closed == [bob.id]
        bob.receives_nothing()

    def test_who_could_not_be_told_and_lost_its_lease_is_closed_once(
        self, alice: Client, build: Build, clock: Clock, api: FakeWebsocketApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow, quick = build(clock), build(clock)
        bob = Client(slow, api, "bob=", userId="bob")

        def fail_late(*_: object) -> bool:
            clock.now += leases.LEASE_MS / 1000
            quick.publish(CHANNEL, 1)
            return False

        monkeypatch.setattr(Admission, "reply", fail_late)
        slow.subscribe(slow.connection(bob.id), CHANNEL, None, None)
        assert api.closed == [bob.id]
        assert quick.publish(CHANNEL, 2).outcome == Outcome(sent=1)

    def test_one_that_delivers_for_others_too_long_leaves_the_rest_to_a_job(
        self, alice: Client, build: Build, clock: Clock, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        peal = build(clock, run=1, deliver_seconds=-1)
        kill_in(monkeypatch, Leases, "announce")
        with pytest.raises(Killed):
            peal.publish(CHANNEL, 1)
        peal.publish(CHANNEL, 2)
        assert offsets(alice) == [1]
        assert jobs.put_jobs == [({"job": "advance", "channel": CHANNEL, "shard": 0}, 0)]
        while work := jobs.take():
            worker.work(peal, {"Records": [{"body": json.dumps(job)} for job in work]})
        assert offsets(alice) == [2]


class TestLettingIn:
    """Whoever delivers lets in all who wait; nobody waits for a lease."""

    @pytest.fixture
    def delivering(self, alice: Client, peal: Peal, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
        """Publishes, and does something while that is being delivered."""

        def deliver(meanwhile: Callable[[], Any]) -> None:
            before(monkeypatch, Leases, "let_go", meanwhile)
            peal.publish(CHANNEL, "first")

        return deliver

    def test_who_subscribes_meanwhile_is_let_in_by_who_delivers(
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

    def test_with_what_it_missed(self, peal: Peal, api: FakeWebsocketApi, delivering: Any) -> None:
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

    def test_who_asks_twice_while_it_waits_is_sent_nothing_before_it_is_let_in(
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

    def test_who_has_gone_or_cannot_be_told_is_no_member_and_holds_nobody_up(
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

    @pytest.mark.parametrize("asked", ["7", '[[],["e",true]]', '[1,{"epoch":"e"}]', "[null,7]"])
    def test_what_another_version_asked_is_understood_as_far_as_it_can_be(
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

    def test_who_finds_that_nobody_delivers_any_more_lets_itself_in(
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

    def test_who_lets_itself_in_does_not_overlook_the_next(
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

    def test_more_than_fit_at_once_are_let_in_in_turns(
        self, alice: Client, peal: Peal, api: FakeWebsocketApi, delivering: Any
    ) -> None:
        peal.sequencer.admission.limits = LIMITS._replace(admitted=2)
        clients = [Client(peal, api, f"m{n}=", userId=f"u{n}") for n in range(5)]
        delivering(lambda: [client.sends({"action": "subscribe", "channel": CHANNEL}) for client in clients])
        assert peal.publish(CHANNEL, 1).outcome == Outcome(sent=6)

    def test_should_who_delivers_be_dead_a_job_lets_in(
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

    def test_a_storm_is_let_in_by_a_few(
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


class TestAJob:
    def test_finishes_what_dead_lambdas_have_left_and_forgets_who_is_gone(
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


class TestTheCursor:
    """The row's rules one by one, as the head of `leases` has them."""

    channel = resolve(CHANNEL, ROOM)
    stream = Position("epoch", 5)

    @pytest.fixture
    def rules(self, rows: Table, clock: Clock) -> Leases:
        rows.put(keys.channel_key(CHANNEL) | {"epoch": "epoch", "offset": 5})  # type: ignore[arg-type]
        return Leases(rows, clock)

    def test_one_holds_the_lease_at_a_time_and_moves_the_cursor(self, rules: Leases, clock: Clock) -> None:
        holder = self.claimed(rules)
        assert (holder.delivered, holder.wanted) == (0, 5)
        assert rules.claim(self.channel, 0, self.stream) is None
        clock.now += leases.LEASE_MS / 1000
        other = self.claimed(rules)
        with pytest.raises(LeaseLost, match=r"^The lease ran out while it was held\.$"):
            rules.keep(holder, 4)
        with pytest.raises(LeaseLost):
            rules.let_go(holder, 5)
        rules.abandon(holder, 5)
        assert rules.let_go(other, 5) is None
        assert rules.delivered(self.channel, 0, "epoch") == 5

    def test_while_more_wait_it_is_not_let_go(self, rules: Leases) -> None:
        lease = self.claimed(rules)
        assert lease.joins == 0
        for _ in range(2):
            assert rules.announce_join(self.channel, 0, self.stream) is None
        kept = rules.let_go(lease, 5)
        assert kept
        assert kept.joins == 2
        assert rules.let_go(kept, 5) is None
        assert self.claimed(rules).joins == 0

    def test_who_waits_where_nobody_delivers_lets_itself_in(self, rules: Leases, clock: Clock) -> None:
        self.claimed(rules)
        assert rules.announce_join(self.channel, 0, self.stream) is None
        clock.now += leases.LEASE_MS / 1000
        lease = rules.announce_join(self.channel, 0, self.stream)
        assert lease
        # The one before was never let in.
        assert (lease.joins, lease.waits) == (1, True)

    def test_who_waits_looks_again_where_another_was_quicker(
        self, rules: Leases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before(monkeypatch, Leases, "claim", lambda: self.claimed(rules))
        assert rules.announce_join(self.channel, 0, self.stream) is None

    def claimed(self, rules: Leases) -> leases.Lease:
        lease = rules.claim(self.channel, 0, self.stream)
        assert lease
        return lease

    def test_while_more_is_wanted_it_is_not_let_go(self, rules: Leases) -> None:
        lease = self.claimed(rules)
        assert rules.announce(self.channel, 0, Position("epoch", 7)) is None
        kept = rules.let_go(lease, 5)
        assert kept
        assert (kept.delivered, kept.wanted) == (5, 7)
        assert rules.let_go(kept, 7) is None
        assert rules.announce(self.channel, 0, Position("epoch", 7)) is None

    def test_what_was_left_undone_is_the_next_ones_whatever_it_announces(self, rules: Leases) -> None:
        lease = self.claimed(rules)
        rules.abandon(lease, 2)
        taken = rules.announce(self.channel, 0, Position("epoch", 4))
        assert taken
        assert (taken.delivered, taken.wanted) == (2, 5)

    def test_an_answer_that_was_lost_and_asked_for_again_finds_itself(
        self, rows: Table, rules: Leases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As botocore does: the write is sent again and finds its condition no longer true."""
        update = Table.update

        def twice(table: Table, *arguments: Any, **named: Any) -> Any:
            update(table, *arguments, **named)
            return update(table, *arguments, **named)

        monkeypatch.setattr(Table, "update", twice)
        begun = rules.announce(self.channel, 0, self.stream)
        assert begun
        rules.abandon(begun, 5)
        claimed = rules.announce(self.channel, 0, Position("epoch", 6))
        assert claimed
        # Let go twice: the second time it is nobody's any more, and that is what was wanted.
        with pytest.raises(LeaseLost):
            rules.let_go(claimed, 6)
        assert rules.delivered(self.channel, 0, "epoch") == 6

    def test_of_two_that_begin_it_at_once_one_delivers(
        self, rows: Table, rules: Leases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        won = before(monkeypatch, Table, "get", lambda: rules.announce(self.channel, 0, Position("epoch", 6)))
        assert rules.announce(self.channel, 0, self.stream) is None
        assert won[0]


def before(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, act: Callable[[], Any]) -> list[Any]:
    """Something happens right before the next call of that method; returns a list that will hold what it gave."""
    original, given = getattr(owner, name), []

    def call(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(owner, name, original)
        given.append(act())
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, call)
    return given


class TestEpochs:
    def test_a_channel_that_nobody_has_used_for_long_begins_anew(
        self, alice: Client, build: Build, clock: Clock, api: FakeWebsocketApi
    ) -> None:
        peal = build(clock)
        for n in (1, 2, 3):
            before = peal.publish(CHANNEL, n)
        alice.disconnects()
        clock.now += IDLE_SECONDS
        # Not swept by DynamoDB, and gone all the same.
        after = peal.publish(CHANNEL, "anew")
        assert (before.offset, after.offset) == (3, 1)
        assert after.epoch != before.epoch
        assert [p.data for p in peal.history(CHANNEL).publications] == ["anew"]
        bob = late(peal, api, clock, "bob=")
        back = bob.asks("subscribe", channel=CHANNEL, recover={"epoch": before.epoch, "offset": 3})
        assert (back["epoch"], back["offset"], back["recovered"]) == (after.epoch, 1, False)
        peal.publish(CHANNEL, "next")
        assert bob.receives_in(CHANNEL) == ["next"]

    def test_of_two_that_begin_it_at_once_both_publish_in_the_same(
        self, build: Build, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, other = build(clock), build(clock)
        one.publish(CHANNEL, "old")
        clock.now += IDLE_SECONDS
        update, calls = Table.update, []

        def beaten(table: Table, key: Any, change: str, *arguments: Any, **named: Any) -> Any:
            calls.append(change)
            if len(calls) == 2:
                other.publish(CHANNEL, 1)
            return update(table, key, change, *arguments, **named)

        monkeypatch.setattr(Table, "update", beaten)
        assert one.publish(CHANNEL, 2).offset == 2
        assert [p.data for p in one.history(CHANNEL).publications] == [1, 2]

    def test_while_somebody_subscribes_now_and_then_it_goes_on(
        self, peal: Peal, clock: Clock, api: FakeWebsocketApi
    ) -> None:
        epoch = peal.publish(CHANNEL, 1).epoch
        for n in range(4):
            clock.now += IDLE_SECONDS * 0.4
            member = late(peal, api, clock, f"m{n}=")
            assert member.asks("subscribe", channel=CHANNEL)["epoch"] == epoch
            member.disconnects()
        assert (peal.publish(CHANNEL, 2).epoch, peal.publish(CHANNEL, 3).offset) == (epoch, 3)

    def test_who_is_so_slow_that_its_epoch_is_over_does_not_bring_it_back(
        self, build: Build, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow, quick = build(clock), build(clock)
        announce = Leases.announce

        def announce_late(leases: Leases, *arguments: Any) -> Any:
            monkeypatch.setattr(Leases, "announce", announce)
            clock.now += IDLE_SECONDS
            quick.publish(CHANNEL, "anew")
            return announce(leases, *arguments)

        monkeypatch.setattr(Leases, "announce", announce_late)
        assert slow.publish(CHANNEL, "old").outcome is None
        assert [p.data for p in quick.history(CHANNEL).publications] == ["anew"]

    def test_what_a_dead_lambda_left_for_longer_than_it_is_kept_is_passed_over(
        self, alice: Client, peal: Peal, clock: Clock, monkeypatch: pytest.MonkeyPatch, api: FakeWebsocketApi
    ) -> None:
        kill_in(monkeypatch, Leases, "announce")
        with pytest.raises(Killed):
            peal.publish(CHANNEL, 1)
        clock.now += 3_601
        bob = late(peal, api, clock, "bob=")
        bob.asks("subscribe", channel=CHANNEL)
        peal.publish(CHANNEL, 2)
        assert bob.receives_in(CHANNEL) == [2]


def late(peal: Peal, api: FakeWebsocketApi, clock: Clock, connection_id: str) -> Client:
    """A client that connects when the clock says."""
    return Client(peal, api, connection_id, connected_at_ms=int(clock.now * 1000), userId="u")


def test_a_shard_that_there_is_no_more_has_nothing_to_deliver(peal: Peal, dynamodb_calls: list[str]) -> None:
    del dynamodb_calls[:]
    does(peal, dump_job(Advance(CHANNEL, 3)))
    assert dynamodb_calls == []


def test_the_rows_are_where_the_document_says(peal: Peal, alice: Client, rows: Table) -> None:
    epoch = peal.publish(CHANNEL, 1).epoch
    channel = resolve(CHANNEL, ROOM)
    assert epoch
    for key in (
        keys.channel_key(CHANNEL),
        keys.cursor_key(CHANNEL, 0),
        keys.membership_key(CHANNEL, channel.shard_of(alice.id), alice.id),
        keys.publication_key(CHANNEL, epoch, 1),
    ):
        assert rows.get(key)
