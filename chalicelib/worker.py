"""The door for jobs: an SQS event in; what is not done raises, and SQS gives it out again.

Invariant: a job that can never be done (malformed, of a channel there can no longer be) is logged and dropped, so that
it does not come back until it is a dead letter; one that failed comes back.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from chalicelib import telemetry
from chalicelib.errors import ClientError, Invalid
from chalicelib.names import check_name
from chalicelib.protocol import is_integer
from chalicelib.service import Service

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


def advance(service: Service, job: Mapping[str, Any]) -> None:
    """`{"job": "advance", "channel", "shard"}`: what was published in the shard is delivered."""
    shard = job.get("shard")
    if not is_integer(shard, 0, MAX_SHARDS):
        raise Invalid("shard", "must be a whole number")
    service.advance(check_name(job.get("channel"), "channel"), shard)


def leave(service: Service, job: Mapping[str, Any]) -> None:
    """`{"job": "leave", "channel", "userId", "connectionId"}`: if the user did not come back, members know."""
    channel, user_id, connection_id = (
        check_name(job.get(name), name) for name in ("channel", "userId", "connectionId")
    )
    service.announce_leave(channel, user_id, connection_id)


def _parse(body: object) -> Mapping[str, Any]:
    try:
        job = json.loads(body) if isinstance(body, str) else None
    except ValueError:
        job = None
    if not isinstance(job, dict) or job.get("job") not in JOBS:
        raise Invalid("job", f"must be one of {', '.join(JOBS)}")
    return job


JOBS: Mapping[str, Callable[[Service, Mapping[str, Any]], None]] = {"advance": advance, "leave": leave}
