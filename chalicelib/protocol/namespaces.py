"""Channels are named `namespace:rest`; a namespace says what its channels can do. The one place that declares them.

To add a namespace, give it a row in NAMESPACES. Changing `shards` of one in use is safe: members move to their new
shard when they subscribe again, two hours later at most, and until then the old ones are not read.
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
        history_size: how many publications are kept for those who come back; 0: none, and then neither offsets nor
            an order are promised.
        history_ttl_seconds: how long each is kept. More than a connection lives, 7,800 s: what a dead Lambda has left
            unsent would else be gone before a member that has been here all the time is sent it.
        presence: whether one may ask who is here.
        join_leave: whether members are told who comes and goes. Needs presence.
        clients_publish: whether clients may publish, given a grant; if not, only servers do.
        echo: whether the connection that publishes gets its own publication.
        shards: into how many partitions members are spread. One partition gives some 12 MB, about 150,000
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
    # Personal: `user:<id>` is read by that user alone.
    "user": replace(_KEPT, clients_publish=False),
}


@dataclass(frozen=True)
class Channel:
    """A channel's full name and what it can do."""

    name: str
    options: Namespace

    def shard_of(self, connection_id: str) -> int:
        """Return the shard that holds the connection's membership."""
        return crc32(connection_id.encode()) % self.options.shards


def resolve(name: object, namespaces: Mapping[str, Namespace] = NAMESPACES) -> Channel:
    """Return the channel of that name. Raises UnknownChannel where it is not `namespace:rest` of a namespace."""
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
