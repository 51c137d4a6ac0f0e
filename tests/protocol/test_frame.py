"""Frames: docs/PROTOCOL.md, "Frames" and "Errors"."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import BadFrame, ClientError, Invalid, TooLarge, UnknownAction
from chalicelib.protocol import action_frames
from chalicelib.protocol import frame as protocol

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


class TestParsing:
    @pytest.mark.parametrize(
        "text", ['{"action":"sendMessage","targetUserId":"u_456","text":"hi"}', '{"action":"broadcastAll"}']
    )
    def test_the_seed_frames_are_frames(self, text: str) -> None:
        frame = protocol.parse(text)
        assert frame.id is None
        assert frame.fields == json.loads(text)

    @pytest.mark.parametrize("frame_id", ["a", "", "x" * 128, 0, -1, 2**53 - 1, None])
    def test_an_id_is_a_string_or_an_integer(self, frame_id: object) -> None:
        assert protocol.parse(json.dumps({"id": frame_id})).id == frame_id

    @pytest.mark.parametrize("frame_id", [True, 1.5, [], {}, "x" * 129, 2**53])
    def test_any_other_id_is_invalid(self, frame_id: object) -> None:
        with pytest.raises(Invalid, match="^id must be a string of at most 128 characters or a safe integer.$"):
            protocol.parse(json.dumps({"id": frame_id}))

    @pytest.mark.parametrize("text", [None, "", "hi", "{", '{"a":1}{', "{'a':1}", '{"a":NaN}', '{"a":-Infinity}'])
    def test_text_that_is_not_json_is_a_bad_frame(self, text: str | None) -> None:
        with pytest.raises(BadFrame, match="^A frame is a JSON object: this is not JSON.$"):
            protocol.parse(text)

    @pytest.mark.parametrize("text", ["1", '"a"', "[]", "null", "true"])
    def test_json_that_is_no_object_is_a_bad_frame(self, text: str) -> None:
        with pytest.raises(BadFrame, match="^A frame is a JSON object: this is JSON, but no object.$"):
            protocol.parse(text)

    @pytest.mark.parametrize(
        "text",
        ['{"a":1e999}', '{"a":"\\ud800"}', '{"a":' + "9" * 5_000 + "}", '{"a":' + "[" * 15_000 + "]" * 15_000 + "}"],
        ids=["a number out of range", "half a surrogate pair", "an absurd integer", "absurd nesting"],
    )
    def test_what_could_not_be_sent_on_is_a_bad_frame(self, text: str) -> None:
        with pytest.raises(BadFrame):
            protocol.parse(text)

    def test_bytes_that_are_not_utf8_are_a_bad_frame(self) -> None:
        with pytest.raises(BadFrame):
            protocol.parse(b'{"a":"\xff"}')

    def test_the_limit_counts_bytes_and_not_characters(self) -> None:
        room = protocol.MAX_FRAME_BYTES - len('{"text":""}')
        assert protocol.parse('{"text":"' + "x" * room + '"}').fields["text"] == "x" * room
        with pytest.raises(TooLarge, match="^32001 bytes are more than the 32000 a frame may have.$"):
            protocol.parse('{"text":"' + "x" * (room - 1) + 'é"}')

    @given(st.text() | st.binary())
    def test_any_text_is_a_frame_or_a_client_error(self, text: str | bytes) -> None:
        try:
            frame = protocol.parse(text)
        except ClientError:
            return
        assert isinstance(frame.fields, dict)

    @pytest.mark.slow
    @given(st.dictionaries(texts.filter(lambda name: name != "id"), json_values, max_size=5))
    def test_what_is_dumped_parses_to_the_same_fields(self, fields: dict[str, object]) -> None:
        assert protocol.parse(protocol.dump(fields)).fields == fields


class TestFields:
    frame = protocol.Frame(None, {"text": "hi", "empty": "", "number": 1, "null": None, "name": "u_1", "bad": "a#b"})

    def test_a_required_string_is_there_and_not_empty(self) -> None:
        assert self.frame.string("text") == "hi"
        for field in ("empty", "number", "null", "missing"):
            with pytest.raises(Invalid, match=f"^{field} must be a string that is not empty.$"):
                self.frame.string(field)

    def test_an_optional_string_may_be_missing_null_or_empty(self) -> None:
        assert self.frame.optional_string("empty") == ""
        assert self.frame.optional_string("null") is None
        assert self.frame.optional_string("missing") is None
        with pytest.raises(Invalid, match="^number must be a string.$"):
            self.frame.optional_string("number")

    def test_a_name_has_no_hash(self) -> None:
        assert self.frame.name("name") == "u_1"
        with pytest.raises(Invalid, match=r"^bad must be 1 to 128 characters of A-Z a-z 0-9 "):
            self.frame.name("bad")

    def test_content_is_text_or_data_or_both(self) -> None:
        assert protocol.Frame(None, {"text": "hi"}).content() == ("hi", None)
        assert protocol.Frame(None, {"data": 0}).content() == (None, 0)
        assert protocol.Frame(None, {"text": "", "data": [1]}).content() == ("", [1])
        with pytest.raises(Invalid, match="^text or data must be given.$"):
            protocol.Frame(None, {"data": None}).content()


class TestAttributes:
    def test_a_small_flat_map_is_taken(self) -> None:
        assert protocol.parse_attributes('{"room":"a","n":1,"on":true,"x":null}') == {
            "room": "a",
            "n": 1,
            "on": True,
            "x": None,
        }

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("nonsense", "attributes must be a JSON object of at most 1024 bytes."),
            ("[]", "attributes must be a JSON object of at most 1024 bytes."),
            (json.dumps({"a": "x" * 1024}), "attributes must be a JSON object of at most 1024 bytes."),
            (json.dumps({str(n): n for n in range(17)}), "attributes must have at most 16 names."),
            ('{"a":{}}', "attributes must have strings, numbers, booleans or null as values."),
        ],
    )
    def test_anything_else_is_invalid(self, text: str, message: str) -> None:
        with pytest.raises(Invalid) as refused:
            protocol.parse_attributes(text)
        assert str(refused.value) == message


class TestServerFrames:
    def test_text_is_compact_and_not_escaped(self) -> None:
        assert protocol.dump({"a": ["é", 1]}) == '{"a":["é",1]}'

    def test_a_reply_echoes_the_id_as_it_was_sent(self) -> None:
        assert action_frames.reply("1", {"sent": 1}) == {"type": "reply", "id": "1", "data": {"sent": 1}}
        assert action_frames.reply(1, {}) == {"type": "reply", "id": 1, "data": {}}

    def test_a_client_error_says_what_is_wrong(self) -> None:
        assert action_frames.error(7, UnknownAction("dance")) == {
            "type": "error",
            "id": 7,
            "error": {"code": "unknown_action", "message": "There is no action 'dance'.", "retryable": False},
        }

    def test_any_other_error_reveals_nothing(self) -> None:
        assert action_frames.error(None, RuntimeError("arn:aws:secret")) == {
            "type": "error",
            "id": None,
            "error": {
                "code": "internal_error",
                "message": "Something went wrong on our side.",
                "retryable": True,
            },
        }

    def test_times_are_rfc_3339_in_utc_with_milliseconds(self) -> None:
        assert protocol.timestamp(1_795_426_200) == "2026-11-23T09:30:00.000Z"
        assert protocol.timestamp(0.125) == "1970-01-01T00:00:00.125Z"

    @given(st.lists(st.integers(0, 4 * 10**12), min_size=2))
    def test_timestamps_sort_as_their_times_do(self, milliseconds: list[int]) -> None:
        stamps = [protocol.timestamp(ms / 1000) for ms in sorted(milliseconds)]
        assert stamps == sorted(stamps)
