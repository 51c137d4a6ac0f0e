"""The connection registry: who is connected. Speaks records, not keys.

Invariants: one conditional write registers a connection, so nothing is overwritten and nothing half-written;
forgetting one touches its own rows and no one else's.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import Conflict, Invalid, LimitExceeded, RateLimited
from chalicelib.protocol.codec import ACTION_FRAMES, Receiver
from chalicelib.protocol.frame import dump, timestamp
from chalicelib.protocol.grants import NOTHING, Grants, parse_grants
from chalicelib.protocol.identity import Identity
from chalicelib.settings import RateLimit
from chalicelib.store import keys, table

# Until its $connect has returned, a connection answers 410 like a dead one: one that is younger is not believed dead.
HANDSHAKE_SECONDS = 5
# How far the clocks of two Lambdas are apart at most, as long as they are right.
CLOCKS_APART_US = 1_000_000


@dataclass(frozen=True)
class Connection:
    """One connection.

    Attributes:
        connection_id: API Gateway's id; never used again for another connection.
        connected_at: RFC 3339 in UTC with milliseconds.
        ttl: epoch seconds after which the row does not count any more.
        endpoint: the management endpoint it connected through; None where it could not be told.
        user_id, device_id: who it belongs to; None for someone anonymous.
        source_ip, user_agent: as API Gateway saw them.
        attributes: what the client said of itself when it connected.
        channels: full names of the channels it has subscribed to.
        turns: those subscriptions that have a turn, as `keys.subscription` writes them.
        expires_at: epoch seconds at which its credential runs out, and never before `ttl`; None where it has none.
        grants: what its credential grants; None for someone anonymous, who may do what the settings say.
        is_signed_in: False until a client that connected without a credential has sent one. Such a connection is
            not among its user's nor among everyone.
        codec: the name of the codec it reads and writes.
    """

    connection_id: str
    connected_at: str
    ttl: int
    endpoint: str | None
    user_id: str | None
    device_id: str | None
    source_ip: str | None
    user_agent: str | None
    attributes: Mapping[str, Any]
    channels: frozenset[str] = frozenset()
    expires_at: int | None = None
    grants: Grants | None = None
    is_signed_in: bool = True
    codec: str = ACTION_FRAMES
    turns: frozenset[str] = frozenset()

    def has(self, channel: str, turn: int | None) -> bool:
        """It has subscribed to the channel; where there is a turn, with that one."""
        return channel in self.channels if turn is None else keys.subscription(channel, turn) in self.turns

    def subscriptions(self, channel: str, until: int | None) -> frozenset[str]:
        """What its row may say of subscriptions to the channel, save those whose turn came later."""
        ours = (name for name in self.turns if name.startswith(f"{channel}#"))
        return frozenset({channel, *(name for name in ours if until is None or int(name.split("#")[1]) <= until)})

    @property
    def receiver(self) -> Receiver:
        """The connection as one that is sent something."""
        return Receiver(self.connection_id, self.codec)


# A connection's own two keys in the index, from which reading the index can go on.
Place = tuple[str, str]


@dataclass(frozen=True)
class Listed:
    """What the index says of a connection: who it is, where it stands there, and until which epoch second it counts."""

    receiver: Receiver
    place: Place
    ttl: int


class Registry:
    """The connections that stand in `rows`."""

    def __init__(self, rows: table.Table, clock: Callable[[], float]) -> None:
        self._rows = rows
        self._clock = clock

    def put(self, connection: Connection) -> None:
        """The connection is registered. Registering the very same record again is no error.

        Raises:
            Conflict: another record holds that id; it is untouched.
            TableError: DynamoDB failed; the row may stand all the same.
        """
        if not self._rows.put_new(_item(connection)):
            raise Conflict

    def get(self, connection_id: str) -> Connection | None:
        """The connection, if it is registered and its time has not run out. Raises TableError."""
        item = self._rows.get(keys.connection_key(connection_id))
        return _connection(connection_id, item) if item else None

    def forget(self, connection_id: str) -> Connection | None:
        """The connection is not registered any more; returns what it was, if it was. Raises TableError."""
        deleted = self._rows.delete(keys.connection_key(connection_id))
        return _connection(connection_id, deleted.item) if deleted.item else None

    def take_back(self, connection: Connection) -> None:
        """The connection is not registered, in case `put` failed after it wrote. Another's row is untouched.

        Raises TableError.
        """
        self._rows.delete(
            keys.connection_key(connection.connection_id),
            where="connectedAt = :connectedAt",
            values={":connectedAt": connection.connected_at},
        )

    def prune(self, connection_id: str) -> Connection | None:
        """A connection that answered 410 twice is not registered any more, unless it may still be connecting.

        Returns what it was, if a row was deleted. Raises TableError.
        """
        horizon = timestamp(self._clock() - HANDSHAKE_SECONDS)
        deleted = self._rows.delete(
            keys.connection_key(connection_id), where="connectedAt <= :horizon", values={":horizon": horizon}
        )
        return _connection(connection_id, deleted.item) if deleted.applied and deleted.item else None

    def expire(self, connection_id: str) -> None:
        """The connection, if it is registered, does not count any more: its next frame is refused and it is closed.

        Raises TableError.
        """
        self._rows.update(
            keys.connection_key(connection_id),
            "SET #ttl = :now",
            {":now": int(self._clock())},
            where="attribute_exists(PK)",
        )

    def spend(self, connection_id: str, limit: RateLimit, frames: int = 1) -> Connection | None:
        """So many frames of the connection are counted, all or none.

        The row keeps the time at which the next frame is due, as if they came evenly; a frame may be early by what a
        burst takes. That is a token bucket in one number, and one write; two within a burst.

        Returns:
            The connection; None where it is not registered, or its time has run out.

        Raises:
            RateLimited: they are too early. Nothing is written.
            TableError: DynamoDB failed; the frame may be counted all the same.
        """
        key, now_us = keys.connection_key(connection_id), int(self._clock() * 1_000_000)
        cost_us = frames * limit.interval_us
        now = now_us // 1_000_000
        # No clock like ours has written more than that: what another's has must not silence anyone for minutes.
        never_us = now_us + limit.burst * limit.interval_us + CLOCKS_APART_US
        counted = self._rows.update(
            key,
            "SET #frameDueAt = :next",
            {":next": now_us + cost_us, ":now": now, ":nowUs": now_us, ":never": never_us},
            where="#ttl > :now"
            " AND (attribute_not_exists(#frameDueAt) OR #frameDueAt <= :nowUs OR #frameDueAt > :never)",
        )
        if not counted.applied:
            counted = self._rows.update(
                key,
                "SET #frameDueAt = #frameDueAt + :interval",
                {
                    ":interval": cost_us,
                    ":now": now,
                    ":latest": now_us + limit.burst * limit.interval_us - cost_us,
                },
                where="#ttl > :now AND #frameDueAt <= :latest",
            )
        if counted.item is None or int(str(counted.item.get("ttl", 0))) <= now:
            return None
        if not counted.applied:
            raise RateLimited
        return _connection(connection_id, counted.item)

    def add_channel(self, connection_id: str, channel: str, max_channels: int, turn: int | None = None) -> bool:
        """The connection's row names the channel, and the turn if there is one. Adding it twice is no error.

        Returns:
            False where it does not: the connection is not registered any more.

        Raises:
            LimitExceeded: the row names `max_channels` others already.
            TableError: DynamoDB failed; the row may name it all the same.
        """
        name = keys.subscription(channel, turn)
        added = self._rows.update(
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
        """The connection's row, if there is one, does not name these subscriptions. Raises TableError."""
        self._rows.update(
            keys.connection_key(connection_id),
            "DELETE #channels :channels",
            {":channels": subscriptions},
            where="attribute_exists(PK)",
        )

    def speak(self, connection: Connection, codec: str) -> Connection | None:
        """The connection, which has signed in, reads and writes that codec from now on.

        Returns the connection as it is then; None where it is not registered any more. Raises TableError.
        """
        written = self._rows.update(
            keys.connection_key(connection.connection_id),
            "SET #codec = :codec, #GSI1SK = :sort",
            {
                ":codec": codec,
                ":sort": keys.owner_sort(connection.connection_id, codec),
                ":now": int(self._clock()),
            },
            where="#ttl > :now AND attribute_exists(#GSI1PK)",
        )
        return _connection(connection.connection_id, written.item) if written.applied and written.item else None

    def renew(self, connection_id: str, identity: Identity, ttl: int, codec: str = ACTION_FRAMES) -> Connection | None:
        """The connection has this identity's user, end and grants, as if it had connected with them.

        Args:
            connection_id: a connection of the same user, or one that has not signed in yet; someone anonymous has
                not, as long as it is in no channel.
            identity: what it has proven now.
            ttl: epoch seconds after which its row does not count any more.
            codec: which codec it reads and writes from now on.

        Returns:
            The connection as it is then; None where it is another user's or not registered any more.

        Raises:
            TableError: DynamoDB failed; it may be renewed all the same.
        """
        changes: dict[str, table.Value | None] = {
            **keys.owner_keys(connection_id, identity.user_id, codec),
            "userId": identity.user_id,
            "deviceId": identity.device_id,
            "expiresAt": identity.expires_at,
            "grants": _grants_text(identity.grants or NOTHING),
            "ttl": ttl,
            "codec": _codec_value(codec),
        }
        values = {name: value for name, value in changes.items() if value is not None}
        written = self._rows.update(
            keys.connection_key(connection_id),
            "SET " + ", ".join(f"#{name} = :{name}" for name in values),
            {f":{name}": value for name, value in values.items()} | {":now": int(self._clock())},
            where="#ttl > :now AND (attribute_not_exists(#GSI1PK) OR #userId = :userId"
            " OR (attribute_not_exists(#userId) AND attribute_not_exists(#channels)))",
        )
        return _connection(connection_id, written.item) if written.applied and written.item else None

    def by_user(self, user_id: str) -> Iterator[Receiver]:
        """The user's connections. One that connected within the last moments may be missing."""
        return self._rows.connections_of(user_id)

    def everyone(self) -> Iterator[Receiver]:
        """All connections. One that connected within the last moments may be missing."""
        return self._rows.connections()

    def listed(self, segment: int, segments: int, after: Place | None, page_items: int) -> Iterator[Listed]:
        """A part of all connections that count, from a place on, read so many at a time, as late as `everyone`."""
        return (
            entry for entry in self.rows(segment, segments, after, page_items=page_items) if entry.ttl > self._clock()
        )

    def rows(
        self, segment: int = 0, segments: int = 1, after: Place | None = None, *, page_items: int
    ) -> Iterator[Listed]:
        """As `listed`, with those whose time has run out and whose rows still stand. Raises TableError."""
        start = None
        if after:
            owner, connection = after
            own_key = keys.connection_key(keys.read_owner_sort(connection).connection_id)
            start = {"GSI1PK": owner, "GSI1SK": connection, **own_key}
        for item in self._rows.listed_connections(segment, segments, start, page_items):
            sort, ttl = str(item["GSI1SK"]), item.get("ttl")
            place = (str(item["GSI1PK"]), sort)
            yield Listed(keys.read_owner_sort(sort), place, ttl if isinstance(ttl, int) else 0)


