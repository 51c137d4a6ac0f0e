"""Publish in a channel.

Invariants: in a channel with history a publication is written before it is sent, so whoever misses it can recover it;
one that was announced is delivered by someone. In a channel without, nothing is written and no order is promised.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from chalicelib import telemetry
from chalicelib.aws.queue import Jobs
from chalicelib.channels.sequencer import Advance, advance_job
from chalicelib.delivery.delivery import Delivery, Outcome, counts
from chalicelib.delivery.slices import PATIENCE_SECONDS, Send, Slices
from chalicelib.errors import Invalid, ServiceError, TooLarge
from chalicelib.protocol import frame as protocol
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Publication, Stream
from chalicelib.store.lease import Cursors, LeaseLost
from chalicelib.store.log import History
from chalicelib.store.members import Channels
from chalicelib.store.registry import Connection
from chalicelib.telemetry import Metric


@dataclass(frozen=True)
class Message:
    """What somebody wants to publish: any JSON, and the publisher's own name for it, if it has one."""

    data: Any
    message_id: str | None = None


@dataclass(frozen=True)
class Published:
    """What became of one message.

    Attributes:
        epoch, offset: where it stands; both None in a channel without history.
        outcome: what became of sending it; None: queued, somebody else sends it or has sent it.
    """

    epoch: str | None
    offset: int | None
    outcome: Outcome | None

    def as_dict(self) -> dict[str, Any]:
        """What stands in replies."""
        return {"epoch": self.epoch, "offset": self.offset, **counts(self.outcome)}


def read_message(frame: protocol.Frame) -> Message:
    """The frame's `data`, which must be there and may be null, and its `messageId`, a name.

    Raises:
        Invalid: data is missing or messageId is no name.
        TooLarge: data alone is larger than a frame.
    """
    if "data" not in frame.fields:
        raise Invalid("data", "must be given")
    size_bytes = len(protocol.dump(frame.fields["data"]).encode())
    if size_bytes > protocol.MAX_FRAME_BYTES:
        raise TooLarge(size_bytes, protocol.MAX_FRAME_BYTES)
    return Message(frame.fields["data"], frame.name("messageId") if frame.has("messageId") else None)


