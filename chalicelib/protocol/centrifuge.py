"""Centrifugo's client protocol in JSON: commands to records, and the second of the two codecs. Pure.

Source: centrifugal.dev/docs/transports/client_protocol and its client.proto. docs/PROTOCOL.md, "Official SDKs", says
what of it there is. One frame carries one or several commands, replies or pushes, each on a line of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chalicelib import errors
from chalicelib.errors import BadFrame, ClientError, TooLarge
from chalicelib.protocol import action_frames, frame
from chalicelib.protocol.frame import FrameId
from chalicelib.protocol.missed import Missed
from chalicelib.protocol.publication import Position, Publication

# What API Gateway takes as one message, of several frames.
MAX_MESSAGE_BYTES: Final = 131_072
# A client that comes back sends a subscribe for each of its channels along with its connect: MAX_CHANNELS' bound.
MAX_COMMANDS: Final = 1_024
MAX_COMMAND_ID: Final = 2**32 - 1
NAMES: Final = (
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "ping",
    "send",
    "rpc",
    "refresh",
    "sub_refresh",
)

# Codes of errors in replies: centrifugal.dev/docs/server/codes. 400 is the first of those that are an app's own.
INTERNAL_ERROR: Final = 100
ERROR_CODES: Final[Mapping[type[ClientError], int]] = {
    errors.TokenExpired: 109,
    errors.Unauthenticated: 101,
    errors.UnknownChannel: 102,
    errors.Forbidden: 103,
    errors.UnknownAction: 104,
    errors.LimitExceeded: 106,
    errors.NotAvailable: 108,
    errors.RateLimited: 111,
    errors.EpochOver: 112,
    errors.NotFound: 404,
}
BAD_REQUEST: Final = 107

# Codes of disconnects. From 3500 to 3999 and from 4500 on an SDK does not come back by itself.
EXPIRED: Final = 3005
INSUFFICIENT_STATE: Final = 3010
BAD_FRAME: Final = 3501
FORCED: Final = 3503
# After an unsubscribe of this code an SDK does not subscribe again by itself.
UNSUBSCRIBED: Final = {"code": 2000, "reason": "unsubscribed by the server"}

Line = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """What a client asks for: `id`, None where it wants no reply; which of NAMES; its fields, not yet checked."""

    id: int | None
    name: str
    fields: Mapping[str, Any]
    size_bytes: int


def parse(text: str) -> list[Command] | None:
    """The commands of a frame, one or several; None where it is no frame of this protocol."""
    commands = []
    try:
        for line in filter(None, map(str.strip, text.split("\n"))):
            fields = frame.load(line, MAX_MESSAGE_BYTES)
            command = _command(fields, len(line.encode()))
            if command:
                commands.append(command)
            elif fields:
                return None
            if len(commands) > MAX_COMMANDS:
                return None
    except (BadFrame, TooLarge):
        return None
    return commands or None


def dump(value: Line | Sequence[Line]) -> str:
    """One line, or several, as the text of one frame."""
    return "\n".join(map(frame.dump, value)) if isinstance(value, Sequence) else frame.dump(value)


def reply(command: Command, result: Mapping[str, Any]) -> Line:
    """The answer to a command."""
    return {"id": command.id, command.name: result}


def error(command_id: FrameId, cause: Exception) -> Line:
    """The answer to a command that failed: a ClientError as it is, anything else without a detail."""
    body = action_frames.error_body(cause)
    code: Line = {"code": _error_code(cause), "message": body["message"]}
    return {"id": command_id, "error": code | ({"temporary": True} if body["retryable"] else {})}


def connected(connection_id: str, seconds_left: float | None) -> Line:
    """The result of `connect`: no pings are promised. Where time is limited, when to refresh."""
    return {"client": connection_id, "version": "peal", **expiry(seconds_left)}


def expiry(seconds_left: float | None) -> Line:
    """What results say of the connection's end: after `ttl` seconds the SDK refreshes, early enough."""
    if seconds_left is None:
        return {}
    return {"expires": True, "ttl": max(1, int(seconds_left - min(30, seconds_left / 3)))}


def message(sender: Mapping[str, Any] | None, text: str | None, data: Any, time_seconds: float) -> Line:
    """A push to the target of a sendMessage; its data is the action frame."""
    return {"push": {"message": {"data": action_frames.message(sender, text, data, time_seconds)}}}


def broadcast(note: str | None, data: Any, time_seconds: float) -> Line:
    """A push to everyone; its data is the action frame."""
    return {"push": {"message": {"data": action_frames.broadcast(note, data, time_seconds)}}}


