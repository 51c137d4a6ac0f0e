"""The keys of the single table; docs/ARCHITECTURE.md lists them.

Invariant: the parts of a key are names, which never contain the `#` that separates them.
"""

from typing import Final
from zlib import crc32

from chalicelib.protocol.codec import ACTION_FRAMES, Receiver

# Anonymous connections share the index partitions ANON#0 to ANON#7: DynamoDB takes 1,000 writes a second on each.
ANONYMOUS_SHARDS: Final = 8
# Sort keys compare as text, so offsets are padded.
OFFSET_DIGITS: Final = 20


def connection_key(connection_id: str) -> dict[str, str]:
    """Return the primary key of a connection's row."""
    return {"PK": f"CONN#{connection_id}", "SK": "CONN"}


def owner_keys(connection_id: str, user_id: str | None, codec: str = ACTION_FRAMES) -> dict[str, str]:
    """Return the index keys of a connection's row: by user, or by shard if anonymous; with its codec."""
    anonymous = f"ANON#{crc32(connection_id.encode()) % ANONYMOUS_SHARDS}"
    return {
        "GSI1PK": anonymous if user_id is None else owner_partition(user_id),
        "GSI1SK": owner_sort(connection_id, codec),
    }


def owner_sort(connection_id: str, codec: str) -> str:
    """Return the index sort key of a connection; a reader of the index learns the codec without reading the row."""
    return f"CONN#{connection_id}" if codec == ACTION_FRAMES else f"CONN#{connection_id}#{codec}"


def read_owner_sort(sort: str) -> Receiver:
    """Return the connection that has this sort key in the index."""
    _, connection_id, *codec = sort.split("#")
    return Receiver(connection_id, *codec[:1])


def owner_partition(user_id: str) -> str:
    """Return the index partition of a user's connections."""
    return f"USER#{user_id}"


def read_owner_partition(partition: str) -> str | None:
    """Return the user whose index partition it is; None for a partition of anonymous connections."""
    kind, _, user_id = partition.partition("#")
    return user_id if kind == "USER" else None


def endpoint_key() -> dict[str, str]:
    """Return the primary key of the row that holds the management endpoint."""
    return {"PK": "ENDPOINT", "SK": "ENDPOINT"}


def channel_key(channel: str) -> dict[str, str]:
    """Return the primary key of the row that counts a channel's publications."""
    return {"PK": f"CHAN#{channel}", "SK": "META"}


def membership_key(channel: str, shard: int, connection_id: str) -> dict[str, str]:
    """Return the primary key of a connection's membership in a channel."""
    return {"PK": members_partition(channel, shard), "SK": f"CONN#{connection_id}"}


def members_partition(channel: str, shard: int) -> str:
    """Return the partition that holds the members of one shard."""
    return f"CHAN#{channel}#{shard}"


def subscription(channel: str, join_ref: int | None) -> str:
    """Return what a connection's row says of a subscription; `join_ref` distinguishes it from earlier ones."""
    return channel if join_ref is None else f"{channel}#{join_ref}"


def cursor_key(channel: str, shard: int) -> dict[str, str]:
    """Return the primary key of the cursor: how far one shard of a channel has been delivered."""
    return {"PK": members_partition(channel, shard), "SK": "CURSOR"}


def history_partition(channel: str, epoch: str) -> str:
    """Return the partition that holds the publications of one epoch."""
    return f"HIST#{channel}#{epoch}"


def publication_key(channel: str, epoch: str, offset: int) -> dict[str, str]:
    """Return the primary key of one publication."""
    return {"PK": history_partition(channel, epoch), "SK": offset_sort(offset)}


def offset_sort(offset: int) -> str:
    """Return the sort key of the publication at that offset; these keys sort as the offsets do."""
    return f"{offset:0{OFFSET_DIGITS}d}"


def message_key(channel: str, message_id: str) -> dict[str, str]:
    """Return the primary key of the row that says which publication a messageId became."""
    return {"PK": f"MSG#{channel}#{message_id}", "SK": "MSG"}


def reaper_key() -> dict[str, str]:
    """Return the primary key of the row that says where the reaper stopped."""
    return {"PK": "REAPER", "SK": "REAPER"}


def ticket_key(ticket_hash: str) -> dict[str, str]:
    """Return the primary key of the row that holds a ticket's claims, by the hash of the ticket."""
    return {"PK": f"TICKET#{ticket_hash}", "SK": "TICKET"}
