"""Who is a member of a channel. A membership is one row, in the base table, read consistently.

Invariant: a membership that was written before a read of the members began is among them, unless it has ended.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chalicelib import telemetry
from chalicelib.errors import Invalid
from chalicelib.limits import LIMITS
from chalicelib.protocol.codec import ACTION_FRAMES, Receiver
from chalicelib.protocol.frame import FrameId, dump
from chalicelib.protocol.namespaces import Channel, Namespace, resolve
from chalicelib.protocol.publication import Position
from chalicelib.store import keys
from chalicelib.store.connection import Connection, codec_value, load_row_json
from chalicelib.store.table import Item, Table

# How long the row of a member that left is kept, for the job that announces it: SQS delivers the job up to five times,
# six minutes apart, and the clocks of two Lambdas may be minutes apart too.
LEFT_SECONDS: Final = LIMITS.grace_seconds + 40 * 60


@dataclass(frozen=True)
class Member:
    """One connection's membership.

    Attributes:
        left_at_ms: epoch milliseconds at which it disconnected; None while it is connected.
        codec: the name of the codec that it reads.
    """

    connection_id: str
    user_id: str | None
    attributes: Mapping[str, Any]
    left_at_ms: int | None
    codec: str = ACTION_FRAMES

    @property
    def receiver(self) -> Receiver:
        """The member as a receiver of frames."""
        return Receiver(self.connection_id, self.codec)


@dataclass(frozen=True)
class Waiting:
    """A subscriber that is not admitted yet: the next holder of the lease replies to it and admits it.

    Attributes:
        reply_to: the id of the frame that asked; None for no reply.
        recover: the last position it knows; None if it asks for nothing.
        is_new: whether it was no member before.
        join_ref: see `Members.add`.
    """

    connection_id: str
    reply_to: FrameId
    recover: Position | None
    is_new: bool
    join_ref: int | None = None


@dataclass(eq=False, repr=False)
class Members:
    """The memberships stored in `rows`. `clock` returns epoch seconds."""

    rows: Table
    namespaces: Mapping[str, Namespace]
    clock: Callable[[], float]

    def resolve(self, name: object) -> Channel:
        """Return the channel of that name. Raises UnknownChannel if there can be none."""
        channel = resolve(name, self.namespaces)
        telemetry.note("channel", channel.name)
        return channel

    def add(self, channel: Channel, connection: Connection, join_ref: int | None = None) -> None:
        """Make the connection a member, unless it has become one with a later join_ref.

        Frames that a client sends one after the other are handled at the same time. If the client numbers them, the
        join_ref says which came last, and that one wins.
        """
        self._put(self._item(channel, connection, join_ref), join_ref)

    def add_waiting(self, channel: Channel, connection: Connection, waiting: Waiting) -> None:
        """Let the connection wait to be admitted; until then it is sent nothing, unless it was a member before."""
        recover = (waiting.recover.epoch, waiting.recover.offset) if waiting.recover else None
        request = dump([waiting.reply_to, recover])
        if not waiting.is_new and waiting.join_ref is None:
            is_member = "attribute_exists(PK) AND attribute_not_exists(#waiting) AND attribute_not_exists(#leftAt)"
            key = _key(channel, connection.connection_id)
            if self.rows.update(key, "SET #asking = :asked", {":asked": request}, where=is_member).applied:
                return
        self._put(self._item(channel, connection, waiting.join_ref, waiting=request), waiting.join_ref)

    def waiting(self, channel: Channel, shard: int) -> Iterator[Waiting]:
        """Yield the subscribers to be admitted, page by page."""
        for row in self._read(channel, shard, ["SK", "waiting", "asking", "turn"]):
            for mark in ("waiting", "asking"):
                if mark in row:
                    yield _waiting(_connection_id(row), row[mark], mark == "waiting", row.get("turn"))

    def extend(self, name: str, connection: Connection) -> None:
        """Let the connection's membership, if there is one, last as long as its row."""
        self.rows.update(
            _key(self._known(name), connection.connection_id),
            "SET #ttl = :ttl",
            {":ttl": connection.ttl},
            where="attribute_exists(PK) AND attribute_not_exists(#leftAt)",
        )

    def remove(self, channel: Channel, connection_id: str, join_ref: int | None = None) -> bool:
        """End the connection's membership, unless it has become a member with a later join_ref; see `add`.

        Returns whether it is no member now.
        """
        return self.rows.delete(_key(channel, connection_id), **_unless_later(join_ref)).applied

    def telling(self, connection: Connection) -> list[Channel]:
        """Return the connection's channels that announce to their members that it has left."""
        channels = map(self._known, sorted(connection.channels))
        return [channel for channel in channels if channel.options.join_leave and connection.user_id is not None]

    def remove_all(self, connection: Connection) -> None:
        """End all memberships of a connection that has ended.

        In channels that announce who leaves, its row is kept for a while, marked as left.

        Raises TableError: DynamoDB failed; some memberships may remain until their ttl.
        """
        left_at_ms = int(self.clock() * 1000)
        marks = {"leftAt": left_at_ms, "ttl": left_at_ms // 1000 + LEFT_SECONDS}
        telling = self.telling(connection)
        removed = [
            _key(channel, connection.connection_id)
            for channel in map(self._known, sorted(connection.channels))
            if channel not in telling
        ]
        self.rows.write([self._item(channel, connection, **marks) for channel in telling], removed)

    def receivers(
        self, channel: Channel, shard: int, after: str | None = None, page_items: int | None = None
    ) -> Iterator[Receiver]:
        """Yield the members of a shard in the order of their connection ids, page by page.

        Reading begins after the connection id `after`, `page_items` at a time, or as many as DynamoDB gives.
        """
        rows = self._read(channel, shard, ["SK", "leftAt", "waiting", "codec"], page_items, after)
        return (
            Receiver(_connection_id(row), _codec(row)) for row in rows if "leftAt" not in row and "waiting" not in row
        )

    def members(self, channel: Channel, page_items: int) -> Iterator[Member]:
        """Yield all members, including those that left a moment ago, `page_items` at a time."""
        fields = ["SK", "userId", "attributes", "leftAt", "waiting", "codec"]
        for shard in range(channel.options.shards):
            for row in self._read(channel, shard, fields, page_items):
                if "waiting" in row:
                    continue
                user_id, left_at = row.get("userId"), row.get("leftAt")
                attributes = load_row_json(row.get("attributes"))
                yield Member(
                    connection_id=_connection_id(row),
                    user_id=user_id if isinstance(user_id, str) else None,
                    attributes=attributes if isinstance(attributes, dict) else {},
                    left_at_ms=left_at if isinstance(left_at, int) else None,
                    codec=_codec(row),
                )

    def _read(
        self, channel: Channel, shard: int, fields: list[str], page_items: int | None = None, after: str | None = None
    ) -> Iterable[Mapping[str, Any]]:
        # "$" is the character after "#"; "!" sorts before every character of a name.
        first = f"CONN#{after}!" if after else "CONN#"
        partition = keys.members_partition(channel.name, shard)
        return self.rows.query(partition, first, "CONN$", fields, page_items=page_items)

    def _put(self, item: Item, join_ref: int | None) -> None:
        self.rows.put(item, **_unless_later(join_ref))

    def _item(self, channel: Channel, connection: Connection, join_ref: int | None = None, **marks: int | str) -> Item:
        shows = channel.options.presence
        return {
            **_key(channel, connection.connection_id),
            "userId": connection.user_id,
            "attributes": dump(connection.attributes) if shows and connection.attributes else None,
            "codec": codec_value(connection.codec),
            "turn": join_ref,
            "ttl": connection.ttl,
            **marks,
        }

    def _known(self, name: str) -> Channel:
        # A namespace that is no longer declared had its members in shard 0, or their ttl removes them.
        try:
            return self.resolve(name)
        except Invalid:
            return Channel(name, Namespace())


def _key(channel: Channel, connection_id: str) -> dict[str, str]:
    return keys.membership_key(channel.name, channel.shard_of(connection_id), connection_id)


def _connection_id(row: Mapping[str, Any]) -> str:
    return str(row["SK"]).removeprefix("CONN#")


def _codec(row: Mapping[str, Any]) -> str:
    return str(row.get("codec", ACTION_FRAMES))


def _unless_later(join_ref: int | None) -> dict[str, Any]:
    if join_ref is None:
        return {}
    return {"where": "attribute_not_exists(#turn) OR #turn <= :turn", "values": {":turn": join_ref}}


def _waiting(connection_id: str, text: object, is_new: bool, join_ref: object) -> Waiting:
    # Another version may have written the row: take as much of it as can be understood.
    request = load_row_json(text)
    reply_to, recover = request if isinstance(request, list) and len(request) == 2 else (None, None)
    match recover:
        case [str(epoch), int(offset)]:
            position: Position | None = Position(epoch, offset)
        case _:
            position = None
    return Waiting(
        connection_id,
        reply_to if isinstance(reply_to, str | int) else None,
        position,
        is_new,
        join_ref if isinstance(join_ref, int) else None,
    )
