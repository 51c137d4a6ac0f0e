"""How far each shard of a channel has been delivered to, and who delivers now: one row per shard.

Every step is one conditional write on the row:

    claim        I deliver, if nobody else does.
    announce n   wanted = n. If nobody delivers, now I do; else whoever does will see it.
    announce join   joins + 1, for a membership that waits to be let in. The same.
    keep         delivered = at; tells what is wanted by now.
    let go       delivered = at, and nobody delivers: only if nothing more is wanted and nobody more waits.

Invariants: only who holds the lease moves the cursor; a lease that has run out is anyone's to take; nobody lets go
while more is wanted, so what was announced is delivered by someone.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from chalicelib.errors import ServiceError
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Stream
from chalicelib.store import keys
from chalicelib.store.log import IDLE_SECONDS
from chalicelib.store.table import Table, Value

# Longer than one POST may take, ten seconds, so that who is slow is not taken for dead.
LEASE_MS: Final = 15_000
# The cursor outlives the row that counts: while an epoch lasts it is known how far it was delivered.
CURSOR_IDLE_SECONDS: Final = IDLE_SECONDS + 24 * 3_600

_FREE: Final = "(attribute_not_exists(#leaseOwner) OR #leaseUntil <= :now)"


@dataclass(frozen=True)
class Lease:
    """The right to deliver in one shard.

    Attributes:
        channel, shard, epoch: where.
        owner: who holds it: one attempt to deliver, not one Lambda.
        delivered: every publication up to this offset has been sent to the members.
        wanted: the highest offset that was announced, when last looked at.
        joins: how many who wait to be let in were announced since somebody has last let go, when last looked at.
        until_ms: epoch milliseconds; from then on it is anyone's to take.
        waits: whether who has just taken it waits to be let in too, and is not among `joins`.
    """

    channel: Channel
    shard: int
    epoch: str
    owner: str
    delivered: int
    wanted: int
    joins: int
    until_ms: int
    waits: bool = False


class LeaseLost(ServiceError):
    """The lease ran out and somebody else took it, who goes on from the cursor."""

    def __str__(self) -> str:
        return "The lease ran out while it was held."


class Cursors:
    """The cursors that stand in `rows`."""

    def __init__(self, rows: Table, clock: Callable[[], float]) -> None:
        self._rows = rows
        self._clock = clock

    def delivered(self, channel: Channel, shard: int, epoch: str) -> int:
        """Everything of the epoch up to that offset is written, or filled, and sent. Raises TableError."""
        row = self._rows.get(keys.cursor_key(channel.name, shard))
        return _number(row, "delivered") if row and row.get("epoch") == epoch else 0

    def is_left_behind(self, channel: Channel, shard: int) -> bool:
        """Something is to be delivered, or someone let in, and nobody is at it. Raises TableError."""
        row = self._rows.get(keys.cursor_key(channel.name, shard))
        if row is None or self._is_held(row):
            return False
        if _number(row, "delivered") < _number(row, "wanted") or _number(row, "joins") > 0:
            return True
        # Somebody may have written, and died or failed before it was announced.
        counted = self._rows.get(keys.channel_key(channel.name)) or {}
        delivered = _number(row, "delivered") if counted.get("epoch") == row.get("epoch") else 0
        return delivered < _number(counted, "offset")

    def claim(self, channel: Channel, shard: int, stream: Stream) -> Lease | None:
        """The lease, if nobody holds it. Where there is no cursor yet, all up to the stream's offset is wanted.

        Raises TableError.
        """
        owner = _owner()
        claimed = self._claim(channel, shard, stream, owner)
        if claimed is None or (not isinstance(claimed, Lease) and claimed.get("epoch") != stream.epoch):
            claimed = self._begin(channel, shard, stream, owner, claimed)
        return claimed if isinstance(claimed, Lease) else None

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
                if self._leave(channel, shard, stream, "SET #wanted = :n", stream.offset, " AND #wanted < :n"):
                    return None
            elif self._is_held(claimed):
                return None
            else:
                claimed = self._claim(channel, shard, stream, owner)
            if isinstance(claimed, Lease):
                return claimed

    def announce_join(self, channel: Channel, shard: int, stream: Stream) -> Lease | None:
        """A membership that waits to be let in will be.

        Returns:
            The lease where it is the caller who lets in; None where somebody else does.

        Raises:
            TableError: DynamoDB failed.
        """
        while not self._leave(channel, shard, stream, "ADD #joins :n", 1):
            if lease := self.claim(channel, shard, stream):
                return replace(lease, waits=True)
        return None

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
        """The cursor stands at `delivered` and the lease is somebody else's to take.

        Returns:
            The lease, kept, where more is wanted or more wait than the lease says; else None.

        Raises:
            LeaseLost: it was somebody else's already; the cursor is untouched.
            TableError: DynamoDB failed.
        """
        left = self._rows.update(
            keys.cursor_key(lease.channel.name, lease.shard),
            "SET #delivered = :delivered REMOVE #leaseOwner, #leaseUntil, #joins",
            {":delivered": delivered, ":me": lease.owner, ":joins": lease.joins},
            where="#leaseOwner = :me AND #wanted <= :delivered AND (attribute_not_exists(#joins) OR #joins = :joins)",
        )
        if left.applied:
            return None
        if (left.item or {}).get("leaseOwner") != lease.owner:
            raise LeaseLost
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
        self, channel: Channel, shard: int, stream: Stream, owner: str, raises_wanted: bool = False
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
            f"SET {wanted}#leaseOwner = :me, #leaseUntil = :until, #ttl = :ttl",
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
            "#ttl = :ttl",
            values | ({":old": row["epoch"]} if row else {}),
            where="#epoch = :old" if row else "attribute_not_exists(PK)",
        )
        if begun.item and (begun.applied or begun.item.get("leaseOwner") == owner):
            return _lease(channel, shard, owner, begun.item)
        return None

    def _leave(self, channel: Channel, shard: int, stream: Stream, change: str, n: int, where: str = "") -> bool:
        # To whoever holds the lease, who will see it before it can let go.
        return self._rows.update(
            keys.cursor_key(channel.name, shard),
            change,
            {":n": n, ":epoch": stream.epoch, ":now": self._now_ms()},
            where=f"#epoch = :epoch AND #leaseUntil > :now{where}",
        ).applied

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
        joins=_number(row, "joins"),
        until_ms=_number(row, "leaseUntil"),
    )


def _number(row: Mapping[str, Value], name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) else 0
