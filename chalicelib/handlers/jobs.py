"""The door for jobs: an SQS event in; what is not done raises, and SQS gives it out again.

Invariant: a job that can never be done (malformed, of a channel there can no longer be) is logged and dropped, so that
it does not come back until it is a dead letter; one that failed comes back.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from chalicelib import telemetry
from chalicelib.connections.broadcast import MAX_SEGMENTS
from chalicelib.errors import ClientError, Invalid
from chalicelib.peal import Service
from chalicelib.protocol.frame import is_integer
from chalicelib.protocol.names import check_name
from chalicelib.protocol.publication import Publication
from chalicelib.telemetry import Metric

log = logging.getLogger(__name__)

MAX_SHARDS: Final = 10_000


def work(service: Service, event: Mapping[str, Any]) -> None:
    """Every job of the event is done or dropped.

    Raises:
        Exception: one has failed; the whole event comes again, and doing a job twice does no harm.
    """
    for record in event["Records"]:
        try:
            job = _parse(record.get("body"))
            telemetry.note("action", job["job"])
            JOBS[job["job"]](service, job)
        except ClientError as error:
            telemetry.refuse(error.code)
            log.error("Dropped a job that cannot be done: %s", error)


def reap(service: Service) -> dict[str, int]:
    """A run of the reaper is over; what it did is logged, and what the function returns. Errors as `Reaping.reap`."""
    reaped = service.reap()
    telemetry.count(Metric.PRUNES, reaped.pruned)
    log.info("Reaped: %s", reaped.as_dict())
    return reaped.as_dict()


def advance(service: Service, job: Mapping[str, Any]) -> None:
    """`{"job": "advance", "channel", "shard"}`: what was published in the shard is delivered."""
    service.advance(check_name(job.get("channel"), "channel"), _shard(job))


def close(service: Service, job: Mapping[str, Any]) -> None:
    """`{"job": "close", "connectionId"}`: the connection, which could not be closed before, is."""
    service.cut(check_name(job.get("connectionId"), "connectionId"))


def leave(service: Service, job: Mapping[str, Any]) -> None:
    """`{"job": "leave", "channel", "userId", "connectionId"}`: if the user did not come back, members know."""
    channel, user_id, connection_id = (
        check_name(job.get(name), name) for name in ("channel", "userId", "connectionId")
    )
    service.announce_leave(channel, user_id, connection_id)


def broadcast(service: Service, job: Mapping[str, Any]) -> None:
    """`{"job": "broadcast", "note", "data", "time", "segment", "segments", "after"}`: the segment is sent it."""
    note, time, segments, after = (job.get(name) for name in ("note", "time", "segments", "after"))
    if not (note is None or isinstance(note, str)) or not isinstance(time, int | float):
        raise Invalid("note", "must be a text, and time a number")
    if not is_integer(segments, 1, MAX_SEGMENTS) or not is_integer(job.get("segment"), 0, segments - 1):
        raise Invalid("segment", "must be a whole number below segments")
    match after:
        case None:
            place = None
        case [str(owner), str(connection)] if connection.startswith("CONN#"):
            place = (owner, connection)
        case _:
            raise Invalid("after", "must be a place in the index")
    service.broadcast_slice(note, job.get("data"), time, job["segment"], segments, place)


def publication(service: Service, job: Mapping[str, Any]) -> None:
    """`{"job": "publication", "channel", "shard", "after", ...what was published}`: the shard's members are sent it."""
    channel = check_name(job.get("channel"), "channel")
    names = ("after", "messageId", "exclude")
    after, message_id, exclude = (None if job.get(name) is None else check_name(job[name], name) for name in names)
    origin, time = job.get("from"), job.get("time")
    if not (origin is None or isinstance(origin, dict)) or not isinstance(time, str):
        raise Invalid("from", "must be an object or null, and time a text")
    draft = Publication(None, job.get("data"), origin, time, message_id, exclude)
    service.send_slice(channel, draft, _shard(job), after)


def _shard(job: Mapping[str, Any]) -> int:
    shard = job.get("shard")
    if not is_integer(shard, 0, MAX_SHARDS):
        raise Invalid("shard", "must be a whole number")
    return shard


def _parse(body: object) -> Mapping[str, Any]:
    try:
        job = json.loads(body) if isinstance(body, str) else None
    except ValueError:
        job = None
    if not isinstance(job, dict) or job.get("job") not in JOBS:
        raise Invalid("job", f"must be one of {', '.join(JOBS)}")
    return job


JOBS: Mapping[str, Callable[[Service, Mapping[str, Any]], None]] = {
    "advance": advance,
    "broadcast": broadcast,
    "close": close,
    "leave": leave,
    "publication": publication,
}
