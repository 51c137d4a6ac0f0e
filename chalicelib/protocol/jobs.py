"""Jobs: work for later or for another Lambda, each a small JSON object on a queue. Pure.

Invariant: a job says what is to be true, not what to do next; done twice, late or in another order, it does no harm.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

from chalicelib.errors import Invalid
from chalicelib.protocol.frame import is_integer
from chalicelib.protocol.names import check_name
from chalicelib.protocol.publication import Publication

# Bounds for jobs that another version of the app has put.
MAX_SEGMENTS: Final = 1_000
MAX_SHARDS: Final = 10_000


class Advance(NamedTuple):
    """Deliver what was published in a shard, and admit those who wait there."""

    channel: str
    shard: int

    def as_dict(self) -> dict[str, Any]:
        return {"job": "advance", "channel": self.channel, "shard": self.shard}

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        return cls(_name(fields, "channel"), _shard(fields))


class Close(NamedTuple):
    """Close a connection whose earlier close failed."""

    connection_id: str

    def as_dict(self) -> dict[str, Any]:
        return {"job": "close", "connectionId": self.connection_id}

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        return cls(_name(fields, "connectionId"))


class Leave(NamedTuple):
    """Tell a channel's members that a disconnected user has left, unless it has come back."""

    channel: str
    user_id: str
    connection_id: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "job": "leave",
            "channel": self.channel,
            "userId": self.user_id,
            "connectionId": self.connection_id,
        }

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        return cls(_name(fields, "channel"), _name(fields, "userId"), _name(fields, "connectionId"))


class BroadcastSlice(NamedTuple):
    """Send a broadcast to one segment of the index, from a place on.

    Attributes:
        note, data: what to send.
        time: epoch seconds at which it was broadcast.
        segment, segments: which part of the index.
        after: the place after which to begin; None for the start.
    """

    note: str | None
    data: Any
    time: float
    segment: int
    segments: int
    after: tuple[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"job": "broadcast", **self._asdict()}

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        note, time, segments, after = (fields.get(name) for name in ("note", "time", "segments", "after"))
        if not (note is None or isinstance(note, str)) or not isinstance(time, int | float):
            raise Invalid("note", "must be a text, and time a number")
        if not is_integer(segments, 1, MAX_SEGMENTS) or not is_integer(fields.get("segment"), 0, segments - 1):
            raise Invalid("segment", "must be a whole number below segments")
        match after:
            case None:
                place = None
            case [str(owner), str(connection)] if connection.startswith("CONN#"):
                place = (owner, connection)
            case _:
                raise Invalid("after", "must be a place in the index")
        return cls(note, fields.get("data"), time, fields["segment"], segments, place)


class PublicationSlice(NamedTuple):
    """Send a publication that has no history to one shard's members, from a connection id on.

    Attributes:
        channel, shard: whose members.
        publication: what was published.
        after: the connection id after which to begin; None for the start.
    """

    channel: str
    shard: int
    publication: Publication
    after: str | None = None

    def as_dict(self) -> dict[str, Any]:
        published = self.publication
        return {
            "job": "publication",
            "channel": self.channel,
            "shard": self.shard,
            "after": self.after,
            "data": published.data,
            "from": published.sender,
            "time": published.time,
            "messageId": published.message_id,
            "exclude": published.exclude,
        }

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        after, message_id, exclude = (_optional_name(fields, name) for name in ("after", "messageId", "exclude"))
        sender, time = fields.get("from"), fields.get("time")
        if not (sender is None or isinstance(sender, dict)) or not isinstance(time, str):
            raise Invalid("from", "must be an object or null, and time a text")
        publication = Publication(None, fields.get("data"), sender, time, message_id, exclude)
        return cls(_name(fields, "channel"), _shard(fields), publication, after)


Job = Advance | Close | Leave | BroadcastSlice | PublicationSlice
JOBS: Final[Mapping[str, type[Job]]] = {
    "advance": Advance,
    "broadcast": BroadcastSlice,
    "close": Close,
    "leave": Leave,
    "publication": PublicationSlice,
}
NAMES: Final = {kind: name for name, kind in JOBS.items()}


def read_job(body: object) -> Job:
    """Return the job that the body of a queue's message holds.

    Raises:
        Invalid: it holds none that can be done.
    """
    try:
        fields = json.loads(body) if isinstance(body, str) else None
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or fields.get("job") not in JOBS:
        raise Invalid("job", f"must be one of {', '.join(JOBS)}")
    return JOBS[fields["job"]].read(fields)


def _name(fields: Mapping[str, Any], field: str) -> str:
    return check_name(fields.get(field), field)


def _optional_name(fields: Mapping[str, Any], field: str) -> str | None:
    return None if fields.get(field) is None else _name(fields, field)


def _shard(fields: Mapping[str, Any]) -> int:
    shard = fields.get("shard")
    if not is_integer(shard, 0, MAX_SHARDS):
        raise Invalid("shard", "must be a whole number")
    return shard
