"""Subscribe to a channel, come back to it, leave it.

Invariants: after the reply no later publish misses the subscriber; in a channel with history the reply stands before
the first push, and what it says was missed, its offset and the pushes that follow join without a gap or a repeat.

Whatever a connection's end interleaves with, no membership is left behind: the row names the channel before the
membership is written, and whoever writes one looks afterwards whether the row is still there.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress

from chalicelib.channels.admission import Joining
from chalicelib.channels.sequencer import Advance
from chalicelib.errors import LimitExceeded, NotRegistered, NotSubscribed, ServiceError
from chalicelib.protocol.frame import FrameId
from chalicelib.protocol.missed import Missed
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Stream
from chalicelib.store.lease import Cursors, Lease
from chalicelib.store.log import History
from chalicelib.store.members import Waiting
from chalicelib.store.registry import Connection, Registry

log = logging.getLogger(__name__)


class Subscribing:
    """Subscribes connections."""

    def __init__(
        self,
        registry: Registry,
        history: History,
        cursors: Cursors,
        joining: Joining,
        advance: Advance,
        max_channels: int,
    ) -> None:
        self._registry = registry
        self._history = history
        self._cursors = cursors
        self._joining = joining
        self._advance = advance
        self._max_channels = max_channels

    def subscribe(
        self,
        channel: Channel,
        connection: Connection,
        recover: Stream | None,
        reply_to: FrameId,
        turn: int | None = None,
    ) -> bool:
        """The connection is a member of the channel and was told so, or soon will be.

        Where there is history, it is told before it is a member, and if somebody delivers just now, by that one.

        Args:
            channel: which.
            connection: who.
            recover: the last position it knows; what came after it is sent.
            reply_to: the id of the frame that asks; None wants no reply.
            turn: see `Channels.add`. Whoever has turns does not subscribe to what it is in.

        Returns:
            Whether it has become a member: False where it was one before, could not be told, or waits to be let in.

        Raises:
            LimitExceeded: it has as many channels as it may.
            NotRegistered: it is not registered (any more).
            ConfigurationError, ServiceError: it is no member, and was not told so.
        """
        if channel.name not in connection.channels and len(connection.channels) >= self._max_channels:
            raise LimitExceeded("channels", self._max_channels)
        if not self._registry.add_channel(connection.connection_id, channel.name, self._max_channels, turn):
            raise NotRegistered
        waiting = Waiting(
            connection.connection_id,
            reply_to,
            (recover.epoch, recover.offset) if recover else None,
            is_new=turn is not None or channel.name not in connection.channels,
            turn=turn,
        )
        if channel.options.history_size:
            return self._join_in_order(channel, connection, waiting) and waiting.is_new
        self._joining.add(channel, connection, turn)
        told = self._joining.tell(channel, connection, reply_to, None, Missed(recover))
        if not told:
            self._joining.break_off(channel, connection.connection_id)
        return told and waiting.is_new

    def unsubscribe(self, channel: Channel, connection: Connection, turn: int | None = None) -> bool:
        """The connection is no member, unless it has become one by a later turn; a push under way may still reach it.

        Returns whether it is none.

        Raises:
            NotSubscribed: it was none.
            TableError: DynamoDB failed.
        """
        if channel.name not in connection.channels:
            raise NotSubscribed
        return self._joining.remove(channel, connection, turn)

    def _join_in_order(self, channel: Channel, connection: Connection, waiting: Waiting) -> bool:
        shard = channel.shard_of(connection.connection_id)
        stream = self._history.stream(channel)
        lease = self._cursors.claim(channel, shard, stream)
        if lease is None:
            self._joining.add_waiting(channel, connection, waiting)
            lease = self._cursors.announce_join(channel, shard, stream)
            if lease is None:
                # Should whoever delivers be dead, this looks after it.
                self._advance.go_on_later(channel, shard)
            else:
                self._go_on(lease)
            return False
        try:
            lease = self._cursors.renew(self._advance.catch_up(lease))
            told = self._joining.let_in(lease, waiting, connection)
        except Exception:
            with suppress(ServiceError):
                self._cursors.abandon(lease, lease.delivered)
            raise
        self._go_on(lease, [connection.connection_id] if told else [])
        return told

    def _go_on(self, lease: Lease, entered: Sequence[str] = ()) -> None:
        try:
            self._advance.go_on(lease, entered=entered)
        except ServiceError as error:
            # The subscriber has been told, or will be. Maybe nobody can take the lease until it has run out.
            log.warning("Delivering in %s failed: %s", lease.channel.name, error)
            with suppress(ServiceError):
                self._advance.go_on_later(lease.channel, lease.shard)
