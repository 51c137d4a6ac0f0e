"""Publish in a channel.

Invariants: in a channel with history a publication is written before it is sent, so a member that misses it can recover
it, and someone delivers whatever was announced. In a channel without history nothing is written and no order is
promised.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from chalicelib import telemetry
from chalicelib.aws.queue import Jobs
from chalicelib.channels.sequencer import Sequencer
from chalicelib.delivery.delivery import Delivery, Outcome, counts
from chalicelib.delivery.slices import PATIENCE_SECONDS, Send, Slices
from chalicelib.errors import Invalid, ServiceError, TooLarge
from chalicelib.protocol.frame import MAX_FRAME_BYTES, Frame, dump, timestamp
from chalicelib.protocol.jobs import Advance, PublicationSlice, dump_job
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Position, Publication
from chalicelib.store.connection import Connection
from chalicelib.store.lease import LeaseLost, Leases
from chalicelib.store.log import Log
from chalicelib.store.members import Members
from chalicelib.telemetry import Metric


@dataclass(frozen=True)
class Message:
    """What is to be published: any JSON, and the publisher's own name for it, if it has one."""

    data: Any
    message_id: str | None = None


@dataclass(frozen=True)
class Published:
    """The result for one message.

    Attributes:
        epoch, offset: its position; both None in a channel without history.
        outcome: the counts of sending it; None if it is queued: someone else sends it or has sent it.
    """

    epoch: str | None
    offset: int | None
    outcome: Outcome | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of replies."""
        return {"epoch": self.epoch, "offset": self.offset, **counts(self.outcome)}


def read_message(frame: Frame) -> Message:
    """Return the frame's `data`, which must be given and may be null, and its `messageId`.

    Raises Invalid: data is missing or messageId is no name; TooLarge: data alone is larger than a frame.
    """
    if "data" not in frame.fields:
        raise Invalid("data", "must be given")
    size_bytes = len(dump(frame.fields["data"]).encode())
    if size_bytes > MAX_FRAME_BYTES:
        raise TooLarge(size_bytes, MAX_FRAME_BYTES)
    return Message(frame.fields["data"], frame.name("messageId") if frame.has("messageId") else None)


@dataclass(eq=False, repr=False)
class Publisher:
    """Writes what is published, numbers it and sends it, or leaves that to the lease's holder or to jobs."""

    log: Log
    leases: Leases
    members: Members
    sequencer: Sequencer
    delivery: Delivery
    slices: Slices
    queue: Jobs
    clock: Callable[[], float]

    def publish(
        self, channel: Channel, messages: Sequence[Message], sender: Connection | None, excludes_sender: bool
    ) -> list[Published]:
        """Publish the messages in their order, each messageId once, and return one result for each.

        A `sender` of None is a server. After an error some members may have been sent them; a message with a messageId
        may be published again.
        """
        telemetry.count(Metric.PUBLISHES, len(messages))
        exclude = sender.connection_id if sender and (excludes_sender or not channel.options.echo) else None
        origin = sender.origin if sender else None
        time = timestamp(self.clock())
        drafts = [Publication(None, message.data, origin, time, message.message_id, exclude) for message in messages]
        if channel.options.history_size:
            return self._keep_and_deliver(channel, drafts)
        return [self._send(channel, draft) for draft in drafts]

    def send_slice(self, channel: Channel, job: PublicationSlice) -> None:
        """Send the job's publication to as many of its members as one job may, and leave the others to another job.

        Raises ConfigurationError, TableError; JobsError: the queue failed, so the others were not sent to.
        """
        receivers = self.members.receivers(channel, job.shard, job.after, page_items=self.slices.size)
        self.slices.send_slice(
            ((receiver, receiver.connection_id) for receiver in receivers),
            self._sender(channel, job.publication, PATIENCE_SECONDS),
            lambda place: dump_job(job._replace(after=place)),
        )

    def _send(self, channel: Channel, draft: Publication) -> Published:
        if draft.message_id and not self.log.claim(channel, draft.message_id):
            return Published(None, None, None)
        shards = range(channel.options.shards)
        try:
            outcome = self.slices.send_or_cut(
                chain.from_iterable(self.members.receivers(channel, shard) for shard in shards),
                self._sender(channel, draft),
                (dump_job(PublicationSlice(channel.name, shard, draft)) for shard in shards),
            )
        except Exception:
            if draft.message_id:
                # The publisher may try again.
                self.log.release(channel, draft.message_id)
            raise
        return Published(None, None, outcome)

    def _sender(self, channel: Channel, draft: Publication, patience_seconds: float = 0) -> Send:
        return lambda receivers: self.delivery.send(
            receivers,
            lambda codec: codec.publication(channel.name, None, draft),
            exclude=draft.exclude,
            on_gone=lambda receiver: self.members.remove(channel, receiver),
            patience_seconds=patience_seconds,
        )

    def _keep_and_deliver(self, channel: Channel, drafts: Sequence[Publication]) -> list[Published]:
        written = [self._write(channel, draft) for draft in drafts]
        newest = max((position for position, _ in written), key=lambda position: position.offset)
        only = written[0][1] if len(written) == 1 else None
        outcomes: Mapping[int | None, Outcome] = {}
        for shard in range(channel.options.shards):
            if channel.options.shards == 1:
                outcomes = self._deliver(channel, shard, newest, only)
            else:
                self.queue.put(dump_job(Advance(channel.name, shard)))
        return [
            Published(position.epoch, position.offset, outcomes.get(position.offset) if publication else None)
            for position, publication in written
        ]

    def _write(self, channel: Channel, draft: Publication) -> tuple[Position, Publication | None]:
        """Return the message's position, and its publication unless an earlier one has its messageId."""
        if draft.message_id and (first := self.log.first_of(channel, draft.message_id)):
            return first, None
        while True:
            position = self.log.number(channel)
            publication = replace(draft, offset=position.offset)
            if draft.message_id is None:
                if self.log.write(channel, position.epoch, publication):
                    return position, publication
            elif first := self.log.write_once(channel, position.epoch, publication):
                if first == position:
                    return position, publication
                # The number is unused now; nobody shall wait for it.
                self.log.fill(channel, position.epoch, position.offset)
                return first, None

    def _deliver(
        self, channel: Channel, shard: int, position: Position, publication: Publication | None
    ) -> Mapping[int | None, Outcome]:
        try:
            lease = self.leases.announce(channel, shard, position)
            if lease:
                with suppress(LeaseLost):
                    return self.sequencer.go_on(lease, publication)
        except ServiceError:
            # It is written: its members are sent it, whether or not its publisher tries again.
            with suppress(ServiceError):
                self.sequencer.resume_later(channel, shard)
            raise
        return {}
