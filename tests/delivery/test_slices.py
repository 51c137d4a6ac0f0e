"""Audiences that are too large for one Lambda are cut into jobs, which together send to each receiver once."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest

from chalicelib.delivery.delivery import Outcome
from chalicelib.delivery.slices import MAX_SECONDS, Slices
from chalicelib.errors import JobsError
from chalicelib.peal import Peal, build
from chalicelib.protocol.codec import Receiver
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.protocol.namespaces import NAMESPACES
from chalicelib.settings import Settings
from tests.conftest import Clock
from tests.support.clients import Client, Sdk
from tests.support.fakes import FakeJobs, FakeWebsocketApi, does, does_all, gone, refused

SIZE = 3
SHARDED = dict(NAMESPACES) | {"live": replace(NAMESPACES["live"], shards=2)}


@pytest.fixture
def peal(table_name: str, api: FakeWebsocketApi, session: boto3.session.Session, clock: Clock, jobs: FakeJobs) -> Peal:
    """A service whose invocations send to three receivers each."""
    settings = Settings(
        table_name,
        allow_anonymous=True,
        anonymous_grants=EVERYTHING,
        fanout_size=SIZE,
    )
    return build(settings, api, session, clock, SHARDED, jobs)


Crowd = Callable[[int], list[Client]]


@pytest.fixture
def crowd(peal: Peal, api: FakeWebsocketApi) -> Crowd:
    """Connect `count` clients, every second one with a user, and subscribe them to live:map."""

    def connect(count: int) -> list[Client]:
        clients = [Client(peal, api, f"c{n:02d}=", **({"userId": f"u_{n}"} if n % 2 else {})) for n in range(count)]
        for client in clients:
            client.asks("subscribe", channel="live:map")
        return clients

    return connect


def test_the_last_receivers_are_not_always_the_same(jobs: FakeJobs, clock: Clock) -> None:
    audience = [Receiver(f"c{n}") for n in range(SIZE)]
    orders: list[list[Receiver]] = []

    def send(receivers: Iterable[Receiver]) -> Outcome:
        orders.append(list(receivers))
        return Outcome(sent=SIZE)

    for _ in range(100):
        Slices(jobs, SIZE, clock).send_or_cut(iter(audience), send, [])
    assert all(sorted(order) == audience for order in orders)
    assert {order[-1] for order in orders} == set(audience)


def test_a_job_out_of_time_leaves_the_rest_to_another(jobs: FakeJobs, clock: Clock) -> None:
    def slow_audience() -> Iterator[tuple[Receiver, str]]:
        for n in range(SIZE):
            clock.now += MAX_SECONDS
            yield Receiver(f"c{n}"), f"place {n}"

    reached: list[Receiver] = []

    def send(receivers: Iterable[Receiver]) -> Outcome:
        reached.extend(receivers)
        return Outcome(sent=len(reached))

    Slices(jobs, SIZE, clock).send_slice(slow_audience(), send, lambda place: {"after": place})
    assert reached == [Receiver("c0")]
    assert jobs.take() == [{"after": "place 0"}]


@pytest.mark.parametrize("tell", [lambda peal: peal.broadcast(note="hi"), lambda peal: peal.publish("live:map", 1)])
@pytest.mark.slow
def test_a_job_retries_receivers_refused_with_429(
    crowd: Crowd, peal: Peal, jobs: FakeJobs, api: FakeWebsocketApi, tell: Callable[[Peal], object]
) -> None:
    clients = crowd(5)
    api.inbox.clear()
    api.fails = {client.id: [refused("LimitExceededException")] for client in clients}
    tell(peal)
    does_all(peal, jobs)
    assert sorted(receiver for receiver, _ in api.inbox) == [client.id for client in clients]


class TestBroadcast:
    def test_a_small_audience_is_sent_to_at_once(
        self, crowd: Crowd, peal: Peal, jobs: FakeJobs, api: FakeWebsocketApi
    ) -> None:
        crowd(SIZE)
        assert peal.broadcast(note="hi") == Outcome(sent=SIZE)
        assert jobs.take() == []

    @pytest.mark.slow
    def test_a_large_one_is_split_into_jobs_that_send_to_each_once(
        self, crowd: Crowd, peal: Peal, jobs: FakeJobs, clock: Clock
    ) -> None:
        clients = crowd(20)
        assert peal.broadcast(note="hi", data=[1]) is None
        clock.now += 5
        # At least seven slices of three, and at most one more for each segment, which finds no receiver left.
        assert 7 <= does_all(peal, jobs) <= 11
        for client in clients:
            client.receives({"type": "broadcast", "time": "2026-11-23T09:30:10.000Z", "note": "hi", "data": [1]})

    def test_a_client_reads_that_its_broadcast_is_queued(self, crowd: Crowd, jobs: FakeJobs) -> None:
        alice = crowd(SIZE + 1)[0]
        assert alice.asks("broadcastAll", note="hi") == {"queued": True}

    @pytest.mark.slow
    def test_a_retried_job_repeats_only_its_own_sends(
        self, crowd: Crowd, peal: Peal, jobs: FakeJobs, api: FakeWebsocketApi
    ) -> None:
        crowd(20)
        peal.broadcast(note="hi")
        first, *others = jobs.take()
        api.inbox.clear()
        does(peal, first)
        once = len(api.inbox)
        rest = jobs.take()
        does(peal, first)
        assert (once, len(api.inbox)) == (SIZE, 2 * SIZE)
        # The job it leaves is put twice as well; the queue promises no better.
        assert jobs.take() == rest
        for job in [*rest, *others]:
            jobs.put(job)
        does_all(peal, jobs)
        received = Counter(receiver for receiver, _ in api.inbox)
        assert len(received) == 20
        assert sum(received.values()) == 20 + SIZE

    @pytest.mark.slow
    def test_connects_and_disconnects_meanwhile_disturb_no_job(
        self, crowd: Crowd, peal: Peal, jobs: FakeJobs, api: FakeWebsocketApi
    ) -> None:
        clients = crowd(20)
        peal.broadcast(note="hi")
        todo = jobs.take()
        does(peal, todo[0])
        reached = [receiver for receiver, _ in api.inbox]
        # The connection after which the next job continues is gone.
        next(client for client in clients if client.id == reached[-1]).disconnects()
        Client(peal, api, "late=")
        for job in [*todo[1:], *(job for job in jobs.take() if job["job"] == "broadcast")]:
            jobs.put(job)
        does_all(peal, jobs)
        received = Counter(receiver for receiver, _ in api.inbox)
        assert {client.id for client in clients} <= received.keys()
        assert max(received.values()) == 1

    def test_a_caller_waiting_for_counts_does_not_wait_for_429(
        self, crowd: Crowd, peal: Peal, api: FakeWebsocketApi
    ) -> None:
        crowd(SIZE)
        api.fails = {"c01=": [refused("LimitExceededException")]}
        assert peal.broadcast(note="hi") == Outcome(sent=SIZE - 1, failed=1)

    def test_a_queue_that_refuses_is_an_error_for_the_caller(self, crowd: Crowd, peal: Peal, jobs: FakeJobs) -> None:
        crowd(SIZE + 1)
        jobs.error = JobsError("AccessDenied")
        with pytest.raises(JobsError):
            peal.broadcast(note="hi")


class TestPublishWithoutHistory:
    def test_a_small_audience_is_sent_to_at_once(self, crowd: Crowd, peal: Peal, jobs: FakeJobs) -> None:
        crowd(SIZE)
        assert peal.publish("live:map", 1).outcome == Outcome(sent=SIZE)
        assert jobs.take() == []

    @pytest.mark.slow
    def test_a_large_one_is_split_by_shards_and_pages(self, crowd: Crowd, peal: Peal, jobs: FakeJobs) -> None:
        alice, *others = crowd(20)
        answer = alice.asks("publish", channel="live:map", data={"x": 1}, exclude=True, messageId="m_1")
        assert answer == {"channel": "live:map", "epoch": None, "offset": None, "queued": True}
        assert 7 <= does_all(peal, jobs) <= 9
        for client in others:
            (frame,) = client.api.frames(client.id)
            assert frame == {
                "type": "publication",
                "channel": "live:map",
                "epoch": None,
                "offset": None,
                "data": {"x": 1},
                "from": {"userId": None, "connectionId": alice.id},
                "time": "2026-11-23T09:30:10.000Z",
                "messageId": "m_1",
            }
        alice.receives_nothing()

    def test_members_that_are_gone_leave_the_channel(
        self, crowd: Crowd, peal: Peal, jobs: FakeJobs, api: FakeWebsocketApi
    ) -> None:
        crowd(5)
        api.fails = {"c01=": [gone(), gone()]}
        peal.publish("live:map", 1)
        does_all(peal, jobs)
        api.fails = {}
        api.inbox.clear()
        peal.publish("live:map", 2)
        does_all(peal, jobs)
        assert sorted(receiver for receiver, _ in api.inbox) == ["c00=", "c02=", "c03=", "c04="]

    def test_a_shard_the_channel_no_longer_has_is_skipped(self, crowd: Crowd, peal: Peal) -> None:
        crowd(SIZE + 1)
        does(
            peal,
            {"job": "publication", "channel": "live:map", "shard": 2, "time": "2026-11-23T09:30:10.000Z", "data": 1},
        )
        does(
            peal,
            {"job": "publication", "channel": "live:map", "shard": 1, "time": "2026-11-23T09:30:10.000Z", "data": 1},
        )


BROADCAST = {"job": "broadcast", "time": 1.5, "segment": 0, "segments": 2}
PUBLICATION = {"job": "publication", "channel": "live:map", "shard": 0, "time": "2026-11-23T09:30:10.000Z"}


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (BROADCAST | {"note": 1}, "note must be a text, and time a number"),
        (BROADCAST | {"time": "now"}, "note must be a text, and time a number"),
        (BROADCAST | {"segments": 0}, "segment must be a whole number below segments"),
        (BROADCAST | {"segment": 2}, "segment must be a whole number below segments"),
        (BROADCAST | {"after": "c="}, "after must be a place in the index"),
        (BROADCAST | {"after": ["USER#u", "USER#u"]}, "after must be a place in the index"),
        (PUBLICATION | {"from": 1}, "from must be an object or null, and time a text"),
        (PUBLICATION | {"time": 1}, "from must be an object or null, and time a text"),
        (PUBLICATION | {"shard": -1}, "shard must be a whole number"),
        (PUBLICATION | {"after": "#"}, "after"),
    ],
)
def test_a_job_that_makes_no_sense_is_dropped(
    job: dict[str, Any], message: str, peal: Peal, caplog: pytest.LogCaptureFixture
) -> None:
    does(peal, job)
    assert message in caplog.text


class TestBothKindsOfClient:
    @pytest.fixture
    def sdks(self, crowd: Crowd, peal: Peal, api: FakeWebsocketApi) -> list[Sdk]:
        """Some that speak Centrifugo's protocol, among as many that do not."""
        crowd(8)
        sdks = [Sdk(peal, api, f"s{n:02d}=", **({"userId": f"s_{n}"} if n % 2 else {})) for n in range(8)]
        for sdk in sdks:
            sdk.calls("subscribe", channel="live:map")
        api.inbox.clear()
        return sdks

    def test_a_large_broadcast_reaches_each_once_in_its_codec(
        self, sdks: list[Sdk], peal: Peal, jobs: FakeJobs, api: FakeWebsocketApi
    ) -> None:
        assert peal.broadcast(note="hi") is None
        does_all(peal, jobs)
        for sdk in sdks:
            (push,) = sdk.receives_pushes()
            assert push["message"]["data"]["note"] == "hi"
        assert [json.loads(text)["type"] for _, text in api.inbox] == ["broadcast"] * 8

    def test_so_does_a_publication_without_history(
        self, sdks: list[Sdk], peal: Peal, jobs: FakeJobs, api: FakeWebsocketApi
    ) -> None:
        assert peal.publish("live:map", {"x": 1}).outcome is None
        does_all(peal, jobs)
        for sdk in sdks:
            assert sdk.receives_pushes() == [{"channel": "live:map", "pub": {"data": {"x": 1}}}]
        assert [json.loads(text)["type"] for _, text in api.inbox] == ["publication"] * 8
