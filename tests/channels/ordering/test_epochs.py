"""A channel that is unused for long starts a new epoch."""

from typing import Any

import pytest

from chalicelib.peal import Peal
from chalicelib.store.lease import Leases
from chalicelib.store.log import IDLE_SECONDS
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.support.clients import Client
from tests.support.fakes import FakeWebsocketApi
from tests.support.lambdas import CHANNEL, Build, Killed, kill_in, late


class TestEpochs:
    def test_a_channel_unused_for_long_starts_a_new_epoch(
        self, alice: Client, build: Build, clock: Clock, api: FakeWebsocketApi
    ) -> None:
        peal = build(clock)
        for n in (1, 2, 3):
            before = peal.publish(CHANNEL, n)
        alice.disconnects()
        clock.now += IDLE_SECONDS
        # DynamoDB has not deleted the rows yet; they are expired.
        after = peal.publish(CHANNEL, "anew")
        assert (before.offset, after.offset) == (3, 1)
        assert after.epoch != before.epoch
        assert [p.data for p in peal.history(CHANNEL).publications] == ["anew"]
        bob = late(peal, api, clock, "bob=")
        back = bob.asks("subscribe", channel=CHANNEL, recover={"epoch": before.epoch, "offset": 3})
        assert (back["epoch"], back["offset"], back["recovered"]) == (after.epoch, 1, False)
        peal.publish(CHANNEL, "next")
        assert bob.receives_in(CHANNEL) == ["next"]

    def test_two_publishers_that_start_an_epoch_at_once_share_it(
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

    def test_a_subscribe_now_and_then_keeps_the_epoch(self, peal: Peal, clock: Clock, api: FakeWebsocketApi) -> None:
        epoch = peal.publish(CHANNEL, 1).epoch
        for n in range(4):
            clock.now += IDLE_SECONDS * 0.4
            member = late(peal, api, clock, f"m{n}=")
            assert member.asks("subscribe", channel=CHANNEL)["epoch"] == epoch
            member.disconnects()
        assert (peal.publish(CHANNEL, 2).epoch, peal.publish(CHANNEL, 3).offset) == (epoch, 3)

    def test_a_publisher_slower_than_its_epoch_does_not_revive_it(
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

    def test_publications_that_expired_undelivered_are_skipped(
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
