"""Subscribe to a channel, come back to it, leave it.

Invariants: after the reply no later publish misses the subscriber; in a channel with history the reply stands before
the first push, and what it says was missed, its offset and the pushes that follow join without a gap or a repeat.

Whatever a connection's end interleaves with, no membership is left behind: the row names the channel before the
membership is written, and whoever writes one looks afterwards whether the row is still there.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from chalicelib import protocol
from chalicelib.advance import Advance
from chalicelib.channels import Channels
from chalicelib.cursors import Cursors, LeaseLost
from chalicelib.delivery import Delivery
from chalicelib.errors import LimitExceeded, NotRegistered, NotSubscribed, ServiceError
from chalicelib.history import History, Stream
from chalicelib.namespaces import Channel
from chalicelib.recovery import Missed
from chalicelib.registry import Connection, Registry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subscription:
    """What a subscriber is told.

    Attributes:
        channel: full name.
        epoch, offset: where it joined: the next push is the next publication after it. None without history.
        recovered: whether it is given all that it missed; None where it did not ask.
        publications: what it missed, the last part of it.
    """

    channel: str
    epoch: str | None = None
    offset: int | None = None
    recovered: bool | None = None
    publications: Sequence[Mapping[str, Any]] = ()

    def as_dict(self) -> dict[str, Any]:
        """The reply's data."""
        data: dict[str, Any] = {"channel": self.channel, "epoch": self.epoch, "offset": self.offset}
        if self.recovered is not None:
            data |= {"recovered": self.recovered, "publications": self.publications}
        return data


# Sends what a subscriber is told; False where it could not be reached.
Reply = Callable[[Subscription], bool]


class Subscribing:
    """Subscribes connections."""

    def __init__(
        self,
        registry: Registry,
        channels: Channels,
        history: History,
        cursors: Cursors,
        advance: Advance,
        delivery: Delivery,
        max_channels: int,
    ) -> None:
        self._registry = registry
        self._channels = channels
        self._history = history
        self._cursors = cursors
        self._advance = advance
        self._delivery = delivery
        self._max_channels = max_channels

    def subscribe(self, channel: Channel, connection: Connection, recover: Stream | None, reply: Reply) -> bool:
        """The connection is a member of the channel, and has been told so.

        Args:
            channel: which.
            connection: who.
            recover: the last position it knows; what came after it is sent.
            reply: sends the answer; called once, before the connection is a member where there is history, after
                it where there is none.

        Returns:
            Whether it is new there: False where it was a member before, or could not be told.

        Raises:
            LimitExceeded: it has as many channels as it may.
            NotRegistered: it is not registered (any more).
            ConfigurationError, ServiceError: it is no member, and was not told so.
        """
        if channel.name not in connection.channels and len(connection.channels) >= self._max_channels:
            raise LimitExceeded("channels", self._max_channels)
        if not self._registry.add_channel(connection.connection_id, channel.name, self._max_channels):
            raise NotRegistered
        if channel.options.history_size:
            told = self._join_in_order(channel, connection, recover, reply)
        else:
            self._add(channel, connection)
            recovered = None if recover is None else False
            told = reply(Subscription(channel.name, recovered=recovered))
        if not told:
            self._remove(channel, connection.connection_id)
        return told and channel.name not in connection.channels

    def unsubscribe(self, channel: Channel, connection: Connection) -> None:
        """The connection is no member; a push that is under way may still reach it.

        Raises:
            NotSubscribed: it was none.
            TableError: DynamoDB failed.
        """
        if channel.name not in connection.channels:
            raise NotSubscribed
        self._remove(channel, connection.connection_id)

    def _join_in_order(self, channel: Channel, connection: Connection, recover: Stream | None, reply: Reply) -> bool:
        shard = channel.shard_of(connection.connection_id)
        stream = self._history.stream(channel)
        missed = Missed(recover, stream, channel, lambda part: self._send_part(channel, connection, stream, part))
        # Most of it is read and sent before anybody has to wait for it.
        missed.read(self._history, self._cursors.delivered(channel, shard, stream.epoch))
        lease = self._cursors.take(channel, shard, stream)
        try:
            lease = self._advance.catch_up(lease)
            missed.read(self._history, lease.delivered)
            lease = self._cursors.renew(lease)
            told = missed.is_reached and reply(
                Subscription(channel.name, lease.epoch, lease.delivered, missed.recovered, missed.rest)
            )
            if told:
                self._add(channel, connection)
        except Exception:
            with suppress(ServiceError):
                self._cursors.abandon(lease, lease.delivered)
            raise
        try:
            self._advance.go_on(lease)
        except LeaseLost:
            # What somebody else delivered meanwhile may have missed it.
            if told:
                self._advance.break_off(channel, connection.connection_id)
        except ServiceError as error:
            # It is a member and has been told so; the next that publishes goes on.
            log.warning("Delivering in %s failed: %s", channel.name, error)
        return told

    def _send_part(
        self, channel: Channel, connection: Connection, stream: Stream, part: Sequence[Mapping[str, Any]]
    ) -> bool:
        frame = protocol.recovery(channel.name, stream.epoch, part)
        return self._delivery.send([connection.connection_id], frame).sent == 1

    def _add(self, channel: Channel, connection: Connection) -> None:
        self._channels.add(channel, connection)
        now = self._registry.get(connection.connection_id)
        if now is None or channel.name not in now.channels:
            # Its end, or a token that does not grant this, came in between and looked for memberships too early.
            self._channels.remove(channel, connection.connection_id)
        elif now.ttl != connection.ttl:
            self._channels.extend(channel.name, now)

    def _remove(self, channel: Channel, connection_id: str) -> None:
        self._channels.remove(channel, connection_id)
        self._registry.remove_channel(connection_id, channel.name)
