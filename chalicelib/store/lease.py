"""How far each shard of a channel has been delivered, and who is delivering now: one row, the cursor, per shard.

Every step is one conditional write on the row:

    claim           take the lease if nobody holds it.
    announce n      wanted = n. Take the lease if nobody holds it; otherwise its holder will see n.
    announce join   joins + 1, for a subscriber that waits to be admitted. Otherwise the same.
    keep            delivered = at, and the lease begins anew; returns what is wanted by now.
    let go          delivered = at, and nobody holds the lease: only if nothing more is wanted and nobody waits.

Invariants: only the holder of the lease moves the cursor; anyone may take a lease that has run out; nobody lets go
while more is wanted, so someone delivers whatever was announced.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from chalicelib.errors import ServiceError
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Position
from chalicelib.store import keys
from chalicelib.store.log import IDLE_SECONDS
from chalicelib.store.table import Table, Value, Write

# Longer than one POST may take (ten seconds), so that a slow holder is not taken for dead.
LEASE_MS: Final = 15_000
# The cursor outlives the row that counts: how far an epoch was delivered is known for as long as it lasts.
CURSOR_IDLE_SECONDS: Final = IDLE_SECONDS + 24 * 3_600

_FREE: Final = "(attribute_not_exists(#leaseOwner) OR #leaseUntil <= :now)"


@dataclass(frozen=True)
class Lease:
    """The right to deliver in one shard.

    Attributes:
        channel, shard, epoch: where.
        owner: its holder: one attempt to deliver, not one Lambda.
        delivered: every publication up to this offset has been sent to the members.
        wanted: the highest offset that was announced, when last read.
        joins: how many waiting subscribers were announced since the lease was last let go, when last read.
        until_ms: epoch milliseconds; from then on anyone may take it.
        waits: whether the holder itself waits to be admitted, and is not among `joins`.
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
    """The lease ran out and another holder took it, who continues from the cursor."""

    def __str__(self) -> str:
        return "The lease ran out while it was held."


