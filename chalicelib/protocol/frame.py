"""Frames from text and back. Pure: no AWS, no clock, no state.

Invariant: `parse` returns a frame or raises a ClientError, whatever the text. `dump` can write whatever it accepts as
strict JSON. The contract is docs/PROTOCOL.md.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeGuard

from chalicelib.errors import BadFrame, ClientError, Invalid, TooLarge
from chalicelib.protocol.names import check_name

# API Gateway bills and frames in units of 32,768 bytes; 768 are left for what wraps a relayed message.
MAX_FRAME_BYTES: Final = 32_000
MAX_ID_CHARS: Final = 128
MAX_ATTRIBUTES_BYTES: Final = 1_024
MAX_ATTRIBUTES: Final = 16
# JavaScript rounds larger integers, so an id would not be echoed as it was sent.
MAX_SAFE_INTEGER: Final = 2**53 - 1

FrameId = str | int | None
JsonObject = dict[str, Any]


class Frame(NamedTuple):
    """What a client sent: its optional `id` and all fields, `action` among them, not yet checked.

    A method that reads a field raises Invalid if the field is anything but what the method returns.
    """

    id: FrameId
    fields: Mapping[str, Any]

    def string(self, field: str) -> str:
        """Return a string that is not empty."""
        value = self.fields.get(field)
        if not isinstance(value, str) or not value:
            raise Invalid(field, "must be a string that is not empty")
        return value

    def optional_string(self, field: str) -> str | None:
        """Return a string, which may be empty, or None where the field is missing or null."""
        value = self.fields.get(field)
        if value is not None and not isinstance(value, str):
            raise Invalid(field, "must be a string")
        return value

    def boolean(self, field: str) -> bool:
        """Return true or false; false where the field is missing or null."""
        value = self.fields.get(field)
        if value is not None and not isinstance(value, bool):
            raise Invalid(field, "must be true or false")
        return bool(value)

    def integer(self, field: str, lowest: int, highest: int, default: int) -> int:
        """Return a whole number within the bounds, or the default where the field is missing or null."""
        value = self.fields.get(field)
        value = default if value is None else value
        if not is_integer(value, lowest, highest):
            raise Invalid(field, f"must be a whole number from {lowest} to {highest}")
        return value

    def name(self, field: str) -> str:
        """Return a name that may be part of a table key; see `names`."""
        return check_name(self.fields.get(field), field)

    def has(self, field: str) -> bool:
        """Return whether the field is there and not null."""
        return self.fields.get(field) is not None

    def content(self) -> tuple[str | None, Any]:
        """Return what a message carries: (text, data), at least one of them not None."""
        text, data = self.optional_string("text"), self.fields.get("data")
        if text is None and data is None:
            raise Invalid("text", "or data must be given")
        return text, data


def parse(text: str | bytes | None, limit_bytes: int = MAX_FRAME_BYTES) -> Frame:
    """Return the frame that `text` is. Raises what `load` and `check` raise."""
    return check(load(text or "", limit_bytes))


def check(fields: Mapping[str, Any]) -> Frame:
    """Return the frame with these fields. Raises Invalid if `id` is neither a short string nor a safe integer."""
    frame_id = fields.get("id")
    is_short = isinstance(frame_id, str) and len(frame_id) <= MAX_ID_CHARS
    if frame_id is None or is_short or is_integer(frame_id, -MAX_SAFE_INTEGER, MAX_SAFE_INTEGER):
        return Frame(frame_id, fields)
    raise Invalid("id", f"must be a string of at most {MAX_ID_CHARS} characters or a safe integer")


def parse_attributes(text: str) -> JsonObject:
    """Return a connection's own attributes: a flat JSON object of at most 16 names and 1,024 bytes, or else Invalid."""
    try:
        attributes = load(text, MAX_ATTRIBUTES_BYTES)
    except ClientError as error:
        raise Invalid("attributes", f"must be a JSON object of at most {MAX_ATTRIBUTES_BYTES} bytes") from error
    if len(attributes) > MAX_ATTRIBUTES:
        raise Invalid("attributes", f"must have at most {MAX_ATTRIBUTES} names")
    if any(isinstance(value, dict | list) for value in attributes.values()):
        raise Invalid("attributes", "must have strings, numbers, booleans or null as values")
    return attributes


def load(text: str | bytes, limit_bytes: int) -> JsonObject:
    """Return the JSON object that `text` is. Raises TooLarge, or BadFrame if it is not one in strict JSON and UTF-8."""
    try:
        encoded = text if isinstance(text, bytes) else text.encode()
        if len(encoded) > limit_bytes:
            raise TooLarge(len(encoded), limit_bytes)
        value = json.loads(encoded.decode(), parse_constant=_finite, parse_float=_finite)
        if b"\\u" in encoded:
            # An escape can smuggle in half a surrogate pair, which no UTF-8 text can hold.
            dump(value).encode()
    except (ValueError, RecursionError) as cause:
        raise BadFrame("this is not JSON") from cause
    if not isinstance(value, dict):
        raise BadFrame("this is JSON, but no object")
    return value


def dump(value: Any) -> str:
    """Return a frame, or any part of one, as compact JSON, escaped only where JSON requires it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def is_integer(value: object, lowest: int, highest: int) -> TypeGuard[int]:
    """Return whether the value is a whole number within the bounds, and neither a boolean nor a float."""
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def timestamp(time_seconds: float) -> str:
    """Return an epoch time as RFC 3339 in UTC with milliseconds; such texts sort as their times do."""
    return datetime.fromtimestamp(time_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError("a number out of range")
    return number
