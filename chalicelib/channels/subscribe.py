"""Subscribe to a channel, resubscribe, unsubscribe.

Invariants: no publish after the reply misses the subscriber; in a channel with history the reply comes before the first
push, and what it says was missed, its offset and the pushes that follow join without a gap or a repeat.

However a connection's end interleaves with this, no membership is left behind: the row names the channel before the
membership is written, and its writer checks afterwards that the row is still there.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.channels.admission import Admission
from chalicelib.channels.sequencer import Sequencer
from chalicelib.errors import LimitExceeded, NotRegistered, NotSubscribed, ServiceError
from chalicelib.protocol.frame import FrameId
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Missed, Position
from chalicelib.store.connection import Connection
from chalicelib.store.lease import Lease, Leases
from chalicelib.store.log import Log
from chalicelib.store.members import Waiting
from chalicelib.store.registry import Registry

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class Subscriptions:
    """Subscribes and unsubscribes connections, each to `max_channels` at most."""

    registry: Registry
    log: Log
    leases: Leases
    admission: Admission
    sequencer: Sequencer
    max_channels: int

    def subscribe(
        self,
        channel: Channel,
        connection: Connection,
        recover: Position | None,
        reply_to: FrameId,
        join_ref: int | None = None,
    ) -> bool:
        """Make the connection a member of the channel and reply to it, or have the lease's holder do so soon.

        In a channel with history the reply comes first, then the membership.

        Args:
            channel, connection: what the subscriber joins.
            recover: the last position it knows; it is sent what came after that.
            reply_to: the id of the frame that asked; None for no reply.
            join_ref: see `Members.add`. A client that has them does not subscribe to a channel it is in.

        Returns whether it has become a member: False if it was one, could not be reached, or waits to be admitted.
        Raises LimitExceeded, NotRegistered. After any error it is no member and has no reply.
        """
        if channel.name not in connection.channels and len(connection.channels) >= self.max_channels:
            raise LimitExceeded("channels", self.max_channels)
        if not self.registry.add_channel(connection.connection_id, channel.name, self.max_channels, join_ref):
            raise NotRegistered
        waiting = Waiting(
            connection.connection_id,
            reply_to,
            recover,
            is_new=join_ref is not None or channel.name not in connection.channels,
            join_ref=join_ref,
        )
        if channel.options.history_size:
            return self._join_in_order(channel, connection, waiting) and waiting.is_new
        self.admission.add(channel, connection, join_ref)
        is_told = self.admission.reply(channel, connection, reply_to, None, Missed(recover))
        if not is_told:
            self.admission.close(channel, connection.connection_id)
        return is_told and waiting.is_new

    def unsubscribe(self, channel: Channel, connection: Connection, join_ref: int | None = None) -> bool:
        """End the connection's membership, unless it has become a member with a later join_ref.

        A push that is under way may still reach it.

        Returns whether it is no member now. Raises TableError; NotSubscribed: it was no member.
        """
        if channel.name not in connection.channels:
            raise NotSubscribed
        return self.admission.remove(channel, connection, join_ref)

    def _join_in_order(self, channel: Channel, connection: Connection, waiting: Waiting) -> bool:
        shard = channel.shard_of(connection.connection_id)
        position = self.log.position(channel)
        lease = self.leases.claim(channel, shard, position)
        if lease is None:
            self.admission.add_waiting(channel, connection, waiting)
            lease = self.leases.announce_join(channel, shard, position)
            if lease is None:
                # In case the holder of the lease is dead.
                self.sequencer.resume_later(channel, shard)
            else:
                self._go_on(lease)
            return False
        try:
            lease = self.leases.renew(self.sequencer.catch_up(lease))
            is_admitted = self.admission.admit(lease, waiting, connection)
        except Exception:
            with suppress(ServiceError):
                self.leases.abandon(lease, lease.delivered)
            raise
        self._go_on(lease, [connection.connection_id] if is_admitted else [])
        return is_admitted

    def _go_on(self, lease: Lease, admitted: Sequence[str] = ()) -> None:
        try:
            self.sequencer.go_on(lease, admitted=admitted)
        except ServiceError as error:
            # The subscriber has its reply, or will have. Perhaps nobody can take the lease until it has run out.
            log.warning("Delivering in %s failed: %s", lease.channel.name, error)
            with suppress(ServiceError):
                self.sequencer.resume_later(lease.channel, lease.shard)
