"""The queue gives jobs out again, and Lambdas die in the middle of one: frames come again, none is lost."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib.errors import TableError
from chalicelib.limits import LIMITS
from chalicelib.peal import Peal
from tests.conftest import Clock
from tests.faults.conftest import Build, Killed
from tests.support.clients import Client
from tests.support.dynamodb_way import Way, refused
from tests.support.fakes import FakeJobs, does
from tests.support.followers import CHANNEL, Follower, Sockets

SIZE = 4
COUNT = 12
# How long SQS keeps a job that failed before it gives it out again: resources.json.
VISIBILITY_SECONDS = 360


class MortalSockets(Sockets):
    """Sockets of a Lambda that dies at a send, after a number of sends."""

    lives: int | None = None

    def send(self, connection_id: str, message: str) -> None:
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                raise Killed
        super().send(connection_id, message)


@pytest.fixture
def api() -> Sockets:
    return MortalSockets()


Say = Callable[[Peal], object]


class TestKilledInTheMiddleOfASlice:
    @pytest.mark.slow
    @pytest.mark.parametrize("sent", [0, 1, 6, COUNT - 1])
    @pytest.mark.parametrize(
        "say",
        [lambda peal: peal.broadcast(note="hi"), lambda peal: peal.publish("live:map", 1)],
        ids=["broadcast", "publish"],
    )
    def test_a_retried_slice_repeats_only_what_had_been_sent(
        self, sent: int, say: Say, build: Build, clock: Clock, api: MortalSockets, jobs: FakeJobs
    ) -> None:
        peal = build(clock, fanout_size=SIZE)
        clients = [Client(peal, api, f"c{n:02d}=") for n in range(COUNT)]
        for client in clients:
            client.asks("subscribe", channel="live:map")
        say(peal)
        api.lives, twice = sent, 0
        while todo := jobs.take():
            for job in todo:
                before = len(api.inbox)
                try:
                    does(peal, job)
                except Killed:
                    api.lives, twice = None, len(api.inbox) - before
                    jobs.put(job)
        assert api.lives is None, "it was killed"
        received = Counter(receiver for receiver, _ in api.inbox)
        assert received.keys() == {client.id for client in clients}
        assert sum(received.values()) == COUNT + twice
        assert twice <= SIZE
        assert max(received.values()) <= 2


class TestAnAdvanceJob:
    @pytest.fixture
    def alice(self, peal: Peal, api: Sockets, way: Way) -> Follower:
        """Follows a channel in which two publications are written and nobody delivers."""
        alice = Follower(peal, api, "alice")
        alice.follow()
        for n in (1, 2):
            way.fails(refused(), "UpdateItem", after=1)
            with pytest.raises(TableError):
                peal.publish(CHANNEL, n)
            way.clear()
        return alice

    def test_that_is_repeated_sends_everything_once(self, alice: Follower, peal: Peal, jobs: FakeJobs) -> None:
        first, second = jobs.take()
        for job in (first, second, first, first):
            does(peal, job)
        alice.read()
        assert (alice.shown, alice.repeats) == ({1: 1, 2: 2}, 0)

    def test_that_runs_twice_at_once_sends_everything_once(self, alice: Follower, peal: Peal, jobs: FakeJobs) -> None:
        todo = jobs.take() * 4
        with ThreadPoolExecutor(len(todo)) as threads:
            list(threads.map(lambda job: does(peal, job), todo))
        alice.read()
        assert (alice.shown, alice.repeats, alice.connects) == ({1: 1, 2: 2}, 0, 1)


class TestALeaveJob:
    @pytest.mark.parametrize("tries", [1, 4])
    def test_that_fails_is_done_six_minutes_later_with_one_leave(
        self, tries: int, peal: Peal, api: Sockets, way: Way, jobs: FakeJobs, clock: Clock
    ) -> None:
        alice, bob = Client(peal, api, "alice=", userId="alice"), Client(peal, api, "bob=", userId="bob")
        for client in (alice, bob):
            client.asks("subscribe", channel=CHANNEL)
        bob.disconnects()
        api.frames(alice.id)
        (job,) = jobs.take()
        clock.now += LIMITS.grace_seconds
        way.fails(refused(), times=tries)
        for _ in range(tries):
            with pytest.raises(TableError):
                does(peal, job)
            clock.now += VISIBILITY_SECONDS
        assert [member.user_id for member in peal.presence_manager.read_members(peal.members.resolve(CHANNEL))[0]] == [
            "alice",
            "bob",
        ]
        for _ in range(2):
            does(peal, job)
        assert [(frame["type"], frame["user"]) for frame in api.frames(alice.id)] == [("leave", "bob")]
        assert [member.user_id for member in peal.presence_manager.read_members(peal.members.resolve(CHANNEL))[0]] == [
            "alice"
        ]
