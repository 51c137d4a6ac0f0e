"""Which of the two protocols a text is of: docs/PROTOCOL.md, "Frames" and "Official SDKs"."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import ClientError
from chalicelib.protocol import centrifuge, codec
from chalicelib.protocol import frame as frames
from chalicelib.protocol.centrifuge import Command
from chalicelib.protocol.codec import Receiver, codec_of
from chalicelib.protocol.frame import Frame

PING = '{"id":1,"ping":{}}'
NOT_JSON = "A frame is a JSON object: this is not JSON."
NO_OBJECT = "A frame is a JSON object: this is JSON, but no object."
BAD_ID = "id must be a string of at most 128 characters or a safe integer."


def sized(head: str, size_bytes: int, tail: str) -> str:
    return head + "x" * (size_bytes - len(head) - len(tail)) + tail


class TestReading:
    @pytest.mark.parametrize("text", [PING, f" {PING}\r\n", f"\n{PING}\n\n", f"\xa0{PING}", f"{PING}\n{{}}"])
    def test_one_command_is_a_list_of_it(self, text: str) -> None:
        assert codec.read(text) == [Command(1, "ping", {}, len(PING))]

    def test_commands_on_several_lines_keep_their_order(self) -> None:
        commands = codec.read('{"id":1,"connect":{}}\n{}\n{"id":2,"ping":{}}\n')
        assert isinstance(commands, list)
        assert [(command.id, command.name) for command in commands] == [(1, "connect"), (2, "ping")]

    @pytest.mark.parametrize(
        "fields",
        [
            {"action": "ping"},
            {"action": "ping", "ping": {}},
            {"action": None, "ping": {}},
            {"id": "1", "ping": {}},
            {"id": -1, "ping": {}},
            {"id": 2**32, "ping": {}},
            {"ping": []},
            {"dance": {}},
            {},
        ],
    )
    @pytest.mark.parametrize("indent", [None, 2])
    def test_any_other_object_is_an_action_frame(self, fields: dict[str, object], indent: int | None) -> None:
        assert codec.read(json.dumps(fields, indent=indent)) == Frame(fields.get("id"), fields)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", NOT_JSON),
            ("\n", NOT_JSON),
            ("hello", NOT_JSON),
            ("[1]", NO_OBJECT),
            ("[1]\n[2]", NOT_JSON),
            ("null", NO_OBJECT),
            ('\xa0{"action":"ping"}', NOT_JSON),
            ('{"action":"ping"}\n\x85', NOT_JSON),
            ("{}\n{}", NOT_JSON),
            (f'{PING}\n{{"action":"ping"}}', NOT_JSON),
            (f'{{"action":"ping"}}\n{PING}', NOT_JSON),
            (f"{PING}{PING}", NOT_JSON),
            ("\n".join([PING] * 1_025), NOT_JSON),
            ('{"id":1,"send":{"data":NaN}}', NOT_JSON),
            ('{"id":1,"send":{"data":"\\ud800"}}', NOT_JSON),
            ('{"id":1,"send":{"data":"\ud800"}}', NOT_JSON),
            ('{"id":true,"ping":{}}', BAD_ID),
            ('{"id":[],"action":"ping"}', BAD_ID),
            (f'{{"id":{2**53},"ping":{{}}}}', BAD_ID),
            (sized("", 32_000, ""), NOT_JSON),
            (sized("", 32_001, ""), "32001 bytes are more than the 32000 a frame may have."),
            (sized('{"action":"', 32_001, '"}'), "32001 bytes are more than the 32000 a frame may have."),
            ('{"action":"ping"}' + " " * 31_984, "32001 bytes are more than the 32000 a frame may have."),
            (sized('{"rpc":{"a":"', 131_073, '"}}'), "131073 bytes are more than the 32000 a frame may have."),
        ],
    )
    def test_anything_else_is_what_is_wrong_with_it(self, text: str, message: str) -> None:
        with pytest.raises(ClientError) as wrong:
            codec.read(text)
        assert str(wrong.value) == message

    def test_each_protocol_has_its_own_limit(self) -> None:
        assert isinstance(codec.read(sized('{"action":"', 32_000, '"}')), Frame)
        assert isinstance(codec.read(sized('{"rpc":{"a":"', 131_072, '"}}')), list)

    @given(
        st.text()
        | st.lists(st.sampled_from([PING, "{}", '{"action":"ping"}', "\n", " ", "\xa0", "[", '"id":[]'])).map("".join)
    )
    def test_reading_equals_reading_by_each_protocol(self, text: str) -> None:
        def outcome(read: object) -> object:
            try:
                return read(text)  # type: ignore[operator]
            except ClientError as error:
                return type(error), str(error)

        assert outcome(codec.read) == outcome(lambda text: centrifuge.parse(text) or frames.parse(text))


class TestReceivers:
    def test_a_stored_codec_name_is_read_as_it_always_was(self) -> None:
        assert Receiver("c").codec == "peal"
        assert codec_of(Receiver("c", "peal")) is codec_of(Receiver("c", "newer"))
        assert codec_of(Receiver("c", "centrifuge")) is centrifuge
