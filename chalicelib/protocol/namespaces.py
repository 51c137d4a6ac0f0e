"""Namespaces: a channel is named `namespace:rest`, and its namespace, declared here, says what it can do.

To add a namespace, give it a row in NAMESPACES. The `shards` of a namespace in use can be changed safely: members move
to their new shard when they subscribe again, after two hours at most; until then their old shard is not read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from zlib import crc32

from chalicelib.errors import Invalid, UnknownChannel
from chalicelib.protocol.names import check_name


@dataclass(frozen=True)
class Namespace:
    """What the channels of a namespace can do.

    Attributes:
        history_size: how many publications are kept for recovery; 0: none, and no offsets or order are promised.
        history_ttl_seconds: how long each is kept: longer than a connection lives (7,800 s), or what a dead Lambda
            left unsent could expire before a member that never disconnected receives it.
        presence: whether clients may read who is present.
        join_leave: whether members are notified of joins and leaves. Needs presence.
        clients_publish: whether clients with a grant may publish; if not, only servers publish.
        echo: whether a publisher receives its own publications.
        shards: over how many partitions the members are spread. One partition serves about 12 MB, or 150,000
            members, a second to its readers.
    """

    history_size: int = 0
    history_ttl_seconds: int = 0
    presence: bool = False
    join_leave: bool = False
    clients_publish: bool = True
    echo: bool = True
    shards: int = 1


_KEPT: Final = Namespace(history_size=1_000, history_ttl_seconds=24 * 3_600)

NAMESPACES: Final[Mapping[str, Namespace]] = {
    "chat": replace(_KEPT, presence=True, join_leave=True),
    "feed": replace(_KEPT, clients_publish=False),
    "live": Namespace(),
    # Personal: only that user reads `user:<id>`.
    "user": replace(_KEPT, clients_publish=False),
}


@dataclass(frozen=True)
class Channel:
    """A channel: its full name and what it can do."""

    name: str
    options: Namespace

    def shard_of(self, connection_id: str) -> int:
        """Return the shard of the connection's membership."""
        return crc32(connection_id.encode()) % self.options.shards


def resolve(name: object, namespaces: Mapping[str, Namespace] = NAMESPACES) -> Channel:
    """Return the channel with that name. Raises UnknownChannel."""
    try:
        full = check_name(name, "channel")
    except Invalid as error:
        raise UnknownChannel(error.field, error.requirement) from error
    namespace, colon, rest = full.partition(":")
    if not colon or not rest:
        raise UnknownChannel("channel", "must be namespace:name")
    if namespace not in namespaces:
        raise UnknownChannel("channel", f"must be in one of the namespaces {', '.join(sorted(namespaces))}")
    return Channel(full, namespaces[namespace])
