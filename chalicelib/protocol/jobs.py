"""Jobs: work for later or for another Lambda, each a small JSON object on a queue. Pure.

Invariant: a job says what is to be true, not what to do next; done twice, late or in another order, it does no harm.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from chalicelib.errors import Invalid
from chalicelib.protocol.frame import Frame, is_integer
from chalicelib.protocol.publication import Publication

# Bounds for jobs that another version of the app has put.
MAX_SEGMENTS: Final = 1_000
MAX_SHARDS: Final = 10_000


class Advance(NamedTuple):
    """Deliver what was published in a shard, and admit those who wait there."""

    channel: str
    shard: int


class Close(NamedTuple):
    """Close a connection whose earlier close failed."""

    connection_id: str


class Leave(NamedTuple):
    """Tell a channel's members that a disconnected user has left, unless it has come back."""

    channel: str
    user_id: str
    connection_id: str


class BroadcastSlice(NamedTuple):
    """Send a broadcast of epoch second `time` to one segment of the index, from the place `after` on."""

    note: str | None
    data: Any
    time: float
    segment: int
    segments: int
    after: tuple[str, str] | None = None


class PublicationSlice(NamedTuple):
    """Send a publication that has no history to a shard's members, from the connection id `after` on."""

    channel: str
    shard: int
    publication: Publication
    after: str | None = None


Job = Advance | Close | Leave | BroadcastSlice | PublicationSlice
NAMES: Final[Mapping[type[Job], str]] = {
    Advance: "advance",
    BroadcastSlice: "broadcast",
    Close: "close",
    Leave: "leave",
    PublicationSlice: "publication",
}
# Fields whose names in JSON differ.
_KEYS: Final = {"connection_id": "connectionId", "user_id": "userId"}


def dump_job(job: Job) -> dict[str, Any]:
    """Return the JSON object for the queue: the job's name and its fields."""
    fields = {_KEYS.get(field, field): value for field, value in job._asdict().items()}
    if isinstance(job, PublicationSlice):
        published = fields.pop("publication")
        fields |= {"data": published.data, "from": published.sender, "time": published.time}
        fields |= {"messageId": published.message_id, "exclude": published.exclude}
    return {"job": NAMES[type(job)], **fields}


def read_job(body: object) -> Job:
    """Return the job in the body of a queue's message. Raises Invalid if it holds none that can be done."""
    try:
        loaded = json.loads(body) if isinstance(body, str) else None
    except ValueError:
        loaded = None
    job = Frame(None, loaded if isinstance(loaded, dict) else {})
    match job.fields.get("job"):
        case "advance":
            return Advance(job.name("channel"), _shard(job))
        case "broadcast":
            return _broadcast(job.fields)
        case "close":
            return Close(job.name("connectionId"))
        case "leave":
            return Leave(job.name("channel"), job.name("userId"), job.name("connectionId"))
        case "publication":
            return PublicationSlice(job.name("channel"), _shard(job), _publication(job), _name_or_none(job, "after"))
    raise Invalid("job", f"must be one of {', '.join(NAMES.values())}")


def _broadcast(fields: Mapping[str, Any]) -> BroadcastSlice:
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
    return BroadcastSlice(note, fields.get("data"), time, fields["segment"], segments, place)


def _publication(job: Frame) -> Publication:
    sender, time = job.fields.get("from"), job.fields.get("time")
    if not (sender is None or isinstance(sender, dict)) or not isinstance(time, str):
        raise Invalid("from", "must be an object or null, and time a text")
    message_id, exclude = _name_or_none(job, "messageId"), _name_or_none(job, "exclude")
    return Publication(None, job.fields.get("data"), sender, time, message_id, exclude)


def _name_or_none(job: Frame, field: str) -> str | None:
    return job.name(field) if job.has(field) else None


def _shard(job: Frame) -> int:
    shard = job.fields.get("shard")
    if not is_integer(shard, 0, MAX_SHARDS):
        raise Invalid("shard", "must be a whole number")
    return shard
