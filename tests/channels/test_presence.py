"""docs/PROTOCOL.md, "presence", `join` and `leave`: which users are present, and which members are notified."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.errors import JobsError
from chalicelib.handlers import jobs as worker
from chalicelib.limits import LIMITS
from chalicelib.peal import Peal
from chalicelib.store import keys
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone

ROOM = "chat:lobby"
Join = Callable[..., Client]


@pytest.fixture
def join(peal: Peal, api: FakeWebsocketApi) -> Join:
    """Connect a user and subscribe to the room; `name` tells its connections apart."""

    def join(user: str | None, name: str | None = None, **query: str) -> Client:
        claim = {} if user is None else {"userId": user}
        client = Client(peal, api, f"{name or user}=", **claim, **query)
        client.asks("subscribe", channel=ROOM)
        return client

    return join


@pytest.fixture
def work(peal: Peal, jobs: FakeJobs, clock: Clock) -> Callable[[], None]:
    """Let the grace period pass and do the jobs that waited for it."""

    def work() -> None:
        clock.now += LIMITS.grace_seconds
        for job in jobs.take():
            worker.work(peal, {"Records": [{"body": json.dumps(job)}]})

    return work


def changes(client: Client) -> list[str]:
    """Return the joins and leaves that the client was sent."""
    frames = client.api.frames(client.id)
    return [f"{frame['user']} {frame['type']}" for frame in frames if frame["type"] in ("join", "leave")]


class TestPresence:
    def test_a_user_with_three_tabs_counts_once(self, join: Join) -> None:
        alice, *_ = [join("alice", f"alice{n}") for n in range(3)]
        join("bob")
        assert alice.asks("presence", channel=ROOM) == {
            "channel": ROOM,
            "members": [
                {"userId": "alice", "connections": 3, "attributes": {}},
                {"userId": "bob", "connections": 1, "attributes": {}},
            ],
            "count": 2,
            "connections": 4,
            "complete": True,
        }

    def test_members_have_their_attributes(self, join: Join) -> None:
        alice = join("alice", attributes='{"mood":"fine"}')
        (member,) = alice.asks("presence", channel=ROOM)["members"]
        assert member["attributes"] == {"mood": "fine"}

    def test_the_anonymous_share_an_entry_and_each_counts(self, join: Join) -> None:
        alice = join("alice")
        for n in range(2):
            join(None, f"anonymous{n}")
        here = alice.asks("presence", channel=ROOM)
        assert {"userId": None, "connections": 2, "attributes": {}} in here["members"]
        assert (here["count"], here["connections"]) == (3, 3)

    def test_presence_needs_no_membership(self, join: Join, peal: Peal, api: FakeWebsocketApi) -> None:
        join("alice")
        assert Client(peal, api, "bob=", userId="bob").asks("presence", channel=ROOM)["count"] == 1
        assert peal.presence("chat:empty").count == 0

    @pytest.mark.parametrize("channel", ["live:map", "feed:news", "user:alice"])
    def test_a_namespace_without_presence_says_so(self, join: Join, channel: str) -> None:
        alice = join("alice")
        alice.sends({"action": "presence", "id": 1, "channel": channel})
        alice.gets_error("invalid", "channel is in a namespace without presence.", 1)

    def test_a_list_too_long_for_a_frame_is_left_out(self, join: Join, peal: Peal) -> None:
        alice = join("alice")
        peal.presence_manager.limits = LIMITS._replace(listed_bytes=110)
        join("bob")
        assert alice.asks("presence", channel=ROOM)["members"]
        join("carol")
        here = alice.asks("presence", channel=ROOM)
        assert (here["members"], here["count"], here["complete"]) == (None, 3, True)

    def test_counting_has_an_end(self, join: Join, peal: Peal) -> None:
        peal.presence_manager.limits = LIMITS._replace(counted=2)
        alice, _ = join("alice"), join("bob")
        assert alice.asks("presence", channel=ROOM)["complete"] is True
        join("carol")
        here = alice.asks("presence", channel=ROOM)
        assert (here["members"], here["count"], here["connections"], here["complete"]) == (None, 2, 2, False)

    def test_a_waiting_subscriber_is_not_present_yet(self, join: Join, rows: Table) -> None:
        alice = join("alice")
        rows.put(keys.membership_key(ROOM, 0, "bob=") | {"userId": "bob", "waiting": "[1,null]"})
        assert alice.asks("presence", channel=ROOM)["count"] == 1

    def test_a_row_of_another_version_is_read_as_far_as_possible(
        self, join: Join, dynamodb: Any, table_name: str
    ) -> None:
        alice = join("alice")
        strange = {"userId": {"N": "1"}, "attributes": {"S": "{"}, "leftAt": {"S": "x"}}
        for n, attributes in enumerate(["{", "[]"]):
            key = {"PK": {"S": f"CHAN#{ROOM}#0"}, "SK": {"S": f"CONN#old{n}="}}
            dynamodb.put_item(TableName=table_name, Item=key | strange | {"attributes": {"S": attributes}})
        members = alice.asks("presence", channel=ROOM)["members"]
        assert {"userId": None, "connections": 2, "attributes": {}} in members


class TestJoin:
    def test_the_other_members_are_notified(self, join: Join) -> None:
        alice = join("alice")
        bob = join("bob")
        assert (changes(alice), changes(bob)) == (["bob join"], [])

    def test_a_users_second_connection_is_not_announced(self, join: Join) -> None:
        alice = join("alice")
        first = join("bob")
        join("bob", "bob2")
        first.asks("subscribe", channel=ROOM)
        assert changes(alice) == ["bob join"]

    def test_anonymous_members_are_not_announced(self, join: Join, jobs: FakeJobs) -> None:
        alice, stranger = join("alice"), join(None, "stranger")
        stranger.asks("unsubscribe", channel=ROOM)
        stranger.asks("subscribe", channel=ROOM)
        stranger.disconnects()
        assert (changes(alice), jobs.put_jobs) == ([], [])
        assert alice.asks("presence", channel=ROOM)["count"] == 1

    def test_other_namespaces_announce_nothing(self, join: Join) -> None:
        alice, bob = join("alice"), join("bob")
        changes(alice)
        for client in (alice, bob):
            client.asks("subscribe", channel="live:map")
        bob.asks("unsubscribe", channel="live:map")
        assert changes(alice) == []

    def test_a_large_channel_announces_nothing(self, join: Join, peal: Peal) -> None:
        peal.presence_manager.limits = LIMITS._replace(told=1)
        alice, _, _ = join("alice"), join("bob"), join("carol")
        assert changes(alice) == ["bob join"]

    def test_a_subscriber_without_its_reply_is_not_announced(self, join: Join, peal: Peal) -> None:
        alice = join("alice")
        bob = Client(peal, alice.api, "bob=", userId="bob")
        alice.api.fails["bob="] = [gone(), gone()]
        bob.sends({"action": "subscribe", "id": 1, "channel": ROOM})
        assert changes(alice) == []


class TestLeave:
    def test_unsubscribing_announces_a_leave_at_once(self, join: Join) -> None:
        alice, bob, tablet = join("alice"), join("bob"), join("bob", "tablet")
        changes(alice)
        bob.asks("unsubscribe", channel=ROOM)
        assert changes(alice) == []
        tablet.asks("unsubscribe", channel=ROOM)
        assert changes(alice) == ["bob leave"]
        assert alice.asks("presence", channel=ROOM)["count"] == 1

    def test_a_lost_connection_is_a_leave_after_the_grace_period(
        self, join: Join, work: Callable[[], None], jobs: FakeJobs
    ) -> None:
        alice, bob = join("alice"), join("bob")
        changes(alice)
        bob.disconnects()
        assert [delay for _, delay in jobs.put_jobs] == [LIMITS.grace_seconds]
        assert changes(alice) == []
        assert {"userId": "bob", "connections": 0, "attributes": {}} in alice.asks("presence", channel=ROOM)["members"]
        work()
        assert changes(alice) == ["bob leave"]
        assert alice.asks("presence", channel=ROOM)["count"] == 1

    def test_a_user_that_reconnects_in_time_has_not_left(self, join: Join, work: Callable[[], None]) -> None:
        alice, bob = join("alice"), join("bob")
        changes(alice)
        bob.disconnects()
        join("bob", "bob2")
        work()
        assert changes(alice) == []
        assert alice.asks("presence", channel=ROOM)["connections"] == 2

    def test_two_connections_lost_together_are_one_leave(
        self, join: Join, work: Callable[[], None], clock: Clock
    ) -> None:
        alice, bob, tablet = join("alice"), join("bob"), join("bob", "tablet")
        changes(alice)
        tablet.disconnects()
        bob.disconnects()
        work()
        assert changes(alice) == ["bob leave"]

    def test_a_user_with_another_connection_has_not_left(self, join: Join, work: Callable[[], None]) -> None:
        alice, bob, _ = join("alice"), join("bob"), join("bob", "tablet")
        changes(alice)
        bob.disconnects()
        work()
        assert changes(alice) == []

    def test_a_repeated_job_announces_one_leave(self, join: Join, peal: Peal, jobs: FakeJobs) -> None:
        alice, bob = join("alice"), join("bob")
        changes(alice)
        bob.disconnects()
        (job,) = jobs.take()
        for _ in range(2):
            worker.work(peal, {"Records": [{"body": json.dumps(job)}]})
        assert changes(alice) == ["bob leave"]

    def test_a_job_for_a_connected_user_does_nothing(self, join: Join, peal: Peal) -> None:
        alice, bob = join("alice"), join("bob")
        changes(alice)
        peal.presence_manager.announce_disconnect(peal.members.resolve(ROOM), "bob", bob.id)
        assert changes(alice) == []

    def test_a_dead_connection_leaves_when_a_send_finds_it(self, join: Join, work: Callable[[], None]) -> None:
        alice, bob = join("alice"), join("bob")
        changes(alice)
        alice.api.fails["bob="] = [gone(), gone()]
        assert alice.asks("publish", channel=ROOM, data=1)["gone"] == 1
        work()
        assert bob.id not in [receiver for receiver, _ in alice.api.inbox]

    def test_a_failing_queue_does_not_keep_the_connection(
        self, join: Join, jobs: FakeJobs, caplog: pytest.LogCaptureFixture, clock: Clock
    ) -> None:
        alice, bob = join("alice"), join("bob")
        jobs.error = JobsError("RequestThrottled")
        bob.disconnects()
        assert "The queue of jobs failed: RequestThrottled" in caplog.text
        clock.now += 100
        assert alice.asks("presence", channel=ROOM)["count"] == 1
