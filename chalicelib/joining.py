"""Let in who subscribes to a channel with history: the reply, then the membership, while nobody else delivers.

Invariant: the reply stands before the first push, and what it says was missed, its offset and the pushes that follow
join without a gap or a repeat. So it happens under the shard's lease; whoever holds that lets in all who wait.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from chalicelib import protocol
from chalicelib.channels import Channels, Waiting
from chalicelib.cursors import Lease
from chalicelib.delivery import Delivery
from chalicelib.history import History, Stream
from chalicelib.namespaces import Channel
from chalicelib.presence import Attendance
from chalicelib.recovery import Missed
from chalicelib.registry import Connection, Registry

# So many are let in at a time, which takes a second or two; then the lease is renewed.
MAX_AT_ONCE: Final = 200
# Letting in is mostly reading and writing the table, and boto3 is CPU-bound from so many threads on.
WORKERS: Final = 16


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


class Joining:
    """Lets in."""

    def __init__(
        self,
        registry: Registry,
        history: History,
        channels: Channels,
        delivery: Delivery,
        attendance: Attendance,
    ) -> None:
        self._registry = registry
        self._history = history
        self._channels = channels
        self._delivery = delivery
        self._attendance = attendance

    def reply(self, waiting: Waiting, subscription: Subscription) -> bool:
        """The subscriber was told, if it wants to be; False where it could not be reached.

        Errors as `Delivery.send`.
        """
        if waiting.reply_to is None:
            return True
        frame = protocol.reply(waiting.reply_to, subscription.as_dict())
        return self._delivery.send([waiting.connection_id], frame).sent == 1

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
            False where it could not be told; it is no member then.

        Raises:
            ConfigurationError, ServiceError: it is none either, or waits on.
        """
        missed = Missed(
            Stream(*waiting.recover) if waiting.recover else None,
            Stream(lease.epoch, max(lease.wanted, lease.delivered)),
            lease.channel,
            lambda part: self._send_part(lease, waiting, part),
        )
        missed.read(self._history, lease.delivered)
        told = missed.is_reached and self.reply(
            waiting,
            Subscription(lease.channel.name, lease.epoch, lease.delivered, missed.recovered, missed.rest),
        )
        if told:
            self.add(lease.channel, connection)
        else:
            self.remove(lease.channel, connection.connection_id)
        return told

    def add(self, channel: Channel, connection: Connection, waiting: Waiting | None = None) -> None:
        """The connection is a member, or waits to be one, unless its end came in between. Raises TableError."""
        if waiting:
            self._channels.add_waiting(channel, connection, waiting)
        else:
            self._channels.add(channel, connection)
        now = self._registry.get(connection.connection_id)
        if now is None or channel.name not in now.channels:
            # Its end, or a token that does not grant this, came in between and looked for memberships too early.
            self._channels.remove(channel, connection.connection_id)
        elif now.ttl != connection.ttl:
            self._channels.extend(channel.name, now)

    def remove(self, channel: Channel, connection_id: str) -> None:
        """The connection is no member. Raises TableError."""
        self._channels.remove(channel, connection_id)
        self._registry.remove_channel(connection_id, channel.name)

    def _admit(self, lease: Lease, waiting: Waiting) -> str | None:
        connection = self._registry.get(waiting.connection_id)
        if connection is None or lease.channel.name not in connection.channels:
            self._channels.remove(lease.channel, waiting.connection_id)
            return None
        if not self.let_in(lease, waiting, connection):
            return None
        if waiting.is_new:
            self._attendance.came(lease.channel, connection)
        return waiting.connection_id

    def _send_part(self, lease: Lease, waiting: Waiting, part: Sequence[Mapping[str, Any]]) -> bool:
        frame = protocol.recovery(lease.channel.name, lease.epoch, part)
        return self._delivery.send([waiting.connection_id], frame).sent == 1
