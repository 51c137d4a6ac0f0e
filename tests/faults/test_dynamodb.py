"""DynamoDB fails at any request of what a client does: it is answered honestly, and nothing is half done for long.

Each test has each request fail in turn: refused, done with the answer lost, and refused with all that follow.
"""

import itertools
import json
from contextlib import suppress
from typing import Any

import pytest

from chalicelib.delivery.delivery import Outcome
from chalicelib.errors import ServiceError
from chalicelib.handlers import websocket
from chalicelib.limits import LIMITS
from chalicelib.peal import Peal
from chalicelib.store import keys, lease
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.faults.conftest import each_request_fails
from tests.support import raw_events
from tests.support.clients import Client
from tests.support.dynamodb_way import Way
from tests.support.fakes import FakeJobs, does_all
from tests.support.followers import CHANNEL, Follower, Sockets

pytestmark = pytest.mark.slow

# What was left to a job because of a lease is done then.
LEASE_SECONDS = lease.LEASE_MS / 1000 + 1
SORRY = "Something went wrong on our side."
numbers = itertools.count()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What fails is logged, every time."""
    caplog.set_level("CRITICAL")


def test_a_client_is_registered_or_refused(peal: Peal, way: Way, rows: Table) -> None:
    for round_ in each_request_fails(way):
        name = f"c{next(numbers)}="
        with round_:
            answer = websocket.connect(peal, raw_events.connect(name, {"userId": "alice"}))
        is_there = rows.get(keys.connection_key(name)) is not None
        assert answer["statusCode"] in (200, 500), round_
        if round_.name != "down":
            assert is_there is (answer["statusCode"] == 200), round_


def test_a_subscriber_is_admitted_with_a_reply_or_reconnects(
    peal: Peal, way: Way, api: Sockets, jobs: FakeJobs, clock: Clock
) -> None:
    for round_ in each_request_fails(way):
        bob = Follower(peal, api, "bob", f"chat:{next(numbers)}")
        bob.connect()
        with round_:
            bob.subscribe()
        bob.read()
        was_in = bob.is_in
        peal.publish(bob.channel, 1)
        clock.now += LEASE_SECONDS
        does_all(peal, jobs)
        bob.read()
        assert bob.is_in, round_
        assert 1 in bob.shown or not was_in, round_
        peal.publish(bob.channel, 2)
        bob.read()
        assert bob.since in ((0,) if was_in else (0, 1)), round_
        assert bob.shown == {n: n for n in range(bob.since + 1, 3)}, round_
        assert (bob.repeats, bob.afresh) == (0, 0), round_


@pytest.mark.parametrize("tries_again", [True, False])
def test_a_publication_reaches_everyone_once_or_does_not_exist(
    tries_again: bool, peal: Peal, way: Way, api: Sockets, jobs: FakeJobs, clock: Clock, rows: Table
) -> None:
    members = [Follower(peal, api, user) for user in ("alice", "bob")]
    for member in members:
        member.follow()
    carol = Client(peal, api, "carol=", userId="carol")
    acknowledged = {}
    for number, round_ in enumerate(each_request_fails(way)):
        frame = {"action": "publish", "id": number, "channel": CHANNEL, "data": number}
        frame |= {"messageId": f"m{number}"} if tries_again else {}
        with round_:
            carol.sends(frame)
        (answer,) = api.frames(carol.id) or [None]
        if tries_again and (answer is None or answer["type"] == "error"):
            carol.sends(frame)
            (answer,) = api.frames(carol.id)
        if answer and answer["type"] == "reply":
            acknowledged[answer["data"]["offset"]] = number
        else:
            assert answer is None or answer["error"]["message"] == SORRY
        clock.now += LEASE_SECONDS
        peal.reap()
        does_all(peal, jobs)
        for member in members:
            member.read()
            assert member.shown == written(rows), round_
    assert acknowledged.items() <= written(rows).items()
    assert len(set(written(rows).values())) == len(written(rows))
    assert [(member.afresh, member.connects) for member in members] == [(0, 1)] * 2


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_disconnected_client_is_forgotten_and_leaves_once(
    is_heard: bool, peal: Peal, way: Way, api: Sockets, jobs: FakeJobs, clock: Clock, rows: Table
) -> None:
    alice = Client(peal, api, "alice=", userId="alice")
    alice.asks("subscribe", channel=CHANNEL)
    for round_ in each_request_fails(way):
        bob = Client(peal, api, f"bob-{next(numbers)}=", userId="bob")
        bob.asks("subscribe", channel=CHANNEL)
        bob.asks("subscribe", channel="live:map")
        api.ended.add(bob.id)
        with round_, suppress(ServiceError):
            if is_heard:
                bob.disconnects()
            else:
                peal.reap()
        # The reaper finds connections that were not forgotten; a send finds memberships that were left.
        peal.reap()
        clock.now += LIMITS.grace_seconds
        does_all(peal, jobs)
        assert rows.get(keys.connection_key(bob.id)) is None, round_
        told = [frame["type"] for frame in api.frames(alice.id)]
        # Where nobody learns that the row went, nobody learns who it was that left.
        is_unknown = round_.name == "lost" and round_.struck == ["DeleteItem"]
        assert told == (["join"] if is_unknown else ["join", "leave"]), round_
        assert peal.presence(CHANNEL).connections == 1 + is_unknown, round_
        assert peal.publish(CHANNEL, 1).outcome == Outcome(sent=1, gone=int(is_unknown)), round_
        assert peal.publish("live:map", 1).outcome in (Outcome(), Outcome(gone=1)), round_
        assert peal.publish("live:map", 2).outcome == Outcome(), round_
        assert peal.presence(CHANNEL).connections == 1, round_
        api.frames(alice.id)


def written(rows: Table) -> dict[int, Any]:
    """Return the channel's history by offset, delivered or not."""
    epoch = str((rows.get(keys.channel_key(CHANNEL)) or {})["epoch"])
    kept = rows.query(keys.history_partition(CHANNEL, epoch), "0", "9")
    return {int(str(row["SK"])): json.loads(str(row["data"])) for row in kept if "isEmpty" not in row}
