"""Publications of a channel, and positions in it. Pure records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Position:
    """A position in a channel: `offset` publications have been numbered in `epoch`."""

    epoch: str
    offset: int


@dataclass(frozen=True)
class Publication:
    """A publication.

    Attributes:
        offset: its number; None in a channel without history.
        data: any JSON.
        sender: {"userId", "connectionId"} of the client that published it; None for a server.
        time: RFC 3339 in UTC with milliseconds.
        message_id: the publisher's own id for it, if it gave one.
        exclude: the connection that does not receive it.
        is_empty: whether it only fills a hole, and is not sent.
    """

    offset: int | None
    data: Any
    sender: Mapping[str, Any] | None
    time: str
    message_id: str | None = None
    exclude: str | None = None
    is_empty: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it as action frames and the REST routes show it."""
        return {
            "offset": self.offset,
            "data": self.data,
            "from": self.sender,
            "time": self.time,
            "messageId": self.message_id,
        }
