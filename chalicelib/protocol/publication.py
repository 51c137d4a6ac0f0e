"""What is published in a channel, and where it stands there. Pure records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Position:
    """A position in a channel: `offset` publications were numbered in `epoch`."""

    epoch: str
    offset: int


@dataclass(frozen=True)
class Publication:
    """What was published.

    Attributes:
        offset: its number; None in a channel without history.
        data: any JSON.
        sender: {"userId", "connectionId"} of the client that published it; None for a server.
        time: RFC 3339 in UTC with milliseconds.
        message_id: the publisher's own name for it, if it gave one.
        exclude: the connection that is not sent it.
        is_empty: whether this fills a hole and is nothing to send.
    """

    offset: int | None
    data: Any
    sender: Mapping[str, Any] | None
    time: str
    message_id: str | None = None
    exclude: str | None = None
    is_empty: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As it stands in action frames and in answers of the REST routes."""
        return {
            "offset": self.offset,
            "data": self.data,
            "from": self.sender,
            "time": self.time,
            "messageId": self.message_id,
        }
