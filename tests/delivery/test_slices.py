"""Audiences that are too large for one Lambda: cut into jobs, which together send to each once."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import boto3
import pytest

from chalicelib.aws.queue import JobsError
from chalicelib.delivery import slices
from chalicelib.delivery.audience import Outcome
from chalicelib.peal import Peal, build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.protocol.namespaces import NAMESPACES
from chalicelib.protocol.receivers import Receiver
from chalicelib.settings import Settings
from tests.conftest import Clock
from tests.support.clients import Client, Sdk
from tests.support.fakes import FakeJobs, FakeWebsocketApi, does, does_all, gone, refused

SIZE = 3
SHARDED = dict(NAMESPACES) | {"live": replace(NAMESPACES["live"], shards=2)}


@pytest.fixture
def peal(table_name: str, api: FakeWebsocketApi, session: boto3.session.Session, clock: Clock, jobs: FakeJobs) -> Peal:
    """A service whose invocations send to three each."""
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
    """So many connections, every second one of a user; all are in live:map."""

    def connect(count: int) -> list[Client]:
        clients = [Client(peal, api, f"c{n:02d}=", **({"userId": f"u_{n}"} if n % 2 else {})) for n in range(count)]
        for client in clients:
            client.asks("subscribe", channel="live:map")
        return clients

    return connect


def test_it_is_not_always_the_same_who_are_told_last(jobs: FakeJobs, clock: Clock) -> None:
    audience = [Receiver(f"c{n}") for n in range(SIZE)]
    orders: list[list[Receiver]] = []

    def send(receivers: Iterable[Receiver]) -> Outcome:
        orders.append(list(receivers))
        return Outcome(sent=SIZE)

    for _ in range(100):
        slices.Slices(jobs, SIZE, clock).send_or_cut(iter(audience), send, [])
    assert all(sorted(order) == audience for order in orders)
    assert {order[-1] for order in orders} == set(audience)


@pytest.mark.parametrize("tell", [lambda peal: peal.broadcast(note="hi"), lambda peal: peal.publish("live:map", 1)])
def test_whoever_a_job_is_refused_for_with_429_is_tried_again(
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

    def test_a_large_one_is_cut_into_jobs_that_send_to_each_once(
        self, crowd: Crowd, peal: Peal, jobs: FakeJobs, clock: Clock
    ) -> None:
        clients = crowd(20)
        assert peal.broadcast(note="hi", data=[1]) is None
        clock.now += 5
        # At least seven slices of three, and no more than one that finds nobody left for each segment.
        assert 7 <= does_all(peal, jobs) <= 11
        for client in clients:
            client.receives({"type": "broadcast", "time": "2026-11-23T09:30:10.000Z", "note": "hi", "data": [1]})

    def test_a_client_that_asked_is_told_that_it_is_queued(self, crowd: Crowd, jobs: FakeJobs) -> None:
        alice = crowd(SIZE + 1)[0]
        assert alice.asks("broadcastAll", note="hi") == {"queued": True}

    def test_a_job_that_comes_again_repeats_its_own_sends_and_no_more(
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
        # What it leaves comes twice as well: the queue's own promise is no better.
        assert jobs.take() == rest
        for job in [*rest, *others]:
            jobs.put(job)
        does_all(peal, jobs)
        received = Counter(receiver for receiver, _ in api.inbox)
        assert len(received) == 20
        assert sum(received.values()) == 20 + SIZE

    def test_a_job_whose_time_is_over_leaves_the_rest_to_another(
        self, crowd: Crowd, peal: Peal, jobs: FakeJobs, api: FakeWebsocketApi, clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        crowd(20)
        peal.broadcast(note="hi")
        first, *_ = jobs.take()
        api.inbox.clear()
        monkeypatch.setattr(slices, "MAX_SECONDS", 0)
        does(peal, first)
        assert len(api.inbox) == 1
        assert [job["after"][1] for job in jobs.take()] == [f"CONN#{api.inbox[0][0]}"]

    def test_who_connects_and_goes_meanwhile_disturbs_nobody(
        self, crowd: Crowd, peal: Peal, jobs: FakeJobs, api: FakeWebsocketApi
    ) -> None:
        clients = crowd(20)
        peal.broadcast(note="hi")
        todo = jobs.take()
        does(peal, todo[0])
        reached = [receiver for receiver, _ in api.inbox]
        # Where the next job goes on after is not there any more.
        next(client for client in clients if client.id == reached[-1]).disconnects()
        Client(peal, api, "late=")
        for job in [*todo[1:], *(job for job in jobs.take() if job["job"] == "broadcast")]:
            jobs.put(job)
        does_all(peal, jobs)
        received = Counter(receiver for receiver, _ in api.inbox)
        assert {client.id for client in clients} <= received.keys()
        assert max(received.values()) == 1

    def test_a_caller_that_waits_for_the_counts_does_not_wait_for_that(
        self, crowd: Crowd, peal: Peal, api: FakeWebsocketApi
    ) -> None:
        crowd(SIZE)
        api.fails = {"c01=": [refused("LimitExceededException")]}
        assert peal.broadcast(note="hi") == Outcome(sent=SIZE - 1, failed=1)

    def test_where_the_queue_refuses_the_caller_is_told(self, crowd: Crowd, peal: Peal, jobs: FakeJobs) -> None:
        crowd(SIZE + 1)
        jobs.error = JobsError("AccessDenied")
        with pytest.raises(JobsError):
            peal.broadcast(note="hi")


class TestPublishWithoutHistory:
    def test_a_small_audience_is_sent_to_at_once(self, crowd: Crowd, peal: Peal, jobs: FakeJobs) -> None:
        crowd(SIZE)
        assert peal.publish("live:map", 1).outcome == Outcome(sent=SIZE)
        assert jobs.take() == []

    def test_a_large_one_is_cut_by_shards_and_pages(self, crowd: Crowd, peal: Peal, jobs: FakeJobs) -> None:
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

    def test_a_shard_that_the_channel_has_no_more_is_passed_over(self, crowd: Crowd, peal: Peal) -> None:
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

    def test_a_large_broadcast_comes_to_each_once_as_it_reads_it(
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
