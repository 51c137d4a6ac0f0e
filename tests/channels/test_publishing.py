"""docs/PROTOCOL.md, "Channels": what publishers and members get, from raw event to frames."""

import json
from typing import Any

import pytest

from chalicelib.errors import ServiceError
from chalicelib.handlers import jobs as worker
from chalicelib.peal import Peal
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.support.channels import FEED, MAP, ROOM, Connect, failing, texts
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone, refused


class TestPublish:
    def test_the_reply_has_the_position_and_the_counts(self, alice: Client, bob: Client) -> None:
        epoch = alice.asks("subscribe", channel=ROOM)["epoch"]
        published = bob.asks("publish", channel=ROOM, data=1)
        assert published == {"channel": ROOM, "epoch": epoch, "offset": 1, "sent": 1, "gone": 0, "failed": 0}

    def test_the_publisher_gets_its_own_unless_it_says_otherwise(self, alice: Client) -> None:
        for channel in (ROOM, MAP):
            alice.asks("subscribe", channel=channel)
            assert alice.asks("publish", channel=channel, data=1)["sent"] == 1
            assert alice.asks("publish", channel=channel, data=2, exclude=True)["sent"] == 0
            alice.asks("publish", channel=channel, data=3)
            assert alice.receives_in(channel) == [1, 3]

    @pytest.mark.parametrize("data", [None, False, 0, "", [], {}, "ü€😀", [1, {"a": [None]}], 1.5])
    def test_data_is_any_json(self, alice: Client, data: object) -> None:
        for channel in (ROOM, MAP):
            alice.asks("subscribe", channel=channel)
            alice.asks("publish", channel=channel, data=data)
            assert alice.receives_in(channel) == [data]
        assert texts(alice.asks("history", channel=ROOM)["publications"]) == [data]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({}, "data must be given."),
            ({"data": 1, "exclude": "yes"}, "exclude must be true or false."),
            ({"data": 1, "messageId": 7}, "messageId must be a string."),
            (
                {"data": 1, "messageId": "a#b"},
                "messageId must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -.",
            ),
        ],
    )
    def test_what_is_wrong_is_named(self, alice: Client, fields: dict[str, Any], message: str) -> None:
        alice.sends({"action": "publish", "channel": ROOM, **fields})
        alice.gets_error("invalid", message)

    @pytest.mark.parametrize("channel", [FEED, "user:alice"])
    def test_clients_may_not_publish_where_only_servers_may(self, alice: Client, peal: Peal, channel: str) -> None:
        alice.asks("subscribe", channel=channel)
        assert alice.is_refused("publish", channel=channel, data=1) == "forbidden"
        peal.publish(channel, "from a server")
        (push,) = alice.api.frames(alice.id)
        assert (push["data"], push["from"]) == ("from a server", None)

    def test_a_whole_frame_of_data_arrives(self, alice: Client) -> None:
        alice.asks("subscribe", channel=ROOM)
        alice.asks("publish", channel=ROOM, data="x" * 31_900)
        assert alice.receives_in(ROOM) == ["x" * 31_900]

    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_one_dead_member_never_stops_the_others_and_is_forgotten(
        self, alice: Client, bob: Client, connect: Connect, channel: str
    ) -> None:
        carol = connect("carol")
        for client in (alice, bob, carol):
            client.sends({"action": "subscribe", "channel": channel})
        bob.api.fails[bob.id] = [gone(), gone()]
        outcome = alice.asks("publish", channel=channel, data=1)
        assert (outcome["sent"], outcome["gone"], outcome["failed"]) == (2, 1, 0)
        assert carol.receives_in(channel) == [1]
        assert alice.asks("publish", channel=channel, data=2)["gone"] == 0
        assert bob.receives_in(channel) == []

    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_a_false_410_costs_nothing(self, alice: Client, bob: Client, channel: str) -> None:
        bob.asks("subscribe", channel=channel)
        bob.api.fails[bob.id] = [gone()]
        outcome = alice.asks("publish", channel=channel, data=1)
        assert (outcome["sent"], outcome["gone"]) == (1, 0)
        assert bob.receives_in(channel) == [1]


