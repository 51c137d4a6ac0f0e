"""docs/PROTOCOL.md, "Channels": what a subscriber gets, from raw event to frames."""

from typing import Any

import pytest

from chalicelib.peal import Peal, build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.protocol.namespaces import NAMESPACES
from chalicelib.settings import Settings
from chalicelib.store import keys
from chalicelib.store.connection import Connection
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.support.channels import MAP, ROOM, Connect
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone


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
    def test_an_invalid_channel_is_refused_by_every_action(
        self, alice: Client, action: str, channel: object, message: str
    ) -> None:
        alice.sends({"action": action, "id": 1, "channel": channel, "data": 1})
        alice.gets_error("invalid", message, 1)


class TestSubscribe:
    def test_the_reply_has_the_position_and_the_next_publication_follows(self, alice: Client, bob: Client) -> None:
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

    def test_without_an_id_the_subscription_is_made_without_a_reply(self, alice: Client, bob: Client) -> None:
        for channel in (ROOM, MAP):
            alice.sends({"action": "subscribe", "channel": channel})
            alice.receives_nothing()
            bob.asks("publish", channel=channel, data=1)
            assert alice.receives_in(channel) == [1]

    def test_subscribing_twice_is_no_error_and_repeats_nothing(self, alice: Client, bob: Client) -> None:
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
    def test_one_too_many_is_limit_exceeded_and_the_others_remain(
        self, table_name: str, api: FakeWebsocketApi, session: Any, clock: Clock, jobs: FakeJobs, namespace: str
    ) -> None:
        settings = Settings(table_name, max_channels=2, allow_anonymous=True, anonymous_grants=EVERYTHING)
        alice = Client(build(settings, api, session, clock, jobs=jobs), api, "alice=")
        for n in (1, 2, 1):
            alice.asks("subscribe", channel=f"{namespace}:{n}")
        alice.sends({"action": "subscribe", "channel": f"{namespace}:3"})
        alice.gets_error("limit_exceeded", "At most 2 channels.")
        assert alice.asks("whoami")["channels"] == [f"{namespace}:1", f"{namespace}:2"]
        alice.asks("unsubscribe", channel=f"{namespace}:1")
        alice.asks("subscribe", channel=f"{namespace}:3")

    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_a_client_that_cannot_be_sent_the_reply_is_no_member(
        self, alice: Client, bob: Client, channel: str
    ) -> None:
        alice.api.fails[alice.id] = [gone(), gone()]
        alice.sends({"action": "subscribe", "id": 1, "channel": channel})
        assert bob.asks("publish", channel=channel, data=1)["sent"] == 0
        alice.receives_nothing()

    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_a_socket_that_closes_meanwhile_leaves_no_membership(
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

    def test_a_connection_without_a_row_cannot_subscribe(self, alice: Client, peal: Peal, connect: Connect) -> None:
        ghost = Connection("ghost=", "", 0, None, "u", None, None, None, {})
        with pytest.raises(Exception, match="Not signed in"):
            peal.subscribe(ghost, ROOM, None, None)


class TestUnsubscribe:
    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_no_publication_arrives_any_more(self, alice: Client, bob: Client, channel: str) -> None:
        alice.asks("subscribe", channel=channel)
        assert alice.asks("unsubscribe", channel=channel) == {"channel": channel}
        bob.asks("publish", channel=channel, data=1)
        alice.receives_nothing()
        assert alice.asks("whoami")["channels"] == []

    def test_leaving_a_channel_without_a_membership_is_not_subscribed(self, alice: Client) -> None:
        alice.sends({"action": "unsubscribe", "id": 1, "channel": ROOM})
        alice.gets_error("not_subscribed", "Not subscribed to this channel.", 1)


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

    def test_a_removed_namespace_does_no_harm(
        self, table_name: str, api: FakeWebsocketApi, session: Any, clock: Clock, jobs: FakeJobs, alice: Client
    ) -> None:
        alice.asks("subscribe", channel=MAP)
        namespaces = {name: options for name, options in NAMESPACES.items() if name != "live"}
        settings = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING)
        alice.peal = build(settings, api, session, clock, namespaces=namespaces, jobs=jobs)
        alice.disconnects()
        with pytest.raises(Exception, match="There is no such connection"):
            alice.peal.connection(alice.id)

    def test_direct_messages_are_not_sent_to_channels(self, alice: Client, bob: Client) -> None:
        bob.asks("subscribe", channel=ROOM)
        alice.asks("sendMessage", targetUserId="bob", text="hi")
        (frame,) = bob.api.frames(bob.id)
        assert frame["type"] == "message"