class Publishing:
    """Publishes."""

    def __init__(
        self,
        history: History,
        cursors: Cursors,
        channels: Channels,
        advance: Advance,
        delivery: Delivery,
        slices: Slices,
        jobs: Jobs,
        clock: Callable[[], float],
    ) -> None:
        self._history = history
        self._cursors = cursors
        self._channels = channels
        self._advance = advance
        self._delivery = delivery
        self._slices = slices
        self._jobs = jobs
        self._clock = clock

    def publish(
        self, channel: Channel, messages: Sequence[Message], sender: Connection | None, excludes_sender: bool
    ) -> list[Published]:
        """The messages are published in their order, each of a messageId once.

        Args:
            channel: where.
            messages: one or several.
            sender: the connection that publishes; None is a server.
            excludes_sender: whether that connection is not sent them.

        Returns:
            What became of each.

        Raises:
            ConfigurationError, TableError: DynamoDB failed, or nobody knows the management endpoint; a message with
                a messageId may be sent again.
        """
        telemetry.count(Metric.PUBLISHES, len(messages))
        exclude = sender.connection_id if sender and (excludes_sender or not channel.options.echo) else None
        origin = {"userId": sender.user_id, "connectionId": sender.connection_id} if sender else None
        time = protocol.timestamp(self._clock())
        drafts = [Publication(None, message.data, origin, time, message.message_id, exclude) for message in messages]
        if channel.options.history_size:
            return self._keep_and_deliver(channel, drafts)
        return [self._send(channel, draft) for draft in drafts]

    def advance(self, channel: Channel, shard: int) -> None:
        """Whatever was published in the shard is delivered and who waits is let in, or somebody is at it.

        Errors as `publish`.
        """
        stream = self._history.stream(channel)
        lease = self._cursors.announce(channel, shard, stream) or self._cursors.claim(channel, shard, stream)
        if lease:
            with suppress(LeaseLost):
                self._advance.go_on(lease)

    def send_slice(self, channel: Channel, draft: Publication, shard: int, after: str | None) -> None:
        """Some members of the shard were sent the publication, which has no history, and the others will be.

        Args:
            channel, draft: what was published, and where.
            shard: whose members.
            after: from which member on, in the order of connection ids.

        Errors as `publish`.
        """
        receivers = self._channels.receivers(channel, shard, after, page_items=self._slices.size)
        self._slices.send_slice(
            ((receiver, receiver.connection_id) for receiver in receivers),
            self._sender(channel, draft, PATIENCE_SECONDS),
            lambda place: _slice_job(channel, draft, shard, place),
        )

    def _send(self, channel: Channel, draft: Publication) -> Published:
        if draft.message_id and not self._history.claim(channel, draft.message_id):
            return Published(None, None, None)
        shards = range(channel.options.shards)
        try:
            outcome = self._slices.send_or_cut(
                chain.from_iterable(self._channels.receivers(channel, shard) for shard in shards),
                self._sender(channel, draft),
                (_slice_job(channel, draft, shard) for shard in shards),
            )
        except Exception:
            if draft.message_id:
                # So that it may come again.
                self._history.release(channel, draft.message_id)
            raise
        return Published(None, None, outcome)

    def _sender(self, channel: Channel, draft: Publication, patience_seconds: float = 0) -> Send:
        return lambda receivers: self._delivery.send(
            receivers,
            lambda codec: codec.publication(channel.name, None, draft),
            exclude=draft.exclude,
            on_gone=lambda receiver: self._channels.remove(channel, receiver),
            patience_seconds=patience_seconds,
        )

    def _keep_and_deliver(self, channel: Channel, drafts: Sequence[Publication]) -> list[Published]:
        written = [self._write(channel, draft) for draft in drafts]
        newest = max(written, key=lambda entry: entry[0].offset)[0]
        mine = written[0][1] if len(written) == 1 else None
        outcomes: Mapping[int | None, Outcome] = {}
        for shard in range(channel.options.shards):
            if channel.options.shards == 1:
                outcomes = self._deliver(channel, shard, newest, mine)
            else:
                self._jobs.put(advance_job(channel, shard))
        return [
            Published(stream.epoch, stream.offset, outcomes.get(stream.offset) if publication else None)
            for stream, publication in written
        ]

    def _write(self, channel: Channel, draft: Publication) -> tuple[Stream, Publication | None]:
        """Return where the message stands, and the publication unless another one had its messageId before."""
        if draft.message_id and (first := self._history.first_of(channel, draft.message_id)):
            return first, None
        while True:
            stream = self._history.number(channel)
            publication = replace(draft, offset=stream.offset)
            if draft.message_id is None:
                if self._history.write(channel, stream.epoch, publication):
                    return stream, publication
            elif first := self._history.write_once(channel, stream.epoch, publication):
                if first == stream:
                    return stream, publication
                # The number is nobody's now; nobody shall wait for it.
                self._history.fill(channel, stream.epoch, stream.offset)
                return first, None

    def _deliver(
        self, channel: Channel, shard: int, stream: Stream, mine: Publication | None
    ) -> Mapping[int | None, Outcome]:
        try:
            lease = self._cursors.announce(channel, shard, stream)
            if lease:
                with suppress(LeaseLost):
                    return self._advance.go_on(lease, mine)
        except ServiceError:
            # It is written. Whether or not its publisher tries again, members are sent it.
            with suppress(ServiceError):
                self._advance.go_on_later(channel, shard)
            raise
        return {}


def _slice_job(channel: Channel, draft: Publication, shard: int, after: str | None = None) -> dict[str, Any]:
    return {
        "job": "publication",
        "channel": channel.name,
        "shard": shard,
        "after": after,
        "data": draft.data,
        "from": draft.sender,
        "time": draft.time,
        "messageId": draft.message_id,
        "exclude": draft.exclude,
    }
