"""How far each shard of a channel has been delivered to, and who delivers now: one row per shard.

Every step is one conditional write on the row:

    announce n   wanted = n. If nobody delivers, now I do; else whoever does will see it.
    take         I deliver, whatever is wanted. While somebody else does, I queue as the next.
    keep         delivered = at; tells what is wanted by now.
    let go       delivered = at, and nobody delivers: only if nothing more is wanted and nobody queues. To the one
                 in the queue the lease is handed over.

Invariants: only who holds the lease moves the cursor; a lease that has run out is anyone's to take; nobody lets go
while more is wanted, so what was announced is delivered by someone.
"""

import random
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from chalicelib import keys
from chalicelib.errors import ServiceError
from chalicelib.history import IDLE_SECONDS, Stream
from chalicelib.namespaces import Channel
from chalicelib.table import Table, Value

# Longer than one POST may take, ten seconds, so that who is slow is not taken for dead.
LEASE_MS: Final = 15_000
# Whoever queues looks every few milliseconds: one that does not come within this for its lease is dead.
HANDOVER_MS: Final = 3_000
LOOK_AGAIN_SECONDS: Final = 0.02
MAX_WAIT_SECONDS: Final = 20
# The cursor outlives the row that counts: while an epoch lasts it is known how far it was delivered.
CURSOR_IDLE_SECONDS: Final = IDLE_SECONDS + 24 * 3_600

_FREE: Final = "(attribute_not_exists(#leaseOwner) OR #leaseUntil <= :now)"
_NOBODY_QUEUES: Final = "(attribute_not_exists(#nextOwner) OR #nextUntil <= :now)"


@dataclass(frozen=True)
class Lease:
    """The right to deliver in one shard.

    Attributes:
        channel, shard, epoch: where.
        owner: who holds it: one attempt to deliver, not one Lambda.
        delivered: every publication up to this offset has been sent to the members.
        wanted: the highest offset that was announced, when last looked at.
        until_ms: epoch milliseconds; from then on it is anyone's to take.
    """

    channel: Channel
    shard: int
    epoch: str
    owner: str
    delivered: int
    wanted: int
    until_ms: int


class LeaseLost(ServiceError):
    """The lease ran out and somebody else took it, who goes on from the cursor."""

    def __str__(self) -> str:
        return "The lease ran out while it was held."


class Busy(ServiceError):
    """Somebody else held the lease all the time."""

    def __str__(self) -> str:
        return f"Waited {MAX_WAIT_SECONDS} s for a lease."


