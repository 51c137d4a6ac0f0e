"""docs/PROTOCOL.md, "Channels": what a client that reconnects recovers, and the pages of a history."""

from typing import Any

import pytest

from chalicelib.peal import build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.protocol.namespaces import NAMESPACES, Namespace
from chalicelib.settings import Settings
from chalicelib.store import keys
from tests.conftest import Clock
from tests.support.channels import MAP, ROOM, Connect, texts
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone


class TestRecovery:
    def test_a_client_that_reconnects_gets_exactly_what_it_missed(
        self, alice: Client, bob: Client, connect: Connect
    ) -> None:
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

    def test_a_client_that_missed_nothing_gets_nothing(self, alice: Client) -> None:
        epoch = alice.asks("subscribe", channel=ROOM)["epoch"]
        alice.asks("publish", channel=ROOM, data=1)
        back = alice.asks("subscribe", channel=ROOM, recover={"epoch": epoch, "offset": 1})
        assert (back["recovered"], back["publications"]) == (True, [])

    @pytest.mark.parametrize("offset", [2, 1_000_000])
    def test_nothing_is_recovered_from_an_offset_in_the_future(self, alice: Client, offset: int) -> None:
        epoch = alice.asks("subscribe", channel=ROOM)["epoch"]
        alice.asks("publish", channel=ROOM, data=1)
        back = alice.asks("subscribe", channel=ROOM, recover={"epoch": epoch, "offset": offset})
        assert (back["recovered"], back["offset"], back["publications"]) == (False, 1, [])

    def test_nothing_is_recovered_from_another_epoch(self, alice: Client) -> None:
        alice.asks("publish", channel=ROOM, data=1)
        back = alice.asks("subscribe", channel=ROOM, recover={"epoch": "another", "offset": 0})
        assert (back["recovered"], back["offset"], back["publications"]) == (False, 1, [])

    def test_without_history_nothing_is_recovered(self, alice: Client) -> None:
        back = alice.asks("subscribe", channel=MAP, recover={"epoch": "x", "offset": 0})
        assert (back["recovered"], back["publications"]) == (False, [])

    @pytest.mark.parametrize(
        "recover", [7, [], {}, {"epoch": "x"}, {"epoch": "x", "offset": -1}, {"epoch": 1, "offset": 1}, {"offset": 1}]
    )
    def test_an_invalid_position_is_refused(self, alice: Client, recover: object) -> None:
        alice.sends({"action": "subscribe", "channel": ROOM, "recover": recover})
        message = "recover must be an object with an epoch, a string, and an offset, a whole number."
        alice.gets_error("invalid", message)

    def test_more_than_a_frame_arrives_in_parts_before_the_reply(self, alice: Client, bob: Client) -> None:
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

    def test_a_client_that_disconnects_during_recovery_is_no_member(self, alice: Client, bob: Client) -> None:
        epoch = bob.asks("subscribe", channel=ROOM)["epoch"]
        bob.asks("unsubscribe", channel=ROOM)
        for n in range(4):
            alice.asks("publish", channel=ROOM, data=f"{n}" * 20_000)
        bob.api.fails[bob.id] = [gone(), gone()]
        bob.sends({"action": "subscribe", "id": 1, "channel": ROOM, "recover": {"epoch": epoch, "offset": 0}})
        bob.receives_nothing()
        assert alice.asks("publish", channel=ROOM, data=1)["sent"] == 0

    def test_a_publication_that_excluded_its_sender_is_recovered_by_it(self, alice: Client) -> None:
        epoch = alice.asks("subscribe", channel=ROOM)["epoch"]
        alice.asks("publish", channel=ROOM, data=1, exclude=True)
        back = alice.asks("subscribe", channel=ROOM, recover={"epoch": epoch, "offset": 0})
        assert texts(back["publications"]) == [1]

    def test_publications_no_longer_kept_are_not_recovered(
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
        # All but the last are expired, deleted or not.
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

    def test_a_page_fits_a_frame_and_holds_at_least_one_publication(self, alice: Client) -> None:
        for n in range(1, 4):
            alice.asks("publish", channel=ROOM, data=f"{n}" * 31_000)
        page = alice.asks("history", channel=ROOM)
        assert texts(page["publications"]) == ["1" * 31_000]

    def test_an_unused_channel_has_an_empty_history(self, alice: Client) -> None:
        page = alice.asks("history", channel=ROOM)
        assert (page["offset"], page["publications"]) == (0, [])

    def test_limit_0_returns_the_position_only(self, alice: Client) -> None:
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
        alice.gets_error("invalid", message)

    @pytest.mark.any_frames
    def test_a_row_of_another_version_is_read_as_far_as_possible(
        self, alice: Client, dynamodb: Any, table_name: str
    ) -> None:
        epoch = alice.asks("publish", channel=ROOM, data=1)["epoch"]
        key = {name: {"S": text} for name, text in keys.publication_key(ROOM, epoch, 1).items()}
        dynamodb.put_item(TableName=table_name, Item=key | {"data": {"S": "{"}, "from": {"S": "[]"}, "new": {"L": []}})
        (publication,) = alice.asks("history", channel=ROOM)["publications"]
        assert publication == {"offset": 1, "data": None, "from": None, "time": "", "messageId": None}
