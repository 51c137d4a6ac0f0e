"""The door for jobs: an SQS event in. What is not done raises, and SQS delivers it again.

Invariant: a job that can never be done (malformed, or of a channel there can no longer be) is logged and dropped rather
than retried until it is a dead letter; one that failed is retried.
"""

import logging
from collections.abc import Mapping
from typing import Any

from chalicelib import telemetry
from chalicelib.connections import broadcast
from chalicelib.errors import ClientError
from chalicelib.peal import Peal
from chalicelib.protocol.jobs import NAMES, Advance, BroadcastSlice, Close, Job, Leave, PublicationSlice, read_job

log = logging.getLogger(__name__)


def work(peal: Peal, event: Mapping[str, Any]) -> None:
    """Do or drop every job of the event. If one fails, it raises, and SQS delivers the whole event again."""
    for record in event["Records"]:
        try:
            job = read_job(record.get("body"))
            telemetry.note("action", NAMES[type(job)])
            do(peal, job)
        except ClientError as error:
            telemetry.refuse(error.code)
            log.error("Dropped a job that cannot be done: %s", error)


def do(peal: Peal, job: Job) -> None:
    """Do the job; errors are those of the part that does it."""
    match job:
        case Advance(name, shard):
            channel = peal.members.resolve(name)
            if shard < channel.options.shards:
                peal.sequencer.resume(channel, shard)
        case BroadcastSlice():
            broadcast.send_slice(peal.registry, peal.slices, peal.delivery, job)
        case Close(connection_id):
            peal.closing.close_silently(connection_id)
        case Leave(name, user_id, connection_id):
            peal.presence_manager.announce_disconnect(peal.members.resolve(name), user_id, connection_id)
        case PublicationSlice(name, shard):
            channel = peal.members.resolve(name)
            if shard < channel.options.shards:
                peal.publisher.send_slice(channel, job)
