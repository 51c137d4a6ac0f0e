"""Let in who subscribes to a channel with history: the reply, then the membership, while nobody else delivers.

Invariant: the reply stands before the first push, and what it says was missed, its offset and the pushes that follow
join without a gap or a repeat. So it happens under the shard's lease; whoever holds that lets in all who wait.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from itertools import islice
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.queue import Jobs
from chalicelib.channels.presence import Attendance
from chalicelib.delivery.delivery import Delivery
from chalicelib.errors import ServiceError
from chalicelib.protocol.codec import Codec, codec_of
from chalicelib.protocol.frame import FrameId
from chalicelib.protocol.missed import Missed
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Stream
from chalicelib.store.lease import Lease
from chalicelib.store.log import History
from chalicelib.store.members import Channels, Waiting
from chalicelib.store.registry import Connection, Registry

log = logging.getLogger(__name__)

# Until then what has refused to close a connection may have passed.
CLOSE_AGAIN_SECONDS: Final = 5
# So many are let in at a time, which takes a second or two; then the lease is renewed.
MAX_AT_ONCE: Final = 200
# Letting in is mostly waiting for the table.
WORKERS: Final = 16


class Joining:
    """Lets in."""

    def __init__(
        self,
        registry: Registry,
        history: History,
        channels: Channels,
        delivery: Delivery,
        attendance: Attendance,
        jobs: Jobs,
    ) -> None:
        self._registry = registry
        self._history = history
        self._channels = channels
        self._delivery = delivery
        self._attendance = attendance
        self._jobs = jobs

    def tell(
        self, channel: Channel, connection: Connection, reply_to: FrameId, stream: Stream | None, missed: Missed
    ) -> bool:
        """The subscriber was told where it joins, and what it missed; False where it could not be reached.

        Args:
            channel: which.
            connection: who.
            reply_to: the id of the frame that asks; None wants no reply.
            stream: where it joins: the next push is the next publication after it; None in a channel without history.
            missed: what it is given.

        Raises:
            ConfigurationError, ServiceError: as `Delivery.send`.
        """
        receiver = connection.receiver
        told = codec_of(receiver).subscribed(reply_to, channel.name, stream, missed)
        return all(self._delivery.send([receiver], partial(_as_it_is, frame)).sent for frame in told)

    def let_in_some(self, lease: Lease) -> tuple[list[str], bool]:
        """Who waits in the lease's shard is a member, and knows that it joined where the lease has delivered to.

        Returns:
            The connections that were let in, and whether more may wait: it is MAX_AT_ONCE at a time.

        Raises:
            ConfigurationError, ServiceError: some may wait on.
        """
        batch = list(islice(self._channels.waiting(lease.channel, lease.shard), MAX_AT_ONCE))
        # Threads log and count for this invocation: each task has its context, which no two may enter at once.
        runs = [copy_context().run for _ in batch]
        with ThreadPoolExecutor(WORKERS) as workers:
            entered = workers.map(lambda run, waiting: run(self._admit, lease, waiting), runs, batch)
            return [connection_id for connection_id in entered if connection_id], len(batch) == MAX_AT_ONCE

    def let_in(self, lease: Lease, waiting: Waiting, connection: Connection) -> bool:
        """The connection is a member, and knows that it joined where the lease has delivered to.

        Returns:
            False where it could not be told, or its membership could not be written; it is none then, and broken off.

        Raises:
            ConfigurationError, ServiceError: it is none either, or waits on.
        """
        channel = lease.channel
        missed = Missed(
            Stream(*waiting.recover) if waiting.recover else None,
            Stream(lease.epoch, max(lease.wanted, lease.delivered)),
            channel.options.history_size,
            lease.delivered,
            lambda first, last: self._history.read(channel, lease.epoch, first, last),
        )
        told = self.tell(channel, connection, waiting.reply_to, Stream(lease.epoch, lease.delivered), missed)
        if told:
            try:
                self.add(channel, connection, waiting.turn)
                return True
            except ServiceError as error:
                # It has been told that it is in, and believes that whatever it is told afterwards.
                log.warning("Letting %s into %s failed: %s", connection.connection_id, channel.name, error)
        self.break_off(channel, connection.connection_id)
        return False

    def break_off(self, channel: Channel, connection_id: str) -> None:
        """Who may have missed a reply or a publication is sent no more and closed, so that it comes back and recovers.

        Where it cannot be closed either, its row expires, so that its next frame is refused, and a job closes it: the
        reaper might come when DynamoDB has swept the row. Raises TableError, JobsError; the rest is done all the same.
        """
        try:
            self._channels.remove(channel, connection_id)
        finally:
            self._close(connection_id)

    def _close(self, connection_id: str) -> None:
        try:
            self._delivery.close(connection_id)
        except (BotoCoreError, ClientError) as error:
            log.warning("Closing %s failed: %s", connection_id, type(error).__name__)
            try:
                self._registry.expire(connection_id)
            finally:
                self._jobs.put({"job": "close", "connectionId": connection_id}, delay_seconds=CLOSE_AGAIN_SECONDS)

    def add(self, channel: Channel, connection: Connection, turn: int | None) -> None:
        """The connection is a member, unless its end came in between. Raises TableError."""
        self._channels.add(channel, connection, turn)
        self._look_again(channel, connection, turn)

    def add_waiting(self, channel: Channel, connection: Connection, waiting: Waiting) -> None:
        """The connection waits to be a member, unless its end came in between. Raises TableError."""
        self._channels.add_waiting(channel, connection, waiting)
        self._look_again(channel, connection, waiting.turn)

    def remove(self, channel: Channel, connection: Connection, turn: int | None) -> bool:
        """The connection is no member, unless it has become one by a later turn. Raises TableError.

        Returns whether it is none.
        """
        is_none = self._channels.remove(channel, connection.connection_id, turn)
        self._registry.remove_channel(connection.connection_id, connection.subscriptions(channel.name, turn))
        return is_none

    def _look_again(self, channel: Channel, connection: Connection, turn: int | None) -> None:
        now = self._registry.get(connection.connection_id)
        if now is None or not now.has(channel.name, turn):
            # Its end, or a token that does not grant this, came in between and looked for memberships too early.
            self._channels.remove(channel, connection.connection_id, turn)
        elif now.ttl != connection.ttl:
            self._channels.extend(channel.name, now)

    def _admit(self, lease: Lease, waiting: Waiting) -> str | None:
        connection = self._registry.get(waiting.connection_id)
        if connection is None or not connection.has(lease.channel.name, waiting.turn):
            self._channels.remove(lease.channel, waiting.connection_id, waiting.turn)
            return None
        if not self.let_in(lease, waiting, connection):
            return None
        if waiting.is_new:
            self._attendance.came(lease.channel, connection)
        return waiting.connection_id


def _as_it_is(frame: object, codec: Codec) -> object:
    return frame
