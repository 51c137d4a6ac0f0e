"""Lambdas whose clocks are minutes apart: what that does to leases, rows, tokens and limits, and what not."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib.delivery.delivery import Outcome
from chalicelib.handlers import websocket
from chalicelib.limits import LIMITS
from chalicelib.peal import Peal
from chalicelib.settings import RateLimit
from chalicelib.store import keys, lease
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.faults.conftest import Build, Killed
from tests.support import raw_events
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, does_all, gone
from tests.support.followers import CHANNEL, Follower, Sockets

APART_SECONDS = 300
FAST, SLOW = APART_SECONDS, -APART_SECONDS

By = Callable[..., Peal]


@pytest.fixture
def by(build: Build, clock: Clock) -> By:
    """Build a Lambda whose clock is off by that many seconds."""
    return lambda seconds, **options: build(lambda: clock.now + seconds, **options)


@pytest.mark.slow
def test_what_three_publish_at_once_reaches_everyone_in_one_order(build: Build, api: Sockets) -> None:
    start, base = time.monotonic(), 1_795_426_210.0
    lambdas = [build(lambda off=off: base + off + time.monotonic() - start) for off in (SLOW, 0, FAST)]
    members = [Follower(peal, api, f"u{n}") for n, peal in enumerate(lambdas)]
    for member in members:
        member.follow()
    with ThreadPoolExecutor(6) as threads:
        published = list(threads.map(lambda n: lambdas[n % 3].publish(CHANNEL, n), range(24)))
    # Closed clients reconnect; the next publication delivers what was left.
    last = lambdas[1].publish(CHANNEL, 24)
    for member in members:
        member.read()
    expected = {one.offset: n for n, one in enumerate([*published, last])}
    for member in members:
        assert member.shown == expected
        assert list(member.shown) == sorted(expected), "in order"
        assert member.afresh == 0


@pytest.mark.parametrize("off", [SLOW, FAST])
class TestAConnection:
    def test_is_served_by_others_until_its_two_hours_are_over(
        self, off: int, by: By, api: Sockets, clock: Clock
    ) -> None:
        right, wrong = by(0), by(off)
        for registers, serves in ((right, wrong), (wrong, right)):
            alice = Client(registers, api, f"{id(serves)}=", userId="alice")
            alice.peal = serves
            clock.now += 7_189
            assert alice.asks("ping") == {}
            assert serves.reap()["closed"] == 0
            clock.now -= 7_189

    @pytest.mark.slow
    def test_that_ended_is_announced_once_whichever_clock_the_worker_has(
        self, off: int, by: By, api: Sockets, clock: Clock, jobs: FakeJobs
    ) -> None:
        right, wrong = by(0), by(off)
        alice = Client(right, api, "alice=", userId="alice")
        alice.asks("subscribe", channel=CHANNEL)
        for n, (ends, works) in enumerate([(right, wrong), (wrong, right)]):
            bob = Client(right, api, f"bob{n}=", userId="bob")
            bob.asks("subscribe", channel=CHANNEL)
            bob.peal = ends
            bob.disconnects()
            clock.now += LIMITS.grace_seconds
            does_all(works, jobs)
            assert [frame["type"] for frame in api.frames(alice.id)] == ["join", "leave"]
            assert right.presence(CHANNEL).count == 1

    def test_that_is_young_and_wrongly_forgotten_is_refused_its_next_frame(
        self, off: int, by: By, api: Sockets, clock: Clock, rows: Table
    ) -> None:
        right, wrong = by(0), by(off)
        Client(right, api, "new=", int(clock.now * 1000), userId="bob")
        api.fails["new="] = [gone(), gone(), gone()]
        assert wrong.send_to_user("bob", text="hi") == Outcome(gone=1)
        del api.fails["new="]
        is_registered = rows.get(keys.connection_key("new=")) is not None
        assert is_registered is (off < 0)
        websocket.message(right, raw_events.message('{"action":"ping","id":1}', "new="))
        types = [frame["type"] for frame in api.frames("new=")]
        assert types == (["reply"] if is_registered else ["error", "goodbye"])
        assert ("new=" in api.ended) is not is_registered

    def test_keeps_its_rate_after_a_lambda_with_that_clock_has_counted(
        self, off: int, by: By, api: Sockets, clock: Clock
    ) -> None:
        right, wrong = (by(seconds, rate_limit=RateLimit(per_second=1, burst=3)) for seconds in (0, off))
        alice = Client(right, api, "alice=", userId="alice")
        for peal in (wrong, right, wrong, right):
            alice.peal = peal
            assert alice.asks("ping") == {}
            clock.now += 1
        alice.peal = right
        answers = []
        for _ in range(5):
            alice.sends({"action": "ping", "id": 1})
            answers += [frame["type"] for frame in api.frames(alice.id)]
        assert answers.count("error") == 2, "the limit holds"


def test_a_holder_that_died_with_a_fast_clock_blocks_by_its_difference(
    by: By, api: Sockets, clock: Clock, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, fast = by(0), by(FAST)
    alice = Follower(right, api, "alice")
    alice.follow()

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Sockets, "send", die)
        with pytest.raises(Killed):
            fast.publish(CHANNEL, 1)
    clock.now += lease.LEASE_MS / 1000
    assert right.publish(CHANNEL, 2).outcome is None
    clock.now += APART_SECONDS
    right.reap()
    does_all(right, jobs)
    alice.read()
    assert alice.shown == {1: 1, 2: 2}


@pytest.mark.parametrize("off", [-120, 120])
def test_a_message_repeated_within_minutes_is_published_once(off: int, by: By, api: Sockets, clock: Clock) -> None:
    right, wrong = by(0), by(off)
    first = wrong.publish(CHANNEL, 1, message_id="m").offset
    clock.now += 170
    assert right.publish(CHANNEL, 1, message_id="m").offset == first
    assert wrong.publish(CHANNEL, 1, message_id="m").offset == first
    assert len(right.history(CHANNEL).publications) == 1
