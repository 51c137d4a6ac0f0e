"""Send to everyone.

Everyone is read from the index. A large audience is divided by the index's segments: together they hold each connection
once, and a Lambda of its own can read each.
"""

from typing import Any, Final

from chalicelib.delivery.delivery import Delivery
from chalicelib.delivery.slices import PATIENCE_SECONDS, Send, Slices
from chalicelib.protocol.jobs import BroadcastSlice, dump_job
from chalicelib.store.registry import Registry

# Twice as many as jobs run at once (JOBS_AT_ONCE in app.py), so that none waits for the longest. More would only send
# more slowly: each slice has pages of its own to read, and waits for its own confirmations of 410.
SEGMENTS: Final = 4


def divide(note: str | None, data: Any, time: float) -> list[BroadcastSlice]:
    """Return the jobs that together send a broadcast to everyone; `time` is epoch seconds."""
    return [BroadcastSlice(note, data, time, segment, SEGMENTS) for segment in range(SEGMENTS)]


def sender(delivery: Delivery, job: BroadcastSlice, patience_seconds: float = 0) -> Send:
    """Return a function that sends the job's frame to the receivers it is given."""
    return lambda receivers: delivery.send(
        receivers, lambda codec: codec.broadcast(job.note, job.data, job.time), patience_seconds=patience_seconds
    )


def send_slice(registry: Registry, slices: Slices, delivery: Delivery, job: BroadcastSlice) -> None:
    """Send the job's frame to as many of its segment as one job may, and leave the others to another job.

    Raises ConfigurationError, TableError; JobsError: the queue failed, so the others were not sent to.
    """
    entries = registry.alive(job.segment, job.segments, job.after, page_items=slices.size)
    slices.send_slice(
        ((entry.receiver, entry.place) for entry in entries),
        sender(delivery, job, PATIENCE_SECONDS),
        lambda place: dump_job(job._replace(after=place)),
    )
