"""The connection registry: who is connected.

Invariants: one conditional write registers a connection, so nothing is overwritten and no row is half-written;
forgetting a connection touches its own row and no other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chalicelib.errors import Conflict, LimitExceeded, RateLimited
from chalicelib.protocol.codec import ACTION_FRAMES, Receiver
from chalicelib.protocol.frame import dump, timestamp
from chalicelib.protocol.grants import NOTHING
from chalicelib.protocol.identity import Identity
from chalicelib.settings import RateLimit
from chalicelib.store import keys
from chalicelib.store.connection import Connection, as_row, codec_value, from_row, grants_value, load_row_json
from chalicelib.store.table import Table, Value

# Until its $connect has returned, a connection answers 410 like a dead one, so a younger one is not believed dead.
HANDSHAKE_SECONDS = 5
# How far the clocks of two Lambdas are apart at most, as long as they are right.
CLOCKS_APART_US = 1_000_000

# A connection's own two keys in the index: reading the index can continue after them.
Place = tuple[str, str]


@dataclass(frozen=True)
class IndexEntry:
    """What the index says of a connection.

    Attributes:
        receiver: which connection.
        place: its keys in the index.
        ttl: epoch seconds after which its row no longer counts.
    """

    receiver: Receiver
    place: Place
    ttl: int

    @property
    def user_id(self) -> str | None:
        """Its user; None if anonymous."""
        return keys.read_owner_partition(self.place[0])


@dataclass(eq=False, repr=False)
class Registry:
    """The connections stored in `rows`. `clock` returns epoch seconds."""

    rows: Table
    clock: Callable[[], float]

    def put(self, connection: Connection) -> None:
        """Register the connection; doing so twice is no error. Raises Conflict: another record holds that id."""
        if not self.rows.put_new(as_row(connection)):
            raise Conflict

    def get(self, connection_id: str) -> Connection | None:
        """Return the connection if it is registered and has not expired."""
        row = self.rows.get(keys.connection_key(connection_id))
        return from_row(connection_id, row) if row else None

    def forget(self, connection_id: str) -> Connection | None:
        """Delete the connection's row; return the connection if there was one."""
        return self._delete(connection_id)

    def take_back(self, connection: Connection) -> None:
        """Undo a `put` that failed but may have written its row; another's is untouched."""
        self._delete(connection.connection_id, "connectedAt = :at", connection.connected_at)

    def prune(self, connection_id: str) -> Connection | None:
        """Forget a connection that answered 410 twice, unless it may still be connecting; return it if forgotten."""
        return self._delete(connection_id, "connectedAt <= :at", timestamp(self.clock() - HANDSHAKE_SECONDS))

    def expire(self, connection_id: str) -> None:
        """Let the connection, if it is registered, expire now: its next frame is refused and closes it."""
        self.rows.update(
            keys.connection_key(connection_id),
            "SET #ttl = :now",
            {":now": int(self.clock())},
            where="attribute_exists(PK)",
        )

    def spend(self, connection_id: str, limit: RateLimit, frames: int = 1) -> Connection | None:
        """Count that many frames of the connection, all or none.

        The row keeps the time at which the next frame is due, as if frames came evenly; a frame may be early by a
        burst's length. That is a token bucket in one number and one write; two within a burst.

        Returns the connection; None if it is not registered or has expired.
        Raises RateLimited: the frames are too early; nothing is written.
        """
        key, now_us = keys.connection_key(connection_id), int(self.clock() * 1_000_000)
        cost_us = frames * limit.interval_us
        now = now_us // 1_000_000
        # A correct clock has written no later time; a wrong one must not silence a client for minutes.
        never_us = now_us + limit.burst * limit.interval_us + CLOCKS_APART_US
        counted = self.rows.update(
            key,
            "SET #frameDueAt = :next",
            {":next": now_us + cost_us, ":now": now, ":nowUs": now_us, ":never": never_us},
            where="#ttl > :now"
            " AND (attribute_not_exists(#frameDueAt) OR #frameDueAt <= :nowUs OR #frameDueAt > :never)",
        )
        if not counted.applied:
            counted = self.rows.update(
                key,
                "SET #frameDueAt = #frameDueAt + :interval",
                {":interval": cost_us, ":now": now, ":latest": now_us + limit.burst * limit.interval_us - cost_us},
                where="#ttl > :now AND #frameDueAt <= :latest",
            )
        if counted.item is None or int(str(counted.item.get("ttl", 0))) <= now:
            return None
        if not counted.applied:
            raise RateLimited
        return from_row(connection_id, counted.item)

    def add_channel(self, connection_id: str, channel: str, max_channels: int, join_ref: int | None = None) -> bool:
        """Name the channel, and the join_ref if there is one, in the connection's row. Adding twice is no error.

        Returns False if the connection is not registered any more.
        Raises LimitExceeded: the row names `max_channels` others already.
        """
        name = keys.subscription(channel, join_ref)
        added = self.rows.update(
            keys.connection_key(connection_id),
            "ADD #channels :channels",
            {":channels": frozenset({name}), ":channel": name, ":max": max_channels},
            where="attribute_exists(PK) AND "
            "(attribute_not_exists(#channels) OR size(#channels) < :max OR contains(#channels, :channel))",
        )
        if added.item and not added.applied:
            raise LimitExceeded("channels", max_channels)
        return added.applied

    def remove_channel(self, connection_id: str, subscriptions: frozenset[str]) -> None:
        """Remove these subscriptions from the connection's row, if there is one."""
        self.rows.update(
            keys.connection_key(connection_id),
            "DELETE #channels :channels",
            {":channels": subscriptions},
            where="attribute_exists(PK)",
        )

    def speak(self, connection: Connection, codec: str) -> Connection | None:
        """Change the codec that a signed-in connection reads and writes.

        Returns the changed connection; None if it is not registered any more.
        """
        written = self.rows.update(
            keys.connection_key(connection.connection_id),
            "SET #codec = :codec, #GSI1SK = :sort",
            {":codec": codec, ":sort": keys.owner_sort(connection.connection_id, codec), ":now": int(self.clock())},
            where="#ttl > :now AND attribute_exists(#GSI1PK)",
        )
        return from_row(connection.connection_id, written.item) if written.applied and written.item else None

    def renew(self, connection_id: str, identity: Identity, ttl: int, codec: str = ACTION_FRAMES) -> Connection | None:
        """Give the connection this identity's user, expiry and grants, as if it had connected with them.

        Args:
            connection_id: a connection of the same user, or one that has not signed in yet; an anonymous one counts
                as not signed in while it is in no channel.
            identity: what its new credential proves.
            ttl: epoch seconds after which its row no longer counts.
            codec: which codec it reads and writes from now on.

        Returns the changed connection; None if it is another user's or not registered any more.
        """
        changes: dict[str, Value | None] = {
            **keys.owner_keys(connection_id, identity.user_id, codec),
            "userId": identity.user_id,
            "deviceId": identity.device_id,
            "expiresAt": identity.expires_at,
            "grants": grants_value(identity.grants or NOTHING),
            "ttl": ttl,
            "codec": codec_value(codec),
        }
        values = {name: value for name, value in changes.items() if value is not None}
        written = self.rows.update(
            keys.connection_key(connection_id),
            "SET " + ", ".join(f"#{name} = :{name}" for name in values),
            {f":{name}": value for name, value in values.items()} | {":now": int(self.clock())},
            where="#ttl > :now AND (attribute_not_exists(#GSI1PK) OR #userId = :userId"
            " OR (attribute_not_exists(#userId) AND attribute_not_exists(#channels)))",
        )
        return from_row(connection_id, written.item) if written.applied and written.item else None

    def by_user(self, user_id: str) -> Iterator[Receiver]:
        """Yield the user's connections. One that connected within the last moments may be missing."""
        for row in self.rows.query_index(keys.owner_partition(user_id)):
            entry = _entry(row)
            if entry.ttl > self.clock():
                yield entry.receiver

    def everyone(self) -> Iterator[Receiver]:
        """Yield all connections. One that connected within the last moments may be missing."""
        return (entry.receiver for entry in self.alive())

    def alive(
        self, segment: int = 0, segments: int = 1, after: Place | None = None, page_items: int | None = None
    ) -> Iterator[IndexEntry]:
        """Yield the entries of one index segment that have not expired; arguments as in `entries`."""
        return (entry for entry in self.entries(segment, segments, after, page_items) if entry.ttl > self.clock())

    def entries(
        self, segment: int = 0, segments: int = 1, after: Place | None = None, page_items: int | None = None
    ) -> Iterator[IndexEntry]:
        """Yield the entries of one index segment, including expired connections whose rows are still there.

        Reading begins after the place `after`, `page_items` at a time, or as many as DynamoDB gives.
        """
        start = None
        if after:
            owner, connection = after
            own_key = keys.connection_key(keys.read_owner_sort(connection).connection_id)
            start = {"GSI1PK": owner, "GSI1SK": connection, **own_key}
        return map(_entry, self.rows.scan_index(segment, segments, start, page_items))

    def reaper_place(self) -> Place | None:
        """Return where the reaper's last run stopped; None if it reached the end."""
        row = self.rows.get(keys.reaper_key()) or {}
        return read_place(load_row_json(row.get("after")))

    def keep_reaper_place(self, place: Place | None) -> None:
        """Remember where the reaper stopped."""
        self.rows.put({**keys.reaper_key(), "after": dump(place)})

    def _delete(self, connection_id: str, where: str | None = None, at: str = "") -> Connection | None:
        values: dict[str, Value] = {":at": at} if where else {}
        deleted = self.rows.delete(keys.connection_key(connection_id), where, values)
        return from_row(connection_id, deleted.item) if deleted.applied and deleted.item else None


def read_place(value: object) -> Place | None:
    """Return the place that a JSON value stands for, or None."""
    match value:
        case [str(owner), str(connection)] if connection.startswith("CONN#"):
            return owner, connection
    return None


def _entry(row: dict[str, Value]) -> IndexEntry:
    sort, ttl = str(row["GSI1SK"]), row.get("ttl")
    return IndexEntry(keys.read_owner_sort(sort), (str(row["GSI1PK"]), sort), ttl if isinstance(ttl, int) else 0)