@dataclass(eq=False, repr=False)
class Leases:
    """The cursors stored in `rows`. `clock` returns epoch seconds."""

    rows: Table
    clock: Callable[[], float]

    def delivered(self, channel: Channel, shard: int, epoch: str) -> int:
        """Return the offset up to which all of the epoch is written, or filled, and sent."""
        row = self.rows.get(keys.cursor_key(channel.name, shard))
        return _number(row, "delivered") if row and row.get("epoch") == epoch else 0

    def is_left_behind(self, channel: Channel, shard: int) -> bool:
        """Return whether something is to be delivered or someone admitted, and nobody does it."""
        row = self.rows.get(keys.cursor_key(channel.name, shard))
        if row is None or self._is_held(row):
            return False
        if _number(row, "delivered") < _number(row, "wanted") or _number(row, "joins") > 0:
            return True
        # A publisher may have written, and died or failed before it announced that.
        counted = self.rows.get(keys.channel_key(channel.name)) or {}
        delivered = _number(row, "delivered") if counted.get("epoch") == row.get("epoch") else 0
        return delivered < _number(counted, "offset")

    def claim(self, channel: Channel, shard: int, position: Position) -> Lease | None:
        """Take the lease if nobody holds it. If there is no cursor yet, everything up to the position is wanted.

        Returns the lease; None if somebody holds it.
        """
        owner = _owner()
        claimed = self._claim(channel, shard, position, owner)
        if claimed is None or (not isinstance(claimed, Lease) and claimed.get("epoch") != position.epoch):
            claimed = self._begin(channel, shard, position, owner, claimed)
        return claimed if isinstance(claimed, Lease) else None

    def announce(self, channel: Channel, shard: int, position: Position) -> Lease | None:
        """Announce that everything up to the position is to be delivered in the shard.

        Returns the lease if the caller is to deliver; None if somebody else does, or has done so.
        """
        owner = _owner()
        while True:
            claimed = self._claim(channel, shard, position, owner, raises_wanted=True)
            if isinstance(claimed, Lease):
                return claimed
            if claimed is None or claimed.get("epoch") != position.epoch:
                if not self._is_current(channel, position.epoch):
                    return None
                claimed = self._begin(channel, shard, position, owner, claimed)
            elif _number(claimed, "delivered") >= position.offset:
                return None
            elif _number(claimed, "wanted") < position.offset:
                if self._leave(channel, shard, position, "SET #wanted = :n", position.offset, " AND #wanted < :n"):
                    return None
            elif self._is_held(claimed):
                return None
            else:
                claimed = self._claim(channel, shard, position, owner)
            if isinstance(claimed, Lease):
                return claimed

    def announce_join(self, channel: Channel, shard: int, position: Position) -> Lease | None:
        """Announce a subscriber that waits to be admitted.

        Returns the lease if the caller is to admit it; None if somebody else does.
        """
        while not self._leave(channel, shard, position, "ADD #joins :n", 1):
            if lease := self.claim(channel, shard, position):
                return replace(lease, waits=True)
        return None

    def keep(self, lease: Lease, delivered: int) -> Lease:
        """Move the cursor to `delivered` and begin the lease anew.

        Returns the lease, with what is wanted by now. Raises LeaseLost: another holder has taken it.
        """
        until_ms = self._now_ms() + LEASE_MS
        kept = self._change(lease, delivered, ", #leaseUntil = :until", {":until": until_ms})
        if not kept.applied or kept.item is None:
            raise LeaseLost
        return _lease(lease.channel, lease.shard, lease.owner, kept.item)

    def renew(self, lease: Lease) -> Lease:
        """Renew the lease if less than half of its time is left. Raises LeaseLost: another holder has taken it."""
        is_old = lease.until_ms - self._now_ms() < LEASE_MS / 2
        return self.keep(lease, lease.delivered) if is_old else lease

    def let_go(self, lease: Lease, delivered: int) -> Lease | None:
        """Move the cursor to `delivered` and give up the lease, unless there is more to do.

        Returns the lease, kept, if more is wanted or more wait than the lease says; otherwise None.
        Raises LeaseLost: another holder has taken it; the cursor is untouched.
        """
        is_done = " AND #wanted <= :delivered AND (attribute_not_exists(#joins) OR #joins = :joins)"
        released = " REMOVE #leaseOwner, #leaseUntil, #joins"
        left = self._change(lease, delivered, released, {":joins": lease.joins}, is_done)
        if left.applied:
            return None
        if (left.item or {}).get("leaseOwner") != lease.owner:
            raise LeaseLost
        return self.keep(lease, delivered)

    def abandon(self, lease: Lease, delivered: int) -> None:
        """Give up the lease although more is wanted: the next to announce or claim continues. Losing it is no error."""
        self._change(lease, delivered, " REMOVE #leaseOwner, #leaseUntil", {})

    def _change(self, lease: Lease, delivered: int, change: str, values: Mapping[str, Value], where: str = "") -> Write:
        # Only the holder may.
        return self.rows.update(
            keys.cursor_key(lease.channel.name, lease.shard),
            f"SET #delivered = :delivered{change}",
            {":delivered": delivered, ":me": lease.owner, **values},
            where=f"#leaseOwner = :me{where}",
        )

    def _claim(
        self, channel: Channel, shard: int, position: Position, owner: str, raises_wanted: bool = False
    ) -> Lease | dict[str, Value] | None:
        # Return the lease if it was free, otherwise the row that says why not. A request retried after a lost answer
        # finds the caller itself as the owner.
        now_ms = self._now_ms()
        wanted, where = ("#wanted = :offset, ", " AND #wanted < :offset") if raises_wanted else ("", "")
        values: dict[str, Value] = {
            ":me": owner,
            ":now": now_ms,
            ":until": now_ms + LEASE_MS,
            ":epoch": position.epoch,
            ":ttl": int(self.clock()) + CURSOR_IDLE_SECONDS,
        }
        claimed = self.rows.update(
            keys.cursor_key(channel.name, shard),
            f"SET {wanted}#leaseOwner = :me, #leaseUntil = :until, #ttl = :ttl",
            values | ({":offset": position.offset} if raises_wanted else {}),
            where=f"#epoch = :epoch AND {_FREE}{where}",
        )
        if claimed.item and (claimed.applied or claimed.item.get("leaseOwner") == owner):
            return _lease(channel, shard, owner, claimed.item)
        return claimed.item

    def _begin(
        self, channel: Channel, shard: int, position: Position, owner: str, row: Mapping[str, Value] | None
    ) -> Lease | None:
        # Nobody is a member yet, or the channel has begun a new epoch. Nobody waits for what history has dropped.
        values: dict[str, Value] = {
            ":epoch": position.epoch,
            ":delivered": max(0, position.offset - channel.options.history_size),
            ":wanted": position.offset,
            ":me": owner,
            ":until": self._now_ms() + LEASE_MS,
            ":ttl": int(self.clock()) + CURSOR_IDLE_SECONDS,
        }
        begun = self.rows.update(
            keys.cursor_key(channel.name, shard),
            "SET #epoch = :epoch, #delivered = :delivered, #wanted = :wanted, #leaseOwner = :me, #leaseUntil = :until, "
            "#ttl = :ttl",
            values | ({":old": row["epoch"]} if row else {}),
            where="#epoch = :old" if row else "attribute_not_exists(PK)",
        )
        if begun.item and (begun.applied or begun.item.get("leaseOwner") == owner):
            return _lease(channel, shard, owner, begun.item)
        return None

    def _leave(self, channel: Channel, shard: int, position: Position, change: str, n: int, where: str = "") -> bool:
        # Leave word for the holder of the lease, who will see it before letting go.
        return self.rows.update(
            keys.cursor_key(channel.name, shard),
            change,
            {":n": n, ":epoch": position.epoch, ":now": self._now_ms()},
            where=f"#epoch = :epoch AND #leaseUntil > :now{where}",
        ).applied

    def _is_held(self, row: Mapping[str, Value]) -> bool:
        return "leaseOwner" in row and _number(row, "leaseUntil") > self._now_ms()

    def _is_current(self, channel: Channel, epoch: str) -> bool:
        # A caller so slow that its epoch is over must not bring that epoch back.
        row = self.rows.get(keys.channel_key(channel.name))
        return row is not None and row.get("epoch") == epoch

    def _now_ms(self) -> int:
        return int(self.clock() * 1000)


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
