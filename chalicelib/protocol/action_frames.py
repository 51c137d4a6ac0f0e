"""Action frames, as the server writes them: the first of the two codecs. Pure. The contract is docs/PROTOCOL.md."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chalicelib.errors import ClientError
from chalicelib.protocol.frame import FrameId, timestamp
from chalicelib.protocol.frame import dump as dump
from chalicelib.protocol.missed import Missed
from chalicelib.protocol.publication import Position, Publication

Frame = dict[str, Any]


def reply(frame_id: FrameId, data: Mapping[str, Any]) -> Frame:
    """The answer to the frame that carried `frame_id`."""
    return {"type": "reply", "id": frame_id, "data": data}


def error(frame_id: FrameId, cause: Exception) -> Frame:
    """The error frame for `cause`: a ClientError as it is, anything else as internal_error without a detail."""
    return {"type": "error", "id": frame_id, "error": error_body(cause)}


def error_body(cause: Exception) -> dict[str, Any]:
    """What a caller may learn of `cause`: code, message, retryable."""
    if isinstance(cause, ClientError):
        return {"code": cause.code, "message": str(cause), "retryable": cause.retryable}
    return {"code": "internal_error", "message": "Something went wrong on our side.", "retryable": True}


def message(sender: Mapping[str, Any] | None, text: str | None, data: Any, time_seconds: float) -> Frame:
    """A push to the target of a sendMessage; `sender` is None when a server sent it."""
    return {"type": "message", "from": sender, "text": text, "data": data, "time": timestamp(time_seconds)}


def broadcast(note: str | None, data: Any, time_seconds: float) -> Frame:
    """A push to everyone."""
    return {"type": "broadcast", "time": timestamp(time_seconds), "note": note, "data": data}


def publication(channel: str, epoch: str | None, publication: Publication) -> Frame:
    """A push to the members of a channel. What has no history has neither epoch nor offset: both are null."""
    return {"type": "publication", "channel": channel, "epoch": epoch, **publication.as_dict()}


def recovery(channel: str, epoch: str, publications: Sequence[Publication]) -> Frame:
    """A push that is part of what its receiver has missed; the reply to its subscribe completes it."""
    return {"type": "recovery", "channel": channel, "epoch": epoch, "publications": _as_dicts(publications)}


def unsubscribed(channel: str) -> Frame:
    """A push to a connection that a server has unsubscribed from a channel."""
    return {"type": "unsubscribed", "channel": channel}


def presence_change(kind: str, channel: str, user_id: str, connection_id: str) -> Frame:
    """A push to the members of a channel: a user has come (`join`) or gone (`leave`)."""
    return {"type": kind, "channel": channel, "user": user_id}


def goodbye(code: str, reason: str | None) -> Frame:
    """The last push before the server closes the socket."""
    return {"type": "goodbye", "code": code, "reason": reason}


def subscribed(reply_to: FrameId, channel: str, stream: Position | None, missed: Missed) -> Iterator[Frame]:
    """What a subscriber is sent: what it missed, and the reply, if it wants one, with the last part of that."""
    rest: Sequence[Publication] = ()
    for part in missed.parts():
        if rest and stream:
            yield recovery(channel, stream.epoch, rest)
        rest = part
    if reply_to is None:
        return
    data: dict[str, Any] = {
        "channel": channel,
        "epoch": stream.epoch if stream else None,
        "offset": stream.offset if stream else None,
    }
    if missed.recovered is not None:
        data |= {"recovered": missed.recovered, "publications": _as_dicts(rest) if missed.recovered else []}
    yield reply(reply_to, data)


def _as_dicts(publications: Sequence[Publication]) -> list[dict[str, Any]]:
    return [publication.as_dict() for publication in publications]
