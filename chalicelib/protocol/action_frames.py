"""Action frames as the server writes them: the first of the two codecs. Pure. The contract is docs/PROTOCOL.md."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chalicelib.errors import ClientError
from chalicelib.protocol.frame import FrameId, JsonObject, timestamp
from chalicelib.protocol.frame import dump as dump
from chalicelib.protocol.publication import Missed, Position, Publication


def reply(frame_id: FrameId, data: Mapping[str, Any]) -> JsonObject:
    """Return the reply to the frame with that id."""
    return {"type": "reply", "id": frame_id, "data": data}


def error(frame_id: FrameId, cause: Exception) -> JsonObject:
    """Return the error frame for `cause`; of anything but a ClientError it reveals only that it is internal."""
    return {"type": "error", "id": frame_id, "error": error_body(cause)}


def error_body(cause: Exception) -> JsonObject:
    """Return what a caller may know of `cause`: code, message, retryable."""
    if isinstance(cause, ClientError):
        return {"code": cause.code, "message": str(cause), "retryable": cause.retryable}
    return {"code": "internal_error", "message": "Something went wrong on our side.", "retryable": True}


def message(sender: Mapping[str, Any] | None, text: str | None, data: Any, time_seconds: float) -> JsonObject:
    """Return the push to the target of a sendMessage; `sender` is None where a server sent it."""
    return {"type": "message", "from": sender, "text": text, "data": data, "time": timestamp(time_seconds)}


def broadcast(note: str | None, data: Any, time_seconds: float) -> JsonObject:
    """Return the push to everyone."""
    return {"type": "broadcast", "time": timestamp(time_seconds), "note": note, "data": data}


def publication(channel: str, epoch: str | None, publication: Publication) -> JsonObject:
    """Return the push to a channel's members; without history, epoch and offset are null."""
    return {"type": "publication", "channel": channel, "epoch": epoch, **publication.as_dict()}


def recovery(channel: str, epoch: str, publications: Sequence[Publication]) -> JsonObject:
    """Return a push with part of what a subscriber missed; the reply to its subscribe has the last part."""
    return {"type": "recovery", "channel": channel, "epoch": epoch, "publications": _as_dicts(publications)}


def unsubscribed(channel: str) -> JsonObject:
    """Return the push to a connection that a server has unsubscribed from a channel."""
    return {"type": "unsubscribed", "channel": channel}


def presence_change(kind: str, channel: str, user_id: str, connection_id: str) -> JsonObject:
    """Return the push to a channel's members about a user; `kind` is `join` or `leave`."""
    return {"type": kind, "channel": channel, "user": user_id}


def goodbye(code: str, reason: str | None) -> JsonObject:
    """Return the last push before the server closes the socket."""
    return {"type": "goodbye", "code": code, "reason": reason}


def subscribed(reply_to: FrameId, channel: str, stream: Position | None, missed: Missed) -> Iterator[JsonObject]:
    """Yield what a subscriber is sent: what it missed, then the reply, if it wants one, with the last part of that."""
    rest: Sequence[Publication] = ()
    for part in missed.parts():
        if rest and stream:
            yield recovery(channel, stream.epoch, rest)
        rest = part
    if reply_to is None:
        return
    epoch, offset = stream or (None, None)
    data: JsonObject = {"channel": channel, "epoch": epoch, "offset": offset}
    if missed.recovered is not None:
        data |= {"recovered": missed.recovered, "publications": _as_dicts(rest) if missed.recovered else []}
    yield reply(reply_to, data)


def _as_dicts(publications: Sequence[Publication]) -> list[JsonObject]:
    return [publication.as_dict() for publication in publications]
