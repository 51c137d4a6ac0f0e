"""Centrifugo's client protocol in JSON: commands as records, and the second of the two codecs. Pure.

Source: centrifugal.dev/docs/transports/client_protocol and its client.proto. docs/PROTOCOL.md, "Official SDKs", says
which parts of it there are. A frame has one or more commands, replies or pushes, each on a line of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from chalicelib import errors
from chalicelib.errors import BadFrame, ClientError, TooLarge
from chalicelib.protocol import action_frames, frame
from chalicelib.protocol.frame import FrameId, JsonObject
from chalicelib.protocol.publication import Missed, Position, Publication

# The largest message that API Gateway accepts, of several frames.
MAX_MESSAGE_BYTES: Final = 131_072
# A reconnecting client sends a subscribe for each of its channels along with its connect: MAX_CHANNELS' bound.
MAX_COMMANDS: Final = 1_024
MAX_COMMAND_ID: Final = 2**32 - 1
_OF_A_CHANNEL: Final = ("subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history")
NAMES: Final = ("connect", *_OF_A_CHANNEL, "ping", "send", "rpc", "refresh", "sub_refresh")

# Codes of errors in replies: centrifugal.dev/docs/server/codes. An app's own begin at 400.
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
_CODES: Final = {**ERROR_CODES, ClientError: BAD_REQUEST, Exception: INTERNAL_ERROR}

# Codes of disconnects. From 3500 to 3999, and from 4500, an SDK does not reconnect by itself.
EXPIRED: Final = 3005
INSUFFICIENT_STATE: Final = 3010
BAD_FRAME: Final = 3501
FORCED: Final = 3503
# After an unsubscribe with this code an SDK does not subscribe again by itself.
UNSUBSCRIBED: Final = {"code": 2000, "reason": "unsubscribed by the server"}


class Command(NamedTuple):
    """What a client asks for: `id`, None where it wants no reply; one of NAMES; its fields, not yet checked."""

    id: int | None
    name: str
    fields: Mapping[str, Any]
    size_bytes: int


def parse(text: str) -> list[Command] | None:
    """Return the commands of a frame, one on each line; None where it is not a frame of this protocol."""
    commands = []
    try:
        for line in filter(None, map(str.strip, text.split("\n"))):
            fields = frame.load(line, MAX_MESSAGE_BYTES)
            if found := command(fields, len(line.encode())):
                commands.append(found)
            elif fields:
                return None
            if len(commands) > MAX_COMMANDS:
                return None
    except (BadFrame, TooLarge):
        return None
    return commands or None


def command(fields: Mapping[str, Any], size_bytes: int) -> Command | None:
    """Return the command that one line of a frame is; None where it is not one."""
    name = next((name for name in NAMES if name in fields), None)
    command_id = fields.get("id", 0)
    if name is None or "action" in fields or not isinstance(fields[name], dict):
        return None
    if not frame.is_integer(command_id, 0, MAX_COMMAND_ID):
        return None
    return Command(command_id or None, name, fields[name], size_bytes)


def dump(value: JsonObject | Sequence[JsonObject]) -> str:
    """Return one line, or several, as the text of one frame."""
    return "\n".join(map(frame.dump, value)) if isinstance(value, Sequence) else frame.dump(value)


def reply(command: Command, result: Mapping[str, Any]) -> JsonObject:
    """Return the reply to a command."""
    return {"id": command.id, command.name: result}


def error(command_id: FrameId, cause: Exception) -> JsonObject:
    """Return the reply to a command that failed; of anything but a ClientError it reveals no detail."""
    code = next(_CODES[kind] for kind in type(cause).__mro__ if kind in _CODES)
    body = action_frames.error_body(cause)
    temporary = {"temporary": True} if body["retryable"] else {}
    return {"id": command_id, "error": {"code": code, "message": body["message"], **temporary}}


def connected(connection_id: str, seconds_left: float | None) -> JsonObject:
    """Return the result of `connect`. It promises no pings, and says when to refresh a connection that expires."""
    return {"client": connection_id, "version": "peal", **expiry(seconds_left)}


def expiry(seconds_left: float | None) -> JsonObject:
    """Return what a result says of the connection's expiry: after `ttl` seconds the SDK refreshes, early enough."""
    if seconds_left is None:
        return {}
    return {"expires": True, "ttl": max(1, int(seconds_left - min(30, seconds_left / 3)))}


