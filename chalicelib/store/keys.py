"""The keys of the single table.

Invariant: the parts of a key are names, which never contain the `#` that separates them.

    PK                        SK                what
    CONN#{id}                 CONN              a connection; GSI1PK is its owner, GSI1SK names it and its codec
    CHAN#{channel}            META              counts a channel's publications
    CHAN#{channel}#{shard}    CONN#{id}         a membership
    CHAN#{channel}#{shard}    CURSOR            how far a shard has been delivered, and who holds its lease
    HIST#{channel}#{epoch}    {offset}          a publication
    MSG#{channel}#{id}        MSG               which publication a messageId became
    TICKET#{hash}             TICKET            a ticket's claims
    ENDPOINT                  ENDPOINT          the management endpoint
    REAPER                    REAPER            where the reaper stopped
"""

from typing import Final
from zlib import crc32

from chalicelib.protocol.codec import ACTION_FRAMES, Receiver

Key = dict[str, str]

# Anonymous connections share the index partitions ANON#0 to ANON#7: DynamoDB takes 1,000 writes a second on each.
ANONYMOUS_SHARDS: Final = 8
# Sort keys compare as text, so offsets are padded.
OFFSET_DIGITS: Final = 20


def connection_key(connection_id: str) -> Key:
    return {"PK": f"CONN#{connection_id}", "SK": "CONN"}


def owner_keys(connection_id: str, user_id: str | None, codec: str = ACTION_FRAMES) -> Key:
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
    _, connection_id, *codec = sort.split("#")
    return Receiver(connection_id, *codec[:1])


def owner_partition(user_id: str) -> str:
    return f"USER#{user_id}"


def read_owner_partition(partition: str) -> str | None:
    """Return the user whose index partition it is; None for a partition of anonymous connections."""
    kind, _, user_id = partition.partition("#")
    return user_id if kind == "USER" else None


def endpoint_key() -> Key:
    return {"PK": "ENDPOINT", "SK": "ENDPOINT"}


def reaper_key() -> Key:
    return {"PK": "REAPER", "SK": "REAPER"}


def channel_key(channel: str) -> Key:
    return {"PK": f"CHAN#{channel}", "SK": "META"}


def members_partition(channel: str, shard: int) -> str:
    return f"CHAN#{channel}#{shard}"


def membership_key(channel: str, shard: int, connection_id: str) -> Key:
    return {"PK": members_partition(channel, shard), "SK": f"CONN#{connection_id}"}


def cursor_key(channel: str, shard: int) -> Key:
    return {"PK": members_partition(channel, shard), "SK": "CURSOR"}


def history_partition(channel: str, epoch: str) -> str:
    return f"HIST#{channel}#{epoch}"


def offset_sort(offset: int) -> str:
    return f"{offset:0{OFFSET_DIGITS}d}"


def publication_key(channel: str, epoch: str, offset: int) -> Key:
    return {"PK": history_partition(channel, epoch), "SK": offset_sort(offset)}


def message_key(channel: str, message_id: str) -> Key:
    return {"PK": f"MSG#{channel}#{message_id}", "SK": "MSG"}


def ticket_key(ticket_hash: str) -> Key:
    return {"PK": f"TICKET#{ticket_hash}", "SK": "TICKET"}


def subscription(channel: str, join_ref: int | None) -> str:
    """Return what a connection's row says of a subscription; `join_ref` distinguishes it from earlier ones."""
    return channel if join_ref is None else f"{channel}#{join_ref}"
