"""Who is a member of a channel. A membership is one row, in the base table, read consistently.

Invariant: whose membership was written before a read of the members began is among them, unless it has left.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chalicelib import telemetry
from chalicelib.errors import Invalid
from chalicelib.protocol.codec import ACTION_FRAMES, Receiver
from chalicelib.protocol.frame import FrameId, dump
from chalicelib.protocol.namespaces import Channel, Namespace, resolve
from chalicelib.store import keys
from chalicelib.store.registry import Connection
from chalicelib.store.table import Item, Table

# How long someone who is cut off counts as here: a client that comes back within it was never away.
GRACE_SECONDS: Final = 15
# How long the row of one who left still stands, for the job that announces it: SQS gives that out five times, six
# minutes apart, and the clocks of two Lambdas may be minutes apart as well.
LEFT_SECONDS: Final = GRACE_SECONDS + 40 * 60


@dataclass(frozen=True)
class Member:
    """One connection's membership.

    Attributes:
        connection_id, user_id: whose; user_id is None for someone anonymous.
        attributes: what the connection says of itself.
        left_at_ms: epoch milliseconds at which it was cut off; None while it is connected.
        codec: the name of the codec that it reads.
    """

    connection_id: str
    user_id: str | None
    attributes: Mapping[str, Any]
    left_at_ms: int | None
    codec: str = ACTION_FRAMES

    @property
    def receiver(self) -> Receiver:
        """The member as one that is sent something."""
        return Receiver(self.connection_id, self.codec)


@dataclass(frozen=True)
class Waiting:
    """A membership that is not let in yet: whoever delivers next will, and replies.

    Attributes:
        connection_id: whose.
        reply_to: the id of the frame that asked; None wants no reply.
        recover: the last epoch and offset it knows; None asks for nothing.
        is_new: whether it was no member before.
        turn: see `Channels.add`.
    """

    connection_id: str
    reply_to: FrameId
    recover: tuple[str, int] | None
    is_new: bool
    turn: int | None = None


class Channels:
    """The memberships that stand in `rows`."""

    def __init__(self, rows: Table, namespaces: Mapping[str, Namespace], clock: Callable[[], float]) -> None:
        self._rows = rows
        self._namespaces = namespaces
        self._clock = clock

    def resolve(self, name: object) -> Channel:
        """The channel of that name. Raises Invalid where there can be none."""
        channel = resolve(name, self._namespaces)
        telemetry.note("channel", channel.name)
        return channel

    def add(self, channel: Channel, connection: Connection, turn: int | None = None) -> None:
        """The connection is a member, unless it has become one by a later turn. Raises TableError.

        Frames that a client sends one after the other are handled at once. Where it numbers them, the turn says which
        came last, and that one is done.
        """
        self._put(self._item(channel, connection, turn), turn)

    def add_waiting(self, channel: Channel, connection: Connection, waiting: Waiting) -> None:
        """The connection will be a member once it is let in; until then it is sent nothing, unless it was one before.

        Raises TableError.
        """
        asked = dump([waiting.reply_to, waiting.recover])
        if not waiting.is_new and waiting.turn is None:
            key = keys.membership_key(
                channel.name, channel.shard_of(connection.connection_id), connection.connection_id
            )
            is_member = "attribute_exists(PK) AND attribute_not_exists(#waiting) AND attribute_not_exists(#leftAt)"
            if self._rows.update(key, "SET #asking = :asked", {":asked": asked}, where=is_member).applied:
                return
        self._put(self._item(channel, connection, waiting.turn, waiting=asked), waiting.turn)

    def waiting(self, channel: Channel, shard: int) -> Iterator[Waiting]:
        """Who is to be let in, page by page. Raises TableError."""
        for row in self._read(channel, shard, ["SK", "waiting", "asking", "turn"]):
            for mark in ("waiting", "asking"):
                if mark in row:
                    yield _waiting(_connection_id(row), row[mark], mark == "waiting", row.get("turn"))

    def extend(self, name: str, connection: Connection) -> None:
        """The connection's membership, if there is one, counts as long as its row. Raises TableError."""
        channel = self._known(name)
        self._rows.update(
            keys.membership_key(name, channel.shard_of(connection.connection_id), connection.connection_id),
            "SET #ttl = :ttl",
            {":ttl": connection.ttl},
            where="attribute_exists(PK) AND attribute_not_exists(#leftAt)",
        )

    def remove(self, channel: Channel, connection_id: str, turn: int | None = None) -> bool:
        """The connection is no member, unless it has become one by a later turn; see `add`. Raises TableError.

        Returns whether it is none.
        """
        key = keys.membership_key(channel.name, channel.shard_of(connection_id), connection_id)
        return self._rows.delete(key, **_unless_later(turn)).applied

    def telling(self, connection: Connection) -> list[Channel]:
        """The connection's channels whose members are told that it has left."""
        channels = map(self._known, sorted(connection.channels))
        return [channel for channel in channels if channel.options.join_leave and connection.user_id is not None]

    def remove_all(self, connection: Connection) -> None:
        """A connection that is gone is a member of none of its channels.

        Where members are told who leaves, its row stands on for a while as that of one who has left.

        Raises:
            TableError: DynamoDB failed; some memberships may stand until their ttl.
        """
        left_at_ms = int(self._clock() * 1000)
        marks = {"leftAt": left_at_ms, "ttl": left_at_ms // 1000 + LEFT_SECONDS}
        telling = self.telling(connection)
        removed = []
        for channel in map(self._known, sorted(connection.channels)):
            if channel not in telling:
                shard = channel.shard_of(connection.connection_id)
                removed.append(keys.membership_key(channel.name, shard, connection.connection_id))
        self._rows.write([self._item(channel, connection, **marks) for channel in telling], removed)

    def receivers(
        self, channel: Channel, shard: int, after: str | None = None, page_items: int | None = None
    ) -> Iterator[Receiver]:
        """The connections that are members, in the order of their ids, page by page; or those after that one.

        A page has so many items; None: as many as DynamoDB gives at a time. Raises TableError.
        """
        rows = self._read(channel, shard, ["SK", "leftAt", "waiting", "codec"], page_items, after)
        return (
            Receiver(_connection_id(row), _codec(row)) for row in rows if "leftAt" not in row and "waiting" not in row
        )

    def members(self, channel: Channel, page_items: int) -> Iterator[Member]:
        """All members, those who have left a moment ago too, read so many at a time. Raises TableError."""
        fields = ["SK", "userId", "attributes", "leftAt", "waiting", "codec"]
        for shard in range(channel.options.shards):
            for row in self._read(channel, shard, fields, page_items):
                if "waiting" in row:
                    continue
                user_id, left_at = row.get("userId"), row.get("leftAt")
                yield Member(
                    connection_id=_connection_id(row),
                    user_id=user_id if isinstance(user_id, str) else None,
                    attributes=_attributes(row.get("attributes")),
                    left_at_ms=left_at if isinstance(left_at, int) else None,
                    codec=_codec(row),
                )

    def _read(
        self,
        channel: Channel,
        shard: int,
        fields: list[str],
        page_items: int | None = None,
        after: str | None = None,
    ) -> Iterable[Mapping[str, Any]]:
        partition = keys.members_partition(channel.name, shard)
        # "$" is the character after "#"; "!" comes before all that names are made of.
        first = f"CONN#{after}!" if after else "CONN#"
        return self._rows.query(partition, first, "CONN$", fields, page_items=page_items)

    def _put(self, item: Item, turn: int | None) -> None:
        self._rows.put(item, **_unless_later(turn))

    def _item(self, channel: Channel, connection: Connection, turn: int | None = None, **marks: int | str) -> Item:
        shows = channel.options.presence
        return {
            **keys.membership_key(channel.name, channel.shard_of(connection.connection_id), connection.connection_id),
            "userId": connection.user_id,
            "attributes": dump(connection.attributes) if shows and connection.attributes else None,
            "codec": None if connection.codec == ACTION_FRAMES else connection.codec,
            "turn": turn,
            "ttl": connection.ttl,
            **marks,
        }

    def _known(self, name: str) -> Channel:
        # A namespace that is declared no more had its members in shard 0, or ttl reaps them.
        try:
            return self.resolve(name)
        except Invalid:
            return Channel(name, Namespace())


def _connection_id(row: Mapping[str, Any]) -> str:
    return str(row["SK"]).removeprefix("CONN#")


def _codec(row: Mapping[str, Any]) -> str:
    return str(row.get("codec", ACTION_FRAMES))


def _unless_later(turn: int | None) -> dict[str, Any]:
    if turn is None:
        return {}
    return {"where": "attribute_not_exists(#turn) OR #turn <= :turn", "values": {":turn": turn}}


def _waiting(connection_id: str, text: object, is_new: bool, turn: object) -> Waiting:
    # Of another version's row as much is taken as can be understood.
    asked = _json(text)
    reply_to, recover = asked if isinstance(asked, list) and len(asked) == 2 else (None, None)
    match recover:
        case [str(epoch), int(offset)]:
            position: tuple[str, int] | None = (epoch, offset)
        case _:
            position = None
    return Waiting(
        connection_id,
        reply_to if isinstance(reply_to, str | int) else None,
        position,
        is_new,
        turn if isinstance(turn, int) else None,
    )


def _json(text: object) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _attributes(text: object) -> Mapping[str, Any]:
    attributes = _json(text)
    return attributes if isinstance(attributes, dict) else {}