class TestMessageId:
    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_the_same_within_five_minutes_is_published_once(
        self, alice: Client, bob: Client, clock: Clock, channel: str
    ) -> None:
        bob.asks("subscribe", channel=channel)
        first = alice.asks("publish", channel=channel, data=1, messageId="m-1")
        alice.asks("publish", channel=channel, data=2)
        clock.now += 299
        again = alice.asks("publish", channel=channel, data=1, messageId="m-1")
        assert again == {"channel": channel, "epoch": first["epoch"], "offset": first["offset"], "queued": True}
        assert bob.receives_in(channel) == [1, 2]

    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_the_same_later_or_in_another_channel_is_published_again(
        self, alice: Client, bob: Client, clock: Clock, channel: str
    ) -> None:
        for name in (channel, f"{channel}2"):
            bob.asks("subscribe", channel=name)
            alice.asks("publish", channel=name, data=1, messageId="m-1")
            assert bob.receives_in(name) == [1]
        clock.now += 301
        alice.asks("publish", channel=channel, data=1, messageId="m-1")
        assert bob.receives_in(channel) == [1]

    def test_a_message_that_was_not_sent_may_be_retried(
        self, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bob.asks("subscribe", channel=MAP)
        with monkeypatch.context() as patch:
            patch.setattr(Table, "query", failing("Query"))
            assert alice.is_refused("publish", channel=MAP, data=1, messageId="m-1") == "internal_error"
            assert alice.is_refused("publish", channel=MAP, data=1) == "internal_error"
        alice.asks("publish", channel=MAP, data=1, messageId="m-1")
        assert bob.receives_in(MAP) == [1]

    def test_a_message_written_but_not_sent_is_sent_when_it_is_retried(
        self, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bob.asks("subscribe", channel=ROOM)
        with monkeypatch.context() as patch:
            patch.setattr(Table, "query", failing("Query"))
            assert alice.is_refused("publish", channel=ROOM, data=1, messageId="m-1") == "internal_error"
        bob.receives_nothing()
        assert alice.asks("publish", channel=ROOM, data=1, messageId="m-1")["offset"] == 1
        assert bob.receives_in(ROOM) == [1]


class TestFailedSends:
    def test_a_member_that_could_not_be_sent_to_is_closed(self, alice: Client, bob: Client) -> None:
        bob.asks("subscribe", channel=ROOM)
        bob.api.fails[bob.id] = [refused("LimitExceededException")]
        assert alice.asks("publish", channel=ROOM, data=1)["failed"] == 1
        assert bob.api.closed == [bob.id]
        # Until it has: never the next one without the one before.
        assert alice.asks("publish", channel=ROOM, data=2)["sent"] == 0
        bob.receives_nothing()

    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_a_subscriber_that_could_not_be_sent_its_reply_is_closed(
        self, alice: Client, bob: Client, channel: str
    ) -> None:
        bob.api.fails[bob.id] = [refused("LimitExceededException")]
        bob.sends({"action": "subscribe", "id": 1, "channel": channel})
        assert bob.api.closed == [bob.id]
        assert alice.asks("publish", channel=channel, data=1)["sent"] == 0
        bob.receives_nothing()

    def test_a_member_that_cannot_be_closed_is_closed_by_a_job(
        self, alice: Client, bob: Client, peal: Peal, jobs: FakeJobs, api: FakeWebsocketApi
    ) -> None:
        bob.asks("subscribe", channel=ROOM)
        api.fails[bob.id] = [refused("LimitExceededException") for _ in range(3)]
        alice.asks("publish", channel=ROOM, data=1)
        assert jobs.put_jobs == [({"job": "close", "connectionId": bob.id}, 5)]
        (job,) = jobs.take()
        event = {"Records": [{"body": json.dumps(job)}]}
        with pytest.raises(ServiceError, match="^Closing bob= failed: ClientError$"):
            worker.work(peal, event)
        worker.work(peal, event)
        assert api.closed == [bob.id]

    def test_a_member_that_cannot_be_closed_has_its_next_frame_refused(self, alice: Client, bob: Client) -> None:
        bob.asks("subscribe", channel=ROOM)
        bob.api.fails[bob.id] = [refused("LimitExceededException"), refused("LimitExceededException")]
        alice.asks("publish", channel=ROOM, data=1)
        bob.sends({"action": "whoami"})
        (frame, *_) = [json.loads(text) for receiver, text in bob.api.inbox if receiver == bob.id]
        assert frame["error"]["code"] == "unauthenticated"

    def test_without_history_no_member_is_closed(self, alice: Client, bob: Client) -> None:
        bob.asks("subscribe", channel=MAP)
        bob.api.fails[bob.id] = [refused("LimitExceededException")]
        assert alice.asks("publish", channel=MAP, data=1)["failed"] == 1
        assert bob.api.closed == []
        assert alice.asks("publish", channel=MAP, data=2)["sent"] == 1
