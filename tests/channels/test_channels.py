"""docs/PROTOCOL.md, "Channels": what members, publishers and those who come back see, from raw event to frames."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.errors import ServiceError, TableError
from chalicelib.handlers import jobs as worker
from chalicelib.peal import Peal, build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.protocol.namespaces import NAMESPACES, Namespace
from chalicelib.settings import Settings
from chalicelib.store import keys
from chalicelib.store.connection import Connection
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone, refused

ROOM, MAP, FEED = "chat:lobby", "live:map", "feed:news"
Connect = Callable[..., Client]


@pytest.fixture
def connect(peal: Peal, api: FakeWebsocketApi) -> Connect:
    """Connects a user; a second connection of the same user gets a name of its own."""

    def connect(user: str, name: str | None = None) -> Client:
        return Client(peal, api, f"{name or user}=", userId=user)

    return connect


@pytest.fixture
def alice(connect: Connect) -> Client:
    return connect("alice")


@pytest.fixture
def bob(connect: Connect) -> Client:
    return connect("bob")


def texts(publications: list[dict[str, Any]]) -> list[Any]:
    return [publication["data"] for publication in publications]


class TestNames:
    @pytest.mark.parametrize(
        ("channel", "message"),
        [
            ("lobby", "channel must be namespace:name."),
            ("chat:", "channel must be namespace:name."),
            ("chats:lobby", "channel must be in one of the namespaces chat, feed, live, user."),
            ("chat:a#b", "channel must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -."),
            ("chat:" + "x" * 124, "channel must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -."),
            (7, "channel must be a string that is not empty."),
        ],
    )
    @pytest.mark.parametrize("action", ["subscribe", "unsubscribe", "publish", "presence", "history"])
    def test_what_is_no_channel_is_refused_everywhere(
        self, alice: Client, action: str, channel: object, message: str
    ) -> None:
        alice.sends({"action": action, "id": 1, "channel": channel, "data": 1})
        alice.is_told("invalid", message, 1)


class TestSubscribe:
    def test_the_reply_says_where_one_joins_and_the_next_publication_follows(self, alice: Client, bob: Client) -> None:
        joined = alice.asks("subscribe", channel=ROOM)
        assert joined == {"channel": ROOM, "epoch": joined["epoch"], "offset": 0}
        bob.asks("publish", channel=ROOM, data="hi")
        (push,) = alice.api.frames(alice.id)
        assert push == {
            "type": "publication",
            "channel": ROOM,
            "epoch": joined["epoch"],
            "offset": 1,
            "data": "hi",
            "from": {"userId": "bob", "connectionId": "bob="},
            "time": "2026-11-23T09:30:10.000Z",
            "messageId": None,
        }

    def test_without_history_there_is_neither_epoch_nor_offset(self, alice: Client, bob: Client) -> None:
        assert alice.asks("subscribe", channel=MAP) == {"channel": MAP, "epoch": None, "offset": None}
        bob.asks("publish", channel=MAP, data={"x": 1})
        (push,) = alice.api.frames(alice.id)
        assert (push["epoch"], push["offset"], push["data"]) == (None, None, {"x": 1})

    def test_without_an_id_there_is_no_reply_and_the_subscription_stands(self, alice: Client, bob: Client) -> None:
        for channel in (ROOM, MAP):
            alice.sends({"action": "subscribe", "channel": channel})
            alice.receives_nothing()
            bob.asks("publish", channel=channel, data=1)
            assert alice.receives_in(channel) == [1]

    def test_twice_is_no_error_and_nothing_comes_twice(self, alice: Client, bob: Client) -> None:
        alice.asks("subscribe", channel=ROOM)
        bob.asks("publish", channel=ROOM, data=1)
        assert alice.asks("subscribe", channel=ROOM)["offset"] == 1
        bob.asks("publish", channel=ROOM, data=2)
        assert alice.receives_in(ROOM) == [1, 2]

    def test_other_channels_are_not_heard(self, alice: Client, bob: Client) -> None:
        alice.asks("subscribe", channel=ROOM)
        bob.asks("publish", channel="chat:other", data=1)
        alice.receives_nothing()

    def test_whoami_names_them(self, alice: Client) -> None:
        for channel in (MAP, ROOM):
            alice.asks("subscribe", channel=channel)
        assert alice.asks("whoami")["channels"] == [ROOM, MAP]

    @pytest.mark.parametrize("namespace", ["chat", "live"])
    def test_one_too_many_is_limit_exceeded_and_the_others_stand(
        self, table_name: str, api: FakeWebsocketApi, session: Any, clock: Clock, jobs: FakeJobs, namespace: str
    ) -> None:
        settings = Settings(table_name, max_channels=2, allow_anonymous=True, anonymous_grants=EVERYTHING)
        alice = Client(build(settings, api, session, clock, jobs=jobs), api, "alice=")
        for n in (1, 2, 1):
            alice.asks("subscribe", channel=f"{namespace}:{n}")
        alice.sends({"action": "subscribe", "channel": f"{namespace}:3"})
        alice.is_told("limit_exceeded", "At most 2 channels.")
        assert alice.asks("whoami")["channels"] == [f"{namespace}:1", f"{namespace}:2"]
        alice.asks("unsubscribe", channel=f"{namespace}:1")
        alice.asks("subscribe", channel=f"{namespace}:3")

    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_who_cannot_be_told_is_no_member(self, alice: Client, bob: Client, channel: str) -> None:
        alice.api.fails[alice.id] = [gone(), gone()]
        alice.sends({"action": "subscribe", "id": 1, "channel": channel})
        assert bob.asks("publish", channel=channel, data=1)["sent"] == 0
        alice.receives_nothing()

    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_whose_socket_closes_meanwhile_leaves_no_membership(
        self, alice: Client, rows: Table, monkeypatch: pytest.MonkeyPatch, channel: str
    ) -> None:
        put = Table.put

        def close_before(table: Table, item: Any) -> None:
            if item["PK"].startswith("CHAN#"):
                alice.disconnects()
            put(table, item)

        monkeypatch.setattr(Table, "put", close_before)
        alice.sends({"action": "subscribe", "channel": channel})
        partition = keys.members_partition(channel, 0)
        assert [row for row in rows.query(partition, "CONN#", "CONN$") if "leftAt" not in row] == []

    def test_whose_row_is_gone_is_not_subscribed(self, alice: Client, peal: Peal, connect: Connect) -> None:
        ghost = Connection("ghost=", "", 0, None, "u", None, None, None, {})
        with pytest.raises(Exception, match="Not signed in"):
            peal.subscribe(ghost, ROOM, None, None)


class TestUnsubscribe:
    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_nothing_comes_any_more(self, alice: Client, bob: Client, channel: str) -> None:
        alice.asks("subscribe", channel=channel)
        assert alice.asks("unsubscribe", channel=channel) == {"channel": channel}
        bob.asks("publish", channel=channel, data=1)
        alice.receives_nothing()
        assert alice.asks("whoami")["channels"] == []

    def test_where_one_is_not_is_not_subscribed(self, alice: Client) -> None:
        alice.sends({"action": "unsubscribe", "id": 1, "channel": ROOM})
        alice.is_told("not_subscribed", "Not subscribed to this channel.", 1)


class TestPublish:
    def test_the_reply_says_where_it_stands_and_what_became_of_it(self, alice: Client, bob: Client) -> None:
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
        alice.is_told("invalid", message)

    @pytest.mark.parametrize("channel", [FEED, "user:alice"])
    def test_where_only_servers_publish_clients_are_forbidden_to(self, alice: Client, peal: Peal, channel: str) -> None:
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
    def test_later_or_elsewhere_it_is_another_message(
        self, alice: Client, bob: Client, clock: Clock, channel: str
    ) -> None:
        for name in (channel, f"{channel}2"):
            bob.asks("subscribe", channel=name)
            alice.asks("publish", channel=name, data=1, messageId="m-1")
            assert bob.receives_in(name) == [1]
        clock.now += 301
        alice.asks("publish", channel=channel, data=1, messageId="m-1")
        assert bob.receives_in(channel) == [1]

    def test_one_whose_sending_failed_may_come_again(
        self, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bob.asks("subscribe", channel=MAP)
        with monkeypatch.context() as patch:
            patch.setattr(Table, "query", failing("Query"))
            assert alice.is_refused("publish", channel=MAP, data=1, messageId="m-1") == "internal_error"
            assert alice.is_refused("publish", channel=MAP, data=1) == "internal_error"
        alice.asks("publish", channel=MAP, data=1, messageId="m-1")
        assert bob.receives_in(MAP) == [1]

    def test_one_that_was_written_but_not_sent_is_sent_when_it_comes_again(
        self, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bob.asks("subscribe", channel=ROOM)
        with monkeypatch.context() as patch:
            patch.setattr(Table, "query", failing("Query"))
            assert alice.is_refused("publish", channel=ROOM, data=1, messageId="m-1") == "internal_error"
        bob.receives_nothing()
        assert alice.asks("publish", channel=ROOM, data=1, messageId="m-1")["offset"] == 1
        assert bob.receives_in(ROOM) == [1]


def failing(operation: str) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise TableError(operation, "ProvisionedThroughputExceededException")

    return fail


class TestRecovery:
    def test_who_comes_back_is_given_exactly_what_it_missed(self, alice: Client, bob: Client, connect: Connect) -> None:
        bob.asks("subscribe", channel=ROOM)
        alice.asks("publish", channel=ROOM, data=1)
        (push,) = (frame for frame in bob.api.frames(bob.id) if frame["type"] == "publication")
        bob.disconnects()
        for n in (2, 3):
            alice.asks("publish", channel=ROOM, data=n)
        bob = connect("bob", "bob2")
        recover = {"epoch": push["epoch"], "offset": push["offset"]}
        back = bob.asks("subscribe", channel=ROOM, recover=recover)
        assert (back["recovered"], back["offset"], texts(back["publications"])) == (True, 3, [2, 3])
        assert back["publications"][0] == {
            "offset": 2,
            "data": 2,
            "from": {"userId": "alice", "connectionId": "alice="},
            "time": "2026-11-23T09:30:10.000Z",
            "messageId": None,
        }
        alice.asks("publish", channel=ROOM, data=4)
        assert bob.receives_in(ROOM) == [4]

    def test_who_missed_nothing_is_given_nothing(self, alice: Client) -> None:
        epoch = alice.asks("subscribe", channel=ROOM)["epoch"]
        alice.asks("publish", channel=ROOM, data=1)
        back = alice.asks("subscribe", channel=ROOM, recover={"epoch": epoch, "offset": 1})
        assert (back["recovered"], back["publications"]) == (True, [])

    @pytest.mark.parametrize("offset", [2, 1_000_000])
    def test_of_an_offset_that_never_was_nothing_is_recovered(self, alice: Client, offset: int) -> None:
        epoch = alice.asks("subscribe", channel=ROOM)["epoch"]
        alice.asks("publish", channel=ROOM, data=1)
        back = alice.asks("subscribe", channel=ROOM, recover={"epoch": epoch, "offset": offset})
        assert (back["recovered"], back["offset"], back["publications"]) == (False, 1, [])

    def test_of_another_epoch_nothing_is_recovered(self, alice: Client) -> None:
        alice.asks("publish", channel=ROOM, data=1)
        back = alice.asks("subscribe", channel=ROOM, recover={"epoch": "another", "offset": 0})
        assert (back["recovered"], back["offset"], back["publications"]) == (False, 1, [])

    def test_without_history_nothing_is_recovered(self, alice: Client) -> None:
        back = alice.asks("subscribe", channel=MAP, recover={"epoch": "x", "offset": 0})
        assert (back["recovered"], back["publications"]) == (False, [])

    @pytest.mark.parametrize(
        "recover", [7, [], {}, {"epoch": "x"}, {"epoch": "x", "offset": -1}, {"epoch": 1, "offset": 1}, {"offset": 1}]
    )
    def test_what_is_no_position_is_refused(self, alice: Client, recover: object) -> None:
        alice.sends({"action": "subscribe", "channel": ROOM, "recover": recover})
        message = "recover must be an object with an epoch, a string, and an offset, a whole number."
        alice.is_told("invalid", message)

    def test_what_does_not_fit_one_frame_comes_in_parts_before_the_reply(self, alice: Client, bob: Client) -> None:
        epoch = bob.asks("subscribe", channel=ROOM)["epoch"]
        bob.asks("unsubscribe", channel=ROOM)
        data = [f"{n}" * 9_000 for n in range(1, 9)]
        for text in data:
            alice.asks("publish", channel=ROOM, data=text)
        bob.sends({"action": "subscribe", "id": 1, "channel": ROOM, "recover": {"epoch": epoch, "offset": 0}})
        *parts, reply = bob.api.frames(bob.id)
        assert [part["type"] for part in parts] == ["recovery", "recovery"]
        assert {key: parts[0][key] for key in ("channel", "epoch")} == {"channel": ROOM, "epoch": epoch}
        assert (reply["data"]["recovered"], reply["data"]["offset"]) == (True, 8)
        got = [*texts(parts[0]["publications"]), *texts(parts[1]["publications"])]
        assert got + texts(reply["data"]["publications"]) == data

    def test_who_goes_while_it_is_given_them_is_no_member(self, alice: Client, bob: Client) -> None:
        epoch = bob.asks("subscribe", channel=ROOM)["epoch"]
        bob.asks("unsubscribe", channel=ROOM)
        for n in range(4):
            alice.asks("publish", channel=ROOM, data=f"{n}" * 20_000)
        bob.api.fails[bob.id] = [gone(), gone()]
        bob.sends({"action": "subscribe", "id": 1, "channel": ROOM, "recover": {"epoch": epoch, "offset": 0}})
        bob.receives_nothing()
        assert alice.asks("publish", channel=ROOM, data=1)["sent"] == 0

    def test_what_its_own_sender_was_spared_is_recovered_all_the_same(self, alice: Client) -> None:
        epoch = alice.asks("subscribe", channel=ROOM)["epoch"]
        alice.asks("publish", channel=ROOM, data=1, exclude=True)
        back = alice.asks("subscribe", channel=ROOM, recover={"epoch": epoch, "offset": 0})
        assert texts(back["publications"]) == [1]

    def test_what_is_older_than_the_namespace_keeps_is_not_recovered(
        self, table_name: str, api: FakeWebsocketApi, session: Any, clock: Clock, jobs: FakeJobs
    ) -> None:
        small = NAMESPACES | {"chat": Namespace(history_size=3, history_ttl_seconds=60)}
        settings = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING)
        alice = Client(build(settings, api, session, clock, namespaces=small, jobs=jobs), api, "alice=")
        for n in range(1, 6):
            epoch = alice.asks("publish", channel=ROOM, data=n)["epoch"]
        for offset, data in [(2, [3, 4, 5]), (1, None)]:
            back = alice.asks("subscribe", channel=ROOM, recover={"epoch": epoch, "offset": offset})
            assert (back["recovered"], texts(back["publications"])) == (data is not None, data or [])
        assert texts(alice.asks("history", channel=ROOM)["publications"]) == [3, 4, 5]
        clock.now += 30
        alice.asks("publish", channel=ROOM, data=6)
        clock.now += 31
        # All but the last have outlived their time, swept or not.
        for offset, data in [(5, [6]), (4, None)]:
            back = alice.asks("subscribe", channel=ROOM, recover={"epoch": epoch, "offset": offset})
            assert (back["recovered"], texts(back["publications"])) == (data is not None, data or [])
        assert texts(alice.asks("history", channel=ROOM)["publications"]) == [6]


class TestHistory:
    def test_pages_lead_from_the_oldest_to_the_newest_and_back(self, alice: Client) -> None:
        for n in range(1, 8):
            epoch = alice.asks("publish", channel=ROOM, data=n)["epoch"]
        for reverse, expected in [(False, [[1, 2, 3], [4, 5, 6], [7], []]), (True, [[7, 6, 5], [4, 3, 2], [1], []])]:
            since, pages = None, []
            while not pages or pages[-1]:
                page = alice.asks("history", channel=ROOM, since=since, limit=3, reverse=reverse)
                assert (page["channel"], page["epoch"], page["offset"]) == (ROOM, epoch, 7)
                pages.append(texts(page["publications"]))
                since = {"epoch": epoch, "offset": page["publications"][-1]["offset"]} if pages[-1] else None
            assert pages == expected

    def test_a_page_ends_where_a_frame_is_full_and_holds_at_least_one(self, alice: Client) -> None:
        for n in range(1, 4):
            alice.asks("publish", channel=ROOM, data=f"{n}" * 31_000)
        page = alice.asks("history", channel=ROOM)
        assert texts(page["publications"]) == ["1" * 31_000]

    def test_of_a_channel_nobody_has_used_it_is_empty(self, alice: Client) -> None:
        page = alice.asks("history", channel=ROOM)
        assert (page["offset"], page["publications"]) == (0, [])

    def test_with_limit_0_it_says_where_the_channel_stands(self, alice: Client) -> None:
        alice.asks("publish", channel=ROOM, data=1)
        page = alice.asks("history", channel=ROOM, limit=0)
        assert (page["offset"], page["publications"]) == (1, [])

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"limit": 1_001}, "limit must be a whole number from 0 to 1000."),
            ({"limit": -1}, "limit must be a whole number from 0 to 1000."),
            ({"limit": True}, "limit must be a whole number from 0 to 1000."),
            ({"limit": 1.0}, "limit must be a whole number from 0 to 1000."),
            ({"reverse": 1}, "reverse must be true or false."),
            ({"since": 7}, "since must be an object with an epoch, a string, and an offset, a whole number."),
            ({"since": {"epoch": "another", "offset": 0}}, "since is of an epoch that is over."),
            ({"channel": MAP}, "channel is in a namespace without history."),
        ],
    )
    def test_what_is_wrong_is_named(self, alice: Client, fields: dict[str, Any], message: str) -> None:
        alice.sends({"action": "history", "channel": ROOM, **fields})
        alice.is_told("invalid", message)

    @pytest.mark.any_frames
    def test_a_row_of_another_version_reads_as_far_as_it_can_be_understood(
        self, alice: Client, dynamodb: Any, table_name: str
    ) -> None:
        epoch = alice.asks("publish", channel=ROOM, data=1)["epoch"]
        key = {name: {"S": text} for name, text in keys.publication_key(ROOM, epoch, 1).items()}
        dynamodb.put_item(TableName=table_name, Item=key | {"data": {"S": "{"}, "from": {"S": "[]"}, "new": {"L": []}})
        (publication,) = alice.asks("history", channel=ROOM)["publications"]
        assert publication == {"offset": 1, "data": None, "from": None, "time": "", "messageId": None}


class TestEnds:
    def test_a_connection_that_ends_is_in_no_channel(self, alice: Client, bob: Client) -> None:
        for channel in (ROOM, MAP):
            bob.asks("subscribe", channel=channel)
        bob.disconnects()
        for channel in (ROOM, MAP):
            assert alice.asks("publish", channel=channel, data=1)["sent"] == 0

    def test_it_costs_one_write_per_channel_in_batches(
        self, alice: Client, dynamodb_calls: list[str], peal: Peal
    ) -> None:
        for n in range(30):
            alice.sends({"action": "subscribe", "channel": f"live:{n}"})
        del dynamodb_calls[:]
        alice.disconnects()
        assert len(dynamodb_calls) <= 3

    def test_a_namespace_that_is_declared_no_more_does_no_harm(
        self, table_name: str, api: FakeWebsocketApi, session: Any, clock: Clock, jobs: FakeJobs, alice: Client
    ) -> None:
        alice.asks("subscribe", channel=MAP)
        namespaces = {name: options for name, options in NAMESPACES.items() if name != "live"}
        settings = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING)
        alice.peal = build(settings, api, session, clock, namespaces=namespaces, jobs=jobs)
        alice.disconnects()
        with pytest.raises(Exception, match="There is no such connection"):
            alice.peal.connection(alice.id)

    def test_the_frames_of_other_kinds_are_not_heard_by_members(self, alice: Client, bob: Client) -> None:
        bob.asks("subscribe", channel=ROOM)
        alice.asks("sendMessage", targetUserId="bob", text="hi")
        (frame,) = bob.api.frames(bob.id)
        assert frame["type"] == "message"


class TestFailedSends:
    def test_a_member_that_could_not_be_sent_one_is_closed_so_that_it_comes_back(
        self, alice: Client, bob: Client
    ) -> None:
        bob.asks("subscribe", channel=ROOM)
        bob.api.fails[bob.id] = [refused("LimitExceededException")]
        assert alice.asks("publish", channel=ROOM, data=1)["failed"] == 1
        assert bob.api.closed == [bob.id]
        # Until it has: never the next one without the one before.
        assert alice.asks("publish", channel=ROOM, data=2)["sent"] == 0
        bob.receives_nothing()

    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_a_subscriber_that_could_not_be_told_is_closed_so_that_it_comes_back(
        self, alice: Client, bob: Client, channel: str
    ) -> None:
        bob.api.fails[bob.id] = [refused("LimitExceededException")]
        bob.sends({"action": "subscribe", "id": 1, "channel": channel})
        assert bob.api.closed == [bob.id]
        assert alice.asks("publish", channel=channel, data=1)["sent"] == 0
        bob.receives_nothing()

    def test_where_it_cannot_be_closed_either_a_job_will(
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

    def test_where_it_cannot_be_closed_either_its_next_frame_is_refused(self, alice: Client, bob: Client) -> None:
        bob.asks("subscribe", channel=ROOM)
        bob.api.fails[bob.id] = [refused("LimitExceededException"), refused("LimitExceededException")]
        alice.asks("publish", channel=ROOM, data=1)
        bob.sends({"action": "whoami"})
        (frame, *_) = [json.loads(text) for receiver, text in bob.api.inbox if receiver == bob.id]
        assert frame["error"]["code"] == "unauthenticated"

    def test_where_nothing_is_promised_nobody_is_closed(self, alice: Client, bob: Client) -> None:
        bob.asks("subscribe", channel=MAP)
        bob.api.fails[bob.id] = [refused("LimitExceededException")]
        assert alice.asks("publish", channel=MAP, data=1)["failed"] == 1
        assert bob.api.closed == []
        assert alice.asks("publish", channel=MAP, data=2)["sent"] == 1