def _item(connection: Connection) -> table.Item:
    return {
        **keys.connection_key(connection.connection_id),
        # Who has not signed in is in no index, so nothing that is sent to a user or to everyone reaches it.
        **(
            keys.owner_keys(connection.connection_id, connection.user_id, connection.codec)
            if connection.is_signed_in
            else {}
        ),
        "codec": _codec_value(connection.codec),
        "connectionId": connection.connection_id,
        "userId": connection.user_id,
        "deviceId": connection.device_id,
        "connectedAt": connection.connected_at,
        "endpoint": connection.endpoint,
        "sourceIp": connection.source_ip,
        "userAgent": connection.user_agent,
        "attributes": dump(connection.attributes),
        "channels": connection.channels or None,
        "expiresAt": connection.expires_at,
        "grants": None if connection.grants is None else _grants_text(connection.grants),
        "ttl": connection.ttl,
    }


def _connection(connection_id: str, item: Mapping[str, table.Value]) -> Connection:
    # A row may have been written by another version of the app: what is missing or strange reads as unknown.
    def text(name: str) -> str | None:
        value = item.get(name)
        return value if isinstance(value, str) else None

    ttl, expires_at, grants, names = item.get("ttl"), item.get("expiresAt"), text("grants"), item.get("channels")
    subscriptions = names if isinstance(names, frozenset) else frozenset()
    try:
        attributes = json.loads(text("attributes") or "{}")
    except ValueError:
        attributes = {}
    return Connection(
        connection_id=connection_id,
        connected_at=text("connectedAt") or "",
        ttl=ttl if isinstance(ttl, int) else 0,
        endpoint=text("endpoint"),
        user_id=text("userId"),
        device_id=text("deviceId"),
        source_ip=text("sourceIp"),
        user_agent=text("userAgent"),
        attributes=attributes if isinstance(attributes, dict) else {},
        channels=frozenset(name.split("#")[0] for name in subscriptions),
        turns=frozenset(name for name in subscriptions if name.partition("#")[2].isdecimal()),
        expires_at=expires_at if isinstance(expires_at, int) else None,
        grants=None if grants is None else _grants(grants),
        is_signed_in="GSI1PK" in item,
        codec=text("codec") or ACTION_FRAMES,
    )


def _grants_text(grants: Grants) -> str:
    return dump(grants.as_claims())


def _grants(text: str) -> Grants:
    try:
        return parse_grants(json.loads(text))
    except (ValueError, AttributeError, Invalid):
        return NOTHING


def _codec_value(codec: str) -> str | None:
    # Most rows are of connections that read action frames, and say nothing of it.
    return None if codec == ACTION_FRAMES else codec
