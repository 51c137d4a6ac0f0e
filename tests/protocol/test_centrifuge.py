"""Centrifugo's client protocol as text: docs/PROTOCOL.md, "Official SDKs"."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import errors
from chalicelib.protocol import centrifuge
from chalicelib.protocol.centrifuge import Command
from chalicelib.protocol.publication import Missed, Position, Publication

TIME = "2026-11-23T09:30:00.125Z"
ALICE = {"userId": "alice", "connectionId": "L0SM9cOFvHcCIhw="}


def publication(offset: int | None, data: Any = "x", **about: Any) -> Publication:
    return Publication(offset, data, about.pop("sender", ALICE), TIME, **about)


class TestParsing:
    def test_a_command_is_its_id_its_name_and_its_fields(self) -> None:
        text = '{"id":3,"subscribe":{"channel":"chat:lobby"}}'
        assert centrifuge.parse(text) == [Command(3, "subscribe", {"channel": "chat:lobby"}, len(text))]

    def test_one_frame_may_have_several_commands_on_lines(self) -> None:
        commands = centrifuge.parse('{"id":1,"connect":{}}\n{"id":2,"ping":{}}\n')
        assert commands
        assert [(command.id, command.name) for command in commands] == [(1, "connect"), (2, "ping")]

    @pytest.mark.parametrize("text", ['{"ping":{}}', '{"id":0,"ping":{}}'])
    def test_one_without_an_id_wants_no_reply(self, text: str) -> None:
        commands = centrifuge.parse(text)
        assert commands
        assert commands[0].id is None

    def test_a_pong_among_commands_is_skipped(self) -> None:
        commands = centrifuge.parse('{}\n{"id":1,"ping":{}}')
        assert commands
        assert [command.name for command in commands] == ["ping"]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\n",
            "{}",
            "hello",
            "[]",
            '{"action":"ping"}',
            '{"action":"ping","publish":{}}',
            '{"id":1}',
            '{"id":1,"dance":{}}',
            '{"id":1,"publish":null}',
            '{"id":"1","ping":{}}',
            '{"id":-1,"ping":{}}',
            '{"id":4294967296,"ping":{}}',
            '{"id":1,"ping":{}}\nhello',
            '{"id":1,"ping":{}}\n{"action":"ping"}',
            '{"id":1,"rpc":{"data":"' + "x" * centrifuge.MAX_MESSAGE_BYTES + '"}}',
        ],
    )
    def test_anything_else_is_not_a_frame_of_this_protocol(self, text: str) -> None:
        assert centrifuge.parse(text) is None

    @given(st.text())
    def test_any_text_is_commands_or_none(self, text: str) -> None:
        assert centrifuge.parse(text) is None

    def test_an_action_frame_over_several_lines_is_not_a_command(self) -> None:
        assert centrifuge.parse(json.dumps({"action": "publish", "data": {"publish": {}}}, indent=2)) is None


class TestDumping:
    def test_several_replies_are_on_lines_of_their_own(self) -> None:
        command = Command(1, "ping", {}, 0)
        lines = [centrifuge.reply(command, {}), centrifuge.error(2, errors.Forbidden())]
        assert centrifuge.dump(lines) == (
            '{"id":1,"ping":{}}\n{"id":2,"error":{"code":103,"message":"This is not allowed."}}'
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("cause", "code"),
        [
            (errors.Unauthenticated(), 101),
            (errors.NotRegistered(), 101),
            (errors.TokenExpired(), 109),
            (errors.UnknownChannel("channel", "must be namespace:name"), 102),
            (errors.Forbidden(), 103),
            (errors.UnknownAction("dance"), 104),
            (errors.LimitExceeded("channels", 100), 106),
            (errors.Invalid("text", "must be a string"), 107),
            (errors.TooLarge(2, 1), 107),
            (errors.BadFrame("this is not JSON"), 107),
            (errors.NotAvailable("channel", "is in a namespace without history"), 108),
            (errors.EpochOver("since", "is of an epoch that is over"), 112),
            (errors.NotFound(), 404),
        ],
    )
    def test_each_error_has_its_code_and_its_message(self, cause: Exception, code: int) -> None:
        assert centrifuge.error(7, cause) == {"id": 7, "error": {"code": code, "message": str(cause)}}

    def test_what_may_succeed_later_is_temporary(self) -> None:
        assert centrifuge.error(7, errors.RateLimited())["error"]["temporary"] is True
        assert centrifuge.error(7, errors.RateLimited())["error"]["code"] == 111

    def test_an_internal_error_reveals_nothing(self) -> None:
        assert centrifuge.error(7, RuntimeError("arn:aws:secret")) == {
            "id": 7,
            "error": {"code": 100, "message": "Something went wrong on our side.", "temporary": True},
        }


class TestTheEnd:
    @pytest.mark.parametrize(("left", "ttl"), [(3600, 3570), (90, 60), (60, 40), (3, 2), (1, 1), (0.2, 1)])
    def test_a_token_is_refreshed_before_it_expires(self, left: float, ttl: int) -> None:
        assert centrifuge.expiry(left) == {"expires": True, "ttl": ttl}

    def test_a_connection_without_expiry_has_no_ttl(self) -> None:
        assert centrifuge.connected("c=", None) == {"client": "c=", "version": "peal"}

    @pytest.mark.parametrize(
        ("code", "reason", "number", "text"),
        [
            ("closed", None, 3503, "closed"),
            ("signed-out", "Bye.", 3503, "Bye."),
            ("unauthenticated", "Not signed in any more.", 3005, "Not signed in any more."),
            ("3011", None, 3011, "3011"),
            ("4999", "x", 4999, "x"),
            ("2999", None, 3503, "2999"),
            ("5000", None, 3503, "5000"),
            ("٣٠١١", None, 3503, "٣٠١١"),
        ],
    )
    def test_a_goodbye_is_a_disconnect(self, code: str, reason: str | None, number: int, text: str) -> None:
        assert centrifuge.goodbye(code, reason) == {"push": {"disconnect": {"code": number, "reason": text}}}


class TestPublications:
    def test_a_push_has_the_offset_and_the_publisher(self) -> None:
        assert centrifuge.publication("chat:lobby", "e", publication(7, {"text": "hi"}, message_id="m-1")) == {
            "push": {
                "channel": "chat:lobby",
                "pub": {
                    "data": {"text": "hi"},
                    "info": {"user": "alice", "client": "L0SM9cOFvHcCIhw="},
                    "offset": 7,
                    "tags": {"messageId": "m-1"},
                },
            }
        }

    def test_without_history_a_servers_push_is_its_data(self) -> None:
        pushed = centrifuge.publication("live:map", None, publication(None, None, sender=None))
        assert pushed == {"push": {"channel": "live:map", "pub": {"data": None}}}

    def test_an_anonymous_publisher_has_an_empty_user(self) -> None:
        sender = {"userId": None, "connectionId": "c="}
        assert centrifuge.published(publication(1, sender=sender))["info"] == {"user": "", "client": "c="}


class TestSubscribed:
    """The reply, with the first part of what the subscriber missed, then the rest as pushes."""

    HERE = Position("e", 4)

    def missed(self, recover: Position | None, *offsets: int) -> Missed:
        def read(first: int, last: int) -> Iterator[Publication]:
            return (publication(offset) for offset in offsets if first <= offset <= last)

        # Each publication is a part of its own.
        return Missed(recover, self.HERE, kept=100, last=4, read=read, part_bytes=0)

    def sent(self, found: Missed, reply_to: int | None = 9) -> list[Any]:
        return list(centrifuge.subscribed(reply_to, "chat:lobby", self.HERE, found))

    def pushes(self, sent: list[Any]) -> list[int]:
        return [line["push"]["pub"]["offset"] for lines in sent for line in lines]

    def test_a_new_subscriber_gets_its_position(self) -> None:
        (reply,) = self.sent(self.missed(None))
        assert reply == {
            "id": 9,
            "subscribe": {"recoverable": True, "positioned": True, "epoch": "e", "offset": 4},
        }

    def test_without_history_there_is_no_position(self) -> None:
        assert list(centrifuge.subscribed(9, "live:map", None, Missed(None))) == [{"id": 9, "subscribe": {}}]
        assert list(centrifuge.subscribed(9, "live:map", None, Missed(Position("e", 1)))) == [
            {"id": 9, "subscribe": {"was_recovering": True}}
        ]

    def test_missed_publications_come_with_and_after_the_reply(self) -> None:
        # The offset is the one it recovers from: a client that disconnects after any of these frames gets the others.
        reply, *rest = self.sent(self.missed(Position("e", 1), 2, 3, 4))
        assert reply["subscribe"] | {"publications": []} == {
            "recoverable": True,
            "positioned": True,
            "epoch": "e",
            "offset": 1,
            "was_recovering": True,
            "recovered": True,
            "publications": [],
        }
        assert [each["offset"] for each in reply["subscribe"]["publications"]] == [2]
        assert self.pushes(rest) == [3, 4]

    def test_publications_no_longer_kept_are_not_recovered(self) -> None:
        (reply,) = self.sent(self.missed(Position("e", 1), 3, 4))
        assert reply["subscribe"] == {
            "recoverable": True,
            "positioned": True,
            "epoch": "e",
            "offset": 4,
            "was_recovering": True,
        }

    def test_a_loss_found_after_the_reply_disconnects_the_client(self) -> None:
        reply, *rest, last = self.sent(self.missed(Position("e", 0), 1, 2, 4))
        assert reply["subscribe"]["recovered"] is True
        assert self.pushes(rest) == []
        assert last == {"push": {"disconnect": {"code": 3010, "reason": "insufficient state"}}}

    def test_without_a_reply_missed_publications_are_pushed(self) -> None:
        assert self.pushes(self.sent(self.missed(Position("e", 2), 3, 4), reply_to=None)) == [3, 4]
        assert self.sent(self.missed(None), reply_to=None) == []
        (last,) = self.sent(self.missed(Position("over", 2)), reply_to=None)
        assert last["push"]["disconnect"]["code"] == 3010

    def test_the_position_after_the_first_part(self) -> None:
        for recover, offsets, expected in [
            (None, [], self.HERE),
            (Position("over", 1), [], self.HERE),
            (Position("e", 1), [2, 3, 4], Position("e", 2)),
            (Position("e", 4), [], Position("e", 4)),
        ]:
            found = self.missed(recover, *offsets)
            first = next(found.parts(), ())
            assert centrifuge.position(self.HERE, found, first) == expected
        assert centrifuge.position(None, Missed(None), ()) is None