class Cursors:
    """The cursors that stand in `rows`."""

    def __init__(self, rows: Table, clock: Callable[[], float], sleep: Callable[[float], None] = time.sleep) -> None:
        self._rows = rows
        self._clock = clock
        self._sleep = sleep

    def delivered(self, channel: Channel, shard: int, epoch: str) -> int:
        """Everything of the epoch up to that offset is written, or filled, and sent. Raises TableError."""
        row = self._rows.get(keys.cursor_key(channel.name, shard))
        return _number(row, "delivered") if row and row.get("epoch") == epoch else 0

    def announce(self, channel: Channel, shard: int, stream: Stream) -> Lease | None:
        """Everything up to the stream's offset will be delivered in the shard.

        Returns:
            The lease where it is the caller who delivers; None where somebody else does, or has done it.

        Raises:
            TableError: DynamoDB failed.
        """
        owner = _owner()
        while True:
            claimed = self._claim(channel, shard, stream, owner, raises_wanted=True)
            if isinstance(claimed, Lease):
                return claimed
            if claimed is None or claimed.get("epoch") != stream.epoch:
                if not self._is_current(channel, stream.epoch):
                    return None
                claimed = self._begin(channel, shard, stream, owner, claimed)
            elif _number(claimed, "delivered") >= stream.offset:
                return None
            elif _number(claimed, "wanted") < stream.offset:
                if self._leave(channel, shard, stream):
                    return None
            elif self._is_held(claimed):
                return None
            else:
                claimed = self._claim(channel, shard, stream, owner, raises_wanted=False)
            if isinstance(claimed, Lease):
                return claimed

    def take(self, channel: Channel, shard: int, stream: Stream) -> Lease:
        """The caller delivers in the shard. Where there is no cursor yet, up to the stream's offset is wanted.

        Raises:
            Busy: others held the lease for 20 s.
            TableError: DynamoDB failed.
        """
        owner, give_up = _owner(), self._clock() + MAX_WAIT_SECONDS
        while self._clock() < give_up:
            claimed = self._claim(channel, shard, stream, owner, raises_wanted=False)
            if isinstance(claimed, Mapping) and claimed.get("epoch") == stream.epoch:
                self._queue(channel, shard, owner)
                claimed = self._wait(channel, shard, owner, give_up)
            elif not isinstance(claimed, Lease):
                claimed = self._begin(channel, shard, stream, owner, claimed)
            if isinstance(claimed, Lease):
                return claimed
        raise Busy

    def keep(self, lease: Lease, delivered: int) -> Lease:
        """The cursor stands at `delivered` and the lease begins anew; tells what is wanted by now.

        Raises:
            LeaseLost: it was somebody else's already; the cursor is untouched.
            TableError: DynamoDB failed.
        """
        until_ms = self._now_ms() + LEASE_MS
        kept = self._rows.update(
            keys.cursor_key(lease.channel.name, lease.shard),
            "SET #delivered = :delivered, #leaseUntil = :until",
            {":delivered": delivered, ":until": until_ms, ":me": lease.owner},
            where="#leaseOwner = :me",
        )
        if not kept.applied or kept.item is None:
            raise LeaseLost
        return _lease(lease.channel, lease.shard, lease.owner, kept.item)

    def renew(self, lease: Lease) -> Lease:
        """The lease has at least half of its time before it. Errors as `keep`."""
        is_old = lease.until_ms - self._now_ms() < LEASE_MS / 2
        return self.keep(lease, lease.delivered) if is_old else lease

    def let_go(self, lease: Lease, delivered: int) -> Lease | None:
        """The cursor stands at `delivered` and the lease is somebody else's to take or has been handed on.

        Returns:
            The lease, kept, where more is wanted; else None.

        Raises:
            LeaseLost: it was somebody else's already; the cursor is untouched.
            TableError: DynamoDB failed.
        """
        key = keys.cursor_key(lease.channel.name, lease.shard)
        mine: dict[str, Value] = {":delivered": delivered, ":me": lease.owner}
        left = self._rows.update(
            key,
            "SET #delivered = :delivered REMOVE #leaseOwner, #leaseUntil, #nextOwner, #nextUntil",
            mine | {":now": self._now_ms()},
            where=f"#leaseOwner = :me AND #wanted <= :delivered AND {_NOBODY_QUEUES}",
        )
        if left.applied:
            return None
        row = left.item or {}
        if row.get("leaseOwner") != lease.owner:
            raise LeaseLost
        if _number(row, "nextUntil") > self._now_ms():
            handed = self._rows.update(
                key,
                "SET #delivered = :delivered, #leaseOwner = :next, #leaseUntil = :until REMOVE #nextOwner, #nextUntil",
                mine | {":next": row["nextOwner"], ":until": self._now_ms() + HANDOVER_MS},
                where="#leaseOwner = :me AND #nextOwner = :next",
            )
            if handed.applied:
                return None
        return self.keep(lease, delivered)

    def abandon(self, lease: Lease, delivered: int) -> None:
        """Nobody delivers any more, although more is wanted: the next that announces or takes goes on.

        A lease that was lost is no error. Raises TableError.
        """
        self._rows.update(
            keys.cursor_key(lease.channel.name, lease.shard),
            "SET #delivered = :delivered REMOVE #leaseOwner, #leaseUntil",
            {":delivered": delivered, ":me": lease.owner},
            where="#leaseOwner = :me",
        )

    def _claim(
        self, channel: Channel, shard: int, stream: Stream, owner: str, raises_wanted: bool
    ) -> Lease | dict[str, Value] | None:
        # The lease if it was free, else the row that says why not. An answer that got lost and was asked for again
        # finds the caller itself as the owner.
        now_ms = self._now_ms()
        wanted, where = ("#wanted = :offset, ", " AND #wanted < :offset") if raises_wanted else ("", "")
        values: dict[str, Value] = {
            ":me": owner,
            ":now": now_ms,
            ":until": now_ms + LEASE_MS,
            ":epoch": stream.epoch,
            ":ttl": int(self._clock()) + CURSOR_IDLE_SECONDS,
        }
        claimed = self._rows.update(
            keys.cursor_key(channel.name, shard),
            f"SET {wanted}#leaseOwner = :me, #leaseUntil = :until, #ttl = :ttl REMOVE #nextOwner, #nextUntil",
            values | ({":offset": stream.offset} if raises_wanted else {}),
            where=f"#epoch = :epoch AND {_FREE}{where}",
        )
        if claimed.item and (claimed.applied or claimed.item.get("leaseOwner") == owner):
            return _lease(channel, shard, owner, claimed.item)
        return claimed.item

    def _begin(
        self, channel: Channel, shard: int, stream: Stream, owner: str, row: Mapping[str, Value] | None
    ) -> Lease | None:
        # Nobody is a member yet, or the channel has begun a new epoch. What history has dropped nobody waits for.
        values: dict[str, Value] = {
            ":epoch": stream.epoch,
            ":delivered": max(0, stream.offset - channel.options.history_size),
            ":wanted": stream.offset,
            ":me": owner,
            ":until": self._now_ms() + LEASE_MS,
            ":ttl": int(self._clock()) + CURSOR_IDLE_SECONDS,
        }
        begun = self._rows.update(
            keys.cursor_key(channel.name, shard),
            "SET #epoch = :epoch, #delivered = :delivered, #wanted = :wanted, #leaseOwner = :me, #leaseUntil = :until, "
            "#ttl = :ttl REMOVE #nextOwner, #nextUntil",
            values | ({":old": row["epoch"]} if row else {}),
            where="#epoch = :old" if row else "attribute_not_exists(PK)",
        )
        if begun.item and (begun.applied or begun.item.get("leaseOwner") == owner):
            return _lease(channel, shard, owner, begun.item)
        return None

    def _leave(self, channel: Channel, shard: int, stream: Stream) -> bool:
        # To whoever holds the lease: it will see what is wanted before it can let go.
        return self._rows.update(
            keys.cursor_key(channel.name, shard),
            "SET #wanted = :offset",
            {":offset": stream.offset, ":epoch": stream.epoch, ":now": self._now_ms()},
            where="#epoch = :epoch AND #wanted < :offset AND #leaseUntil > :now",
        ).applied

    def _queue(self, channel: Channel, shard: int, owner: str) -> None:
        now_ms = self._now_ms()
        self._rows.update(
            keys.cursor_key(channel.name, shard),
            "SET #nextOwner = :me, #nextUntil = :until",
            {":me": owner, ":now": now_ms, ":until": now_ms + HANDOVER_MS},
            where=f"#leaseUntil > :now AND {_NOBODY_QUEUES}",
        )

    def _wait(self, channel: Channel, shard: int, owner: str, give_up: float) -> Lease | None:
        # Until it is handed over or there is something to try again. Reading costs a fifth of trying to write.
        while self._clock() < give_up:
            self._sleep(random.uniform(0.5, 1.5) * LOOK_AGAIN_SECONDS)
            row = self._rows.get(keys.cursor_key(channel.name, shard)) or {}
            if row.get("leaseOwner") == owner:
                # Handed over, but only for a moment.
                with suppress(LeaseLost):
                    return self.keep(_lease(channel, shard, owner, row), _number(row, "delivered"))
            if not self._is_held(row) or _number(row, "nextUntil") <= self._now_ms():
                break
        return None

    def _is_held(self, row: Mapping[str, Value]) -> bool:
        return "leaseOwner" in row and _number(row, "leaseUntil") > self._now_ms()

    def _is_current(self, channel: Channel, epoch: str) -> bool:
        # Who was so slow that its epoch is over must not bring it back.
        row = self._rows.get(keys.channel_key(channel.name))
        return row is not None and row.get("epoch") == epoch

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _owner() -> str:
    return secrets.token_urlsafe(9)


def _lease(channel: Channel, shard: int, owner: str, row: Mapping[str, Value]) -> Lease:
    return Lease(
        channel=channel,
        shard=shard,
        epoch=str(row.get("epoch")),
        owner=owner,
        delivered=_number(row, "delivered"),
        wanted=_number(row, "wanted"),
        until_ms=_number(row, "leaseUntil"),
    )


def _number(row: Mapping[str, Value], name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) else 0