def message(sender: Mapping[str, Any] | None, text: str | None, data: Any, time_seconds: float) -> JsonObject:
    """Return the push to the target of a sendMessage; its data is the action frame."""
    return {"push": {"message": {"data": action_frames.message(sender, text, data, time_seconds)}}}


def broadcast(note: str | None, data: Any, time_seconds: float) -> JsonObject:
    """Return the push to everyone; its data is the action frame."""
    return {"push": {"message": {"data": action_frames.broadcast(note, data, time_seconds)}}}


def publication(channel: str, epoch: str | None, publication: Publication) -> JsonObject:
    """Return the push to a channel's members; they know the epoch from the reply to their subscribe."""
    return {"push": {"channel": channel, "pub": published(publication)}}


def published(publication: Publication) -> JsonObject:
    """Return a publication as pushes, recoveries and histories have it."""
    sender = publication.sender
    about: JsonObject = {"data": publication.data}
    if sender:
        about["info"] = client_info(sender.get("userId"), str(sender.get("connectionId")))
    if publication.offset is not None:
        about["offset"] = publication.offset
    if publication.message_id is not None:
        about["tags"] = {"messageId": publication.message_id}
    return about


def client_info(user_id: str | None, connection_id: str, attributes: Mapping[str, Any] | None = None) -> JsonObject:
    """Return who a client is; an anonymous one has an empty user."""
    return {"user": user_id or "", "client": connection_id, **({"conn_info": attributes} if attributes else {})}


def presence_change(kind: str, channel: str, user_id: str, connection_id: str) -> JsonObject:
    """Return the push to a channel's members about a user; `kind` is `join` or `leave`."""
    return {"push": {"channel": channel, kind: {"info": client_info(user_id, connection_id)}}}


def unsubscribed(channel: str) -> JsonObject:
    """Return the push to a connection that a server has unsubscribed from a channel."""
    return {"push": {"channel": channel, "unsubscribe": UNSUBSCRIBED}}


def goodbye(code: str, reason: str | None) -> JsonObject:
    """Return the last push before the server closes the socket; a `code` from 3000 to 4999 is the disconnect's."""
    number = int(code) if code.isascii() and code.isdigit() else 0
    if not 3000 <= number < 5000:
        # After EXPIRED the SDK reconnects with a new token.
        number = EXPIRED if code == "unauthenticated" else FORCED
    return _disconnect(number, reason or code)


def subscribed(
    reply_to: FrameId, channel: str, stream: Position | None, missed: Missed
) -> Iterator[JsonObject | Sequence[JsonObject]]:
    """Yield what a subscriber is sent: the reply with the first part of what it missed, then the other parts as pushes.

    SDKs drop a publication that arrives before the reply. The reply's offset is the one recovered from, so a client
    that loses its connection between two parts recovers the rest. Where a later part is no longer kept, it is
    disconnected, to recover anew.
    """
    parts = missed.parts()
    # A subscriber that wants no reply knows already what it will be given.
    was_told = True
    if reply_to is not None:
        first = next(parts, ())
        was_told = missed.recovered is True
        yield {"id": reply_to, "subscribe": subscription(stream, missed, first)}
    for part in parts:
        yield [publication(channel, None, each) for each in part]
    if was_told and missed.recovered is False:
        yield _disconnect(INSUFFICIENT_STATE, "insufficient state")


def subscription(stream: Position | None, missed: Missed, first: Sequence[Publication]) -> JsonObject:
    """Return the result of `subscribe`, with the first part of what was missed."""
    result: JsonObject = {}
    if stream:
        result |= {"recoverable": True, "positioned": True, "epoch": stream.epoch, "offset": stream.offset}
    if missed.since:
        result |= {"was_recovering": True}
    if missed.since and missed.recovered:
        publications = [published(each) for each in first]
        result |= {"recovered": True, "offset": missed.since.offset, "publications": publications}
    return result


def position(stream: Position | None, missed: Missed, first: Sequence[Publication]) -> Position | None:
    """Return the position of a subscriber that was sent `subscription`; None in a channel without history."""
    if stream is None or not missed.recovered or missed.since is None:
        return stream
    return Position(stream.epoch, first[-1].offset or 0) if first else missed.since


def _disconnect(code: int, reason: str) -> JsonObject:
    return {"push": {"disconnect": {"code": code, "reason": reason}}}