def publication(channel: str, epoch: str | None, publication: Publication) -> Line:
    """A push to the members of a channel. Its epoch is the one that the subscriber has been told."""
    return {"push": {"channel": channel, "pub": published(publication)}}


def published(publication: Publication) -> Line:
    """A publication as it stands in pushes, recoveries and histories."""
    sender = publication.sender
    about: Line = {"data": publication.data}
    if sender:
        about["info"] = client_info(sender.get("userId"), str(sender.get("connectionId")))
    if publication.offset is not None:
        about["offset"] = publication.offset
    if publication.message_id is not None:
        about["tags"] = {"messageId": publication.message_id}
    return about


def client_info(user_id: str | None, connection_id: str, attributes: Mapping[str, Any] | None = None) -> Line:
    """Who somebody is; someone anonymous has an empty user."""
    return {"user": user_id or "", "client": connection_id, **({"conn_info": attributes} if attributes else {})}


def presence_change(kind: str, channel: str, user_id: str, connection_id: str) -> Line:
    """A push to the members of a channel: a user has come (`join`) or gone (`leave`)."""
    return {"push": {"channel": channel, kind: {"info": client_info(user_id, connection_id)}}}


def unsubscribed(channel: str) -> Line:
    """A push to a connection that a server has unsubscribed from a channel."""
    return {"push": {"channel": channel, "unsubscribe": UNSUBSCRIBED}}


def goodbye(code: str, reason: str | None) -> Line:
    """The last push before the server closes the socket.

    A `code` that is a number from 3000 to 4999 is the disconnect's own. `unauthenticated` lets the SDK come back with
    a new token; any other sends it away for good.
    """
    number = int(code) if code.isascii() and code.isdigit() else 0
    if not 3000 <= number < 5000:
        number = EXPIRED if code == "unauthenticated" else FORCED
    return _disconnect(number, reason or code)


def subscribed(
    reply_to: FrameId, channel: str, stream: Position | None, missed: Missed
) -> Iterator[Line | Sequence[Line]]:
    """What a subscriber is sent: the reply with the first part of what it missed, then the other parts as pushes.

    SDKs drop a publication that comes before the reply. The reply's offset is the one recovered from, so a client that
    is cut off between two parts comes back for the rest. Where a part turns out to be no longer kept, it is told to.
    """
    parts = missed.parts()
    first = next(parts, ()) if reply_to is not None else ()
    # Who wants no reply has been told before what it will be given.
    was_told = reply_to is None or missed.recovered
    if reply_to is not None:
        yield {"id": reply_to, "subscribe": subscription(stream, missed, first)}
    for part in parts:
        yield [publication(channel, None, each) for each in part]
    if was_told and missed.recovered is False:
        yield _disconnect(INSUFFICIENT_STATE, "insufficient state")


def subscription(stream: Position | None, missed: Missed, first: Sequence[Publication]) -> Line:
    """The result of `subscribe`, with the first part of what was missed."""
    result: Line = {}
    if stream:
        result |= {"recoverable": True, "positioned": True, "epoch": stream.epoch, "offset": stream.offset}
    if missed.since:
        result |= {"was_recovering": True}
    if missed.since and missed.recovered:
        result |= {"recovered": True, "offset": missed.since.offset}
        result |= {"publications": [published(each) for each in first]}
    return result


def position(stream: Position | None, missed: Missed, first: Sequence[Publication]) -> Position | None:
    """Where a subscriber stands that was told `subscription`; None in a channel without history."""
    if stream is None or not missed.recovered or missed.since is None:
        return stream
    return Position(stream.epoch, first[-1].offset or 0) if first else missed.since


def _disconnect(code: int, reason: str) -> Line:
    return {"push": {"disconnect": {"code": code, "reason": reason}}}


def _error_code(cause: Exception) -> int:
    if not isinstance(cause, ClientError):
        return INTERNAL_ERROR
    return next((ERROR_CODES[kind] for kind in type(cause).__mro__ if kind in ERROR_CODES), BAD_REQUEST)


def _command(fields: Mapping[str, Any], size_bytes: int) -> Command | None:
    name = next((name for name in NAMES if name in fields), None)
    command_id = fields.get("id", 0)
    if name is None or "action" in fields or not isinstance(fields[name], dict):
        return None
    if not frame.is_integer(command_id, 0, MAX_COMMAND_ID):
        return None
    return Command(command_id or None, name, fields[name], size_bytes)
