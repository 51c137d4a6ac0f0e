"""DynamoDB throttles, does a part of what it is asked, or has two write the same: with counts."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib.delivery.delivery import Outcome
from chalicelib.handlers import websocket
from chalicelib.peal import Peal
from chalicelib.store import keys
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.faults.conftest import DOWN, Build, RowsOf
from tests.support import raw_events
from tests.support.clients import Client
from tests.support.dynamodb_way import THROTTLED, Way, conflict, half, refused
from tests.support.fakes import FakeJobs, does_all
from tests.support.followers import CHANNEL, Follower, Sockets


@pytest.mark.parametrize("kind", [(THROTTLED, 400), ("InternalServerError", 500)])
def test_a_client_that_connects_does_not_notice_brief_failures(
    kind: tuple[str, int], peal: Peal, way: Way, rows: Table
) -> None:
    way.fails(refused(*kind), "PutItem", after=1, times=1)
    assert websocket.connect(peal, raw_events.connect("a=")) == {"statusCode": 200}
    assert rows.get(keys.connection_key("a=")) is not None
    # Of the endpoint, which is learnt first, and of the connection, twice.
    assert way.asked.count("PutItem") == 3


@pytest.mark.slow
def test_a_lasting_failure_is_reported_without_details(peal: Peal, way: Way, api: Sockets, rows: Table) -> None:
    alice = Client(peal, api, "alice=")
    way.fails(refused(THROTTLED), times=DOWN)
    assert websocket.connect(peal, raw_events.connect("b=")) == {"statusCode": 500}
    alice.sends({"action": "whoami", "id": 1})
    way.clear()
    alice.gets_error("internal_error", "Something went wrong on our side.", frame_id=1, retryable=True)
    assert rows.get(keys.connection_key("b=")) is None
    assert alice.asks("ping") == {}


def test_a_publication_written_in_spite_of_an_error_is_sent_soon(
    peal: Peal, way: Way, api: Sockets, jobs: FakeJobs, clock: Clock
) -> None:
    alice, bob = Follower(peal, api, "alice"), Client(peal, api, "bob=", userId="bob")
    alice.follow()
    for operation, after in (("UpdateItem", 1), ("Query", 0), ("UpdateItem", 2)):
        way.fails(refused(), operation, after)
        bob.sends({"action": "publish", "id": 1, "channel": CHANNEL, "data": operation})
        bob.gets_error("internal_error", "Something went wrong on our side.", frame_id=1, retryable=True)
        way.clear()
        ((job, delay_seconds),) = jobs.put_jobs
        clock.now += delay_seconds
        assert delay_seconds == 16
        does_all(peal, jobs)
        alice.read()
    assert alice.shown == {1: "UpdateItem", 2: "Query", 3: "UpdateItem"}
    # The third had been sent before the cursor could not be moved.
    assert (alice.repeats, job) == (1, {"job": "advance", "channel": CHANNEL, "shard": 0})


def test_a_batch_that_is_half_done_each_time_is_completed(peal: Peal, way: Way, api: Sockets, rows_of: RowsOf) -> None:
    bob = Client(peal, api, "bob=", userId="bob")
    for n in range(20):
        bob.asks("subscribe", channel=f"live:{n}")
    assert len(rows_of(bob.id)) == 21
    way.asked.clear()
    way.fails(half, "BatchWriteItem", times=4)
    bob.disconnects()
    # 20, 10, 5, 3 and 2 are asked for.
    assert way.asked == ["DeleteItem"] + ["BatchWriteItem"] * 5
    assert rows_of(bob.id) == []


@pytest.mark.slow
def test_conflicting_transactions_publish_each_message_once(build: Build, way: Way, api: Sockets) -> None:
    start = time.monotonic()
    lambdas = [build(lambda: 1_795_426_210.0 + time.monotonic() - start) for _ in range(2)]
    alice = Follower(lambdas[0], api, "alice")
    alice.follow()
    strikes = way.fails(conflict, "TransactWriteItems", times=20)
    with ThreadPoolExecutor(20) as threads:
        tasks = [threads.submit(lambdas[n % 2].publish, CHANNEL, n // 2, message_id=f"m{n // 2}") for n in range(20)]
    published = [task.result() for task in tasks]
    assert strikes.left == 0
    offsets = [one.offset for one in published]
    assert offsets[0::2] == offsets[1::2], "both publishers of a message get its offset"
    alice.read()
    assert alice.shown == dict(zip(offsets[0::2], range(10), strict=True))
    assert (alice.repeats, alice.connects) == (0, 1)
    assert sorted(alice.shown) == list(alice.shown), "in order"
    outcomes = Counter(one.outcome for one in published)
    assert outcomes[None] >= 10, "of a message one publisher at most has sent it"
    assert outcomes[None] + outcomes[Outcome(sent=1)] == 20
