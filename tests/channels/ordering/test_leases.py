"""One Lambda delivers at a time: its lease, and the rules of the row that holds it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.channels.admission import Admission
from chalicelib.delivery.delivery import Outcome
from chalicelib.handlers import jobs as worker
from chalicelib.peal import Peal
from chalicelib.protocol.jobs import Advance, dump_job
from chalicelib.protocol.namespaces import resolve
from chalicelib.protocol.publication import Position
from chalicelib.store import keys
from chalicelib.store import lease as leases
from chalicelib.store.lease import LeaseLost, Leases
from chalicelib.store.members import Members
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, does
from tests.support.lambdas import CHANNEL, ROOM, Build, Killed, before, kill_in, offsets


class TestLeases:
    def test_a_holder_that_lost_its_lease_stops_sending(
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

    def test_a_subscriber_whose_lease_is_lost_is_closed(
        self, alice: Client, build: Build, clock: Clock, api: FakeWebsocketApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow, quick = build(clock), build(clock)
        bob = Client(slow, api, "bob=", userId="bob")
        add = Members.add

        def add_late(*arguments: Any) -> None:
            clock.now += leases.LEASE_MS / 1000
            quick.publish(CHANNEL, "missed before the membership")
            add(*arguments)

        monkeypatch.setattr(Members, "add", add_late)
        bob.asks("subscribe", channel=CHANNEL)
        assert api.closed == [bob.id]
        bob.receives_nothing()

    def test_a_subscriber_without_reply_and_lease_is_closed_once(
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

    def test_a_long_delivery_for_others_leaves_the_rest_to_a_job(
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


class TestTheCursor:
    """The rules of the lease's row, one by one."""

    channel = resolve(CHANNEL, ROOM)
    stream = Position("epoch", 5)

    @pytest.fixture
    def rules(self, rows: Table, clock: Clock) -> Leases:
        rows.put(keys.channel_key(CHANNEL) | {"epoch": "epoch", "offset": 5})  # type: ignore[arg-type]
        return Leases(rows, clock)

    def test_only_one_holds_the_lease_and_moves_the_cursor(self, rules: Leases, clock: Clock) -> None:
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

    def test_the_lease_is_kept_while_subscribers_wait(self, rules: Leases) -> None:
        lease = self.claimed(rules)
        assert lease.joins == 0
        for _ in range(2):
            assert rules.announce_join(self.channel, 0, self.stream) is None
        kept = rules.let_go(lease, 5)
        assert kept
        assert kept.joins == 2
        assert rules.let_go(kept, 5) is None
        assert self.claimed(rules).joins == 0

    def test_a_subscriber_gets_the_lease_if_nobody_delivers(self, rules: Leases, clock: Clock) -> None:
        self.claimed(rules)
        assert rules.announce_join(self.channel, 0, self.stream) is None
        clock.now += leases.LEASE_MS / 1000
        lease = rules.announce_join(self.channel, 0, self.stream)
        assert lease
        # The subscriber before was never admitted.
        assert (lease.joins, lease.waits) == (1, True)

    def test_a_subscriber_that_loses_the_race_for_the_lease_waits(
        self, rules: Leases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before(monkeypatch, Leases, "claim", lambda: self.claimed(rules))
        assert rules.announce_join(self.channel, 0, self.stream) is None

    def claimed(self, rules: Leases) -> leases.Lease:
        lease = rules.claim(self.channel, 0, self.stream)
        assert lease
        return lease

    def test_the_lease_is_kept_while_publications_wait(self, rules: Leases) -> None:
        lease = self.claimed(rules)
        assert rules.announce(self.channel, 0, Position("epoch", 7)) is None
        kept = rules.let_go(lease, 5)
        assert kept
        assert (kept.delivered, kept.wanted) == (5, 7)
        assert rules.let_go(kept, 7) is None
        assert rules.announce(self.channel, 0, Position("epoch", 7)) is None

    def test_the_next_holder_takes_over_what_was_left_undelivered(self, rules: Leases) -> None:
        lease = self.claimed(rules)
        rules.abandon(lease, 2)
        taken = rules.announce(self.channel, 0, Position("epoch", 4))
        assert taken
        assert (taken.delivered, taken.wanted) == (2, 5)

    def test_a_write_that_is_sent_twice_succeeds(
        self, rows: Table, rules: Leases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Send each write twice, as botocore does if an answer is lost: the second finds its condition false."""
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
        # The first write released the lease, so the second finds no holder.
        with pytest.raises(LeaseLost):
            rules.let_go(claimed, 6)
        assert rules.delivered(self.channel, 0, "epoch") == 6

    def test_one_of_two_that_create_the_row_at_once_delivers(
        self, rows: Table, rules: Leases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        won = before(monkeypatch, Table, "get", lambda: rules.announce(self.channel, 0, Position("epoch", 6)))
        assert rules.announce(self.channel, 0, self.stream) is None
        assert won[0]


def test_a_shard_the_channel_no_longer_has_is_skipped(peal: Peal, dynamodb_calls: list[str]) -> None:
    del dynamodb_calls[:]
    does(peal, dump_job(Advance(CHANNEL, 3)))
    assert dynamodb_calls == []


def test_the_rows_have_the_documented_keys(peal: Peal, alice: Client, rows: Table) -> None:
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
