"""Admit subscribers to a channel: the reply and the membership, and closing those that may have missed something.

Invariant: in a channel with history the reply comes before the first push, and what it says was missed, its offset and
the pushes that follow join without a gap or a repeat. So subscribers are admitted under the shard's lease, while nobody
else delivers; its holder admits all who wait.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from itertools import islice
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.queue import Jobs
from chalicelib.channels.presence import PresenceManager
from chalicelib.channels.recovery import Recovery
from chalicelib.delivery.delivery import Delivery
from chalicelib.errors import ServiceError
from chalicelib.limits import LIMITS, Limits
from chalicelib.protocol.codec import codec_of
from chalicelib.protocol.frame import FrameId
from chalicelib.protocol.jobs import Close, dump_job
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Missed, Position
from chalicelib.store.connection import Connection
from chalicelib.store.lease import Lease
from chalicelib.store.members import Members, Waiting
from chalicelib.store.registry import Registry

log = logging.getLogger(__name__)

# By then whatever prevented closing a connection may have passed.
CLOSE_AGAIN_SECONDS: Final = 5
# Admitting is mostly waiting for the table.
WORKERS: Final = 16


@dataclass(eq=False, repr=False)
class Admission:
    """Makes subscribers members and tells them so."""

    registry: Registry
    members: Members
    recovery: Recovery
    delivery: Delivery
    presence: PresenceManager
    queue: Jobs
    limits: Limits = LIMITS

    def reply(
        self, channel: Channel, connection: Connection, reply_to: FrameId, position: Position | None, missed: Missed
    ) -> bool:
        """Tell the subscriber where it joins and what it missed; return whether it could be reached.

        The next push is the publication after `position`, which is None in a channel without history. A `reply_to` of
        None wants no reply.
        """
        receiver = connection.receiver
        frames = codec_of(receiver).subscribed(reply_to, channel.name, position, missed)
        return all(self.delivery.reply(receiver, frame).sent for frame in frames)

    def admit_some(self, lease: Lease) -> tuple[list[str], bool]:
        """Admit up to `Limits.admitted` of those who wait in the lease's shard, at the lease's position.

        Returns the connections that were admitted, and whether more may wait. After an error some may still wait.
        """
        batch = list(islice(self.members.waiting(lease.channel, lease.shard), self.limits.admitted))
        # Threads log and count for this invocation: each task has its own context, which no two may enter at once.
        runs = [copy_context().run for _ in batch]
        with ThreadPoolExecutor(WORKERS) as workers:
            admitted = workers.map(lambda run, waiting: run(self._admit_waiting, lease, waiting), runs, batch)
            return [connection_id for connection_id in admitted if connection_id], len(batch) == self.limits.admitted

    def admit(self, lease: Lease, waiting: Waiting, connection: Connection) -> bool:
        """Make the connection a member, after telling it that it joins at the lease's position.

        Returns False if it could not be reached, or its membership could not be written; then it is closed. After an
        error it is no member, or still waits.
        """
        channel, missed = lease.channel, self.recovery.missed_under(lease, waiting.recover)
        if self.reply(channel, connection, waiting.reply_to, Position(lease.epoch, lease.delivered), missed):
            try:
                self.add(channel, connection, waiting.join_ref)
                return True
            except ServiceError as error:
                # It has its reply and would believe it, whatever it receives afterwards.
                log.warning("Admitting %s to %s failed: %s", connection.connection_id, channel.name, error)
        self.close(channel, connection.connection_id)
        return False

    def close(self, channel: Channel, connection_id: str) -> None:
        """End the membership of a connection that may have missed something, and close it, so that it recovers.

        If it cannot be closed, its row expires, so that its next frame is refused, and a job closes it: by the time the
        reaper comes, DynamoDB may have deleted the row.
        """
        try:
            self.members.remove(channel, connection_id)
        finally:
            self._close(connection_id)

    def add(self, channel: Channel, connection: Connection, join_ref: int | None) -> None:
        """Make the connection a member, unless it has ended meanwhile."""
        self.members.add(channel, connection, join_ref)
        self._look_again(channel, connection, join_ref)

    def add_waiting(self, channel: Channel, connection: Connection, waiting: Waiting) -> None:
        """Let the connection wait to be admitted, unless it has ended meanwhile."""
        self.members.add_waiting(channel, connection, waiting)
        self._look_again(channel, connection, waiting.join_ref)

    def remove(self, channel: Channel, connection: Connection, join_ref: int | None) -> bool:
        """End the membership, unless the connection has joined with a later join_ref; return whether it is ended."""
        is_removed = self.members.remove(channel, connection.connection_id, join_ref)
        self.registry.remove_channel(connection.connection_id, connection.subscriptions(channel.name, join_ref))
        return is_removed

    def _look_again(self, channel: Channel, connection: Connection, join_ref: int | None) -> None:
        now = self.registry.get(connection.connection_id)
        if now is None or not now.has(channel.name, join_ref):
            # Its end, or a token that does not grant this, came in between and looked for memberships too early.
            self.members.remove(channel, connection.connection_id, join_ref)
        elif now.ttl != connection.ttl:
            self.members.extend(channel.name, now)

    def _admit_waiting(self, lease: Lease, waiting: Waiting) -> str | None:
        connection = self.registry.get(waiting.connection_id)
        if connection is None or not connection.has(lease.channel.name, waiting.join_ref):
            self.members.remove(lease.channel, waiting.connection_id, waiting.join_ref)
            return None
        if not self.admit(lease, waiting, connection):
            return None
        if waiting.is_new:
            self.presence.announce("join", lease.channel, connection)
        return waiting.connection_id

    def _close(self, connection_id: str) -> None:
        try:
            self.delivery.close(connection_id)
        except (BotoCoreError, ClientError) as error:
            log.warning("Closing %s failed: %s", connection_id, type(error).__name__)
            try:
                self.registry.expire(connection_id)
            finally:
                self.queue.put(dump_job(Close(connection_id)), delay_seconds=CLOSE_AGAIN_SECONDS)
