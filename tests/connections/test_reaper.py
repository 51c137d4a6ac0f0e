"""The reaper: who ended without a word, who overstayed, what a dead Lambda left undone."""

import json
from collections.abc import Callable

import pytest

from chalicelib.limits import LIMITS
from chalicelib.peal import Peal
from chalicelib.store import keys
from chalicelib.store.table import Table
from tests.conftest import Clock, LogLines
from tests.support.clients import GOODBYE, Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone, refused
from tests.support.signing import NOW, token

NOTHING = {"checked": 0, "closed": 0, "pruned": 0, "resumed": 0, "failed": 0}

Connect = Callable[[str], Client]


@pytest.fixture
def connect(peal: Peal, api: FakeWebsocketApi) -> Connect:
    return lambda name: Client(peal, api, f"{name}=", userId=name)


def reaps(peal: Peal, **what: int) -> None:
    assert peal.reap() == NOTHING | what


class TestConnections:
    def test_a_living_connection_is_left_alone(self, connect: Connect, peal: Peal) -> None:
        alice = connect("alice")
        reaps(peal, checked=1)
        assert alice.asks("ping") == {}
        alice.receives_nothing()

    def test_a_connection_that_ended_silently_is_forgotten(
        self, connect: Connect, peal: Peal, api: FakeWebsocketApi, jobs: FakeJobs
    ) -> None:
        connect("alice").asks("subscribe", channel="chat:a")
        connect("bob")
        api.fails = {"alice=": [gone(), gone()]}
        reaps(peal, checked=2, pruned=1)
        assert peal.connections_of("alice") == []
        assert api.closed == ["alice="], "lest it be there and unknown"
        assert peal.presence("chat:a").count == 1, "within the time of grace"
        assert [job["job"] for job in jobs.take()] == ["leave"]

    def test_a_single_410_is_not_believed(self, connect: Connect, peal: Peal, api: FakeWebsocketApi) -> None:
        connect("alice")
        api.fails = {"alice=": [gone()]}
        api.info = _after(api.fails, api.info)  # type: ignore[method-assign]
        reaps(peal, checked=1)
        assert len(peal.connections_of("alice")) == 1

    def test_a_connection_that_may_still_be_connecting_is_kept(
        self, peal: Peal, api: FakeWebsocketApi, clock: Clock
    ) -> None:
        Client(peal, api, "new=", connected_at_ms=int(clock.now * 1000), userId="alice")
        api.fails = {"new=": [gone(), gone()]}
        reaps(peal, checked=1)
        assert len(peal.connections_of("alice")) == 1

    def test_an_expired_connection_is_closed(self, peal: Peal, api: FakeWebsocketApi, clock: Clock) -> None:
        alice = Client(peal, api, "alice=", token=token(exp=NOW + 60))
        reaps(peal, checked=1)
        clock.now += 60
        reaps(peal, checked=1, closed=1)
        alice.receives(GOODBYE)
        assert api.closed == ["alice="]
        reaps(peal)

    def test_a_failed_check_stops_no_other(
        self, connect: Connect, peal: Peal, api: FakeWebsocketApi, log_lines: LogLines
    ) -> None:
        connect("alice"), connect("bob")
        api.fails = {"alice=": [refused("LimitExceededException")], "bob=": [gone(), gone()]}
        reaps(peal, checked=2, pruned=1, failed=1)
        assert "Checking alice= failed: ClientError" in [line["message"] for line in log_lines()]


class TestRuns:
    def test_a_run_continues_where_the_last_stopped_and_starts_over(
        self, connect: Connect, peal: Peal, api: FakeWebsocketApi
    ) -> None:
        peal.reaper.limits = LIMITS._replace(reaped=2)
        for n in range(5):
            connect(f"u_{n}")
        seen: list[str] = []
        api.info = lambda connection_id: seen.append(connection_id)  # type: ignore[method-assign, assignment, return-value]
        for checked in (2, 2, 1):
            reaps(peal, checked=checked)
        assert sorted(seen) == [f"u_{n}=" for n in range(5)]
        reaps(peal, checked=2)
        assert seen[5:] == seen[:2] or sorted(seen[5:]) == sorted(seen[:2])

    def test_a_run_ends_when_its_time_is_over(self, connect: Connect, peal: Peal) -> None:
        connect("alice")
        peal.reaper.limits = LIMITS._replace(reap_seconds=0)
        reaps(peal)

    @pytest.mark.parametrize("after", ["{", "1", '["USER#alice"]', '["USER#alice", "alice"]'])
    def test_an_unreadable_place_starts_from_the_beginning(
        self, after: str, connect: Connect, peal: Peal, rows: Table
    ) -> None:
        connect("alice")
        rows.put({**keys.reaper_key(), "after": after})
        reaps(peal, checked=1)


class TestDeliveries:
    def test_an_interrupted_delivery_is_resumed_by_a_job(
        self, connect: Connect, peal: Peal, rows: Table, jobs: FakeJobs, clock: Clock
    ) -> None:
        alice, bob = connect("alice"), connect("bob")
        for client in (alice, bob):
            client.asks("subscribe", channel="feed:a")
            client.asks("subscribe", channel="live:a")
        peal.publish("feed:a", 1)
        # A Lambda has taken the lease for the second one, and died.
        rows.update(
            keys.cursor_key("feed:a", 0),
            "SET #wanted = :two, #leaseOwner = :dead, #leaseUntil = :until",
            {":two": 2, ":dead": "dead", ":until": int(clock.now * 1000) + 15_000},
        )
        reaps(peal, checked=2)
        clock.now += 15
        reaps(peal, checked=2, resumed=1)
        assert jobs.take() == [{"job": "advance", "channel": "feed:a", "shard": 0}]

    def test_a_channel_without_a_namespace_is_skipped(
        self, connect: Connect, peal: Peal, rows: Table, api: FakeWebsocketApi
    ) -> None:
        connect("alice")
        rows.update(
            keys.connection_key("alice="), "ADD #channels :c", {":c": frozenset({"gone:a", "feed:never-published"})}
        )
        reaps(peal, checked=1)


def _after(fails: dict[str, list[Exception]], info: Callable[[str], object]) -> Callable[[str], object]:
    # The fake raises from a list that is there; once it is empty the receiver answers.
    def asked(connection_id: str) -> object:
        if connection_id in fails and not fails[connection_id]:
            del fails[connection_id]
        return info(connection_id)

    return asked


def test_a_run_logs_its_counts(connect: Connect, peal: Peal, log_lines: LogLines) -> None:
    connect("alice")
    peal.reap()
    assert f"Reaped: {NOTHING | {'checked': 1}}" in [line["message"] for line in log_lines()]
    json.dumps(peal.reap())
