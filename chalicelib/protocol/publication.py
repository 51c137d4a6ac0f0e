"""What is published in a channel, where it stands there, and what a subscriber has missed of it. Pure.

Invariant: a subscriber is given all that it missed, in parts that each fit a frame, up to the first hole; if a
publication is no longer kept, that is said instead of what comes after it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from chalicelib.limits import LIMITS
from chalicelib.protocol.frame import dump


class Position(NamedTuple):
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
        """Return the fields of action frames and of answers of the REST routes."""
        return {
            "offset": self.offset,
            "data": self.data,
            "from": self.sender,
            "time": self.time,
            "messageId": self.message_id,
        }


class Part:
    """Publications that together fit `max_bytes`, as action frames write them; a single one always does."""

    def __init__(self, max_bytes: int) -> None:
        self.publications: list[Publication] = []
        self._bytes_left = max_bytes

    def add(self, publication: Publication) -> bool:
        """Add the publication; return False if it does not fit."""
        size_bytes = len(dump(publication.as_dict()).encode())
        if self.publications and size_bytes > self._bytes_left:
            return False
        self.publications.append(publication)
        self._bytes_left -= size_bytes
        return True


class Missed:
    """What a subscriber has missed, read as its parts are asked for.

    Args:
        since: the last position that the subscriber knows; None if it asks for nothing.
        position: the channel's position; None if it keeps nothing.
        kept: how many publications the channel keeps.
        last: the offset up to which the subscriber is given what it missed.
        read: yields what is kept at the offsets from one to another, inclusive, in order.
        part_bytes: how large a part may be.

    `recovered` says whether all of it is there, as far as it was read; None if it was not asked for.
    """

    def __init__(
        self,
        since: Position | None,
        position: Position | None = None,
        kept: int = 0,
        last: int = 0,
        read: Callable[[int, int], Iterator[Publication]] = lambda first, last: iter(()),
        part_bytes: int = LIMITS.part_bytes,
    ) -> None:
        self.since, self._last, self._read, self._part_bytes = since, last, read, part_bytes
        self.recovered: bool | None = None
        if since is not None:
            self.recovered = (
                position is not None
                and since.epoch == position.epoch
                and position.offset - kept <= since.offset <= position.offset
            )

    def parts(self) -> Iterator[Sequence[Publication]]:
        """Yield the parts, in order, none of them empty, until `recovered` turns False. Raises what `read` raises."""
        if not self.recovered or self.since is None or self.since.offset >= self._last:
            return
        part, due = Part(self._part_bytes), self.since.offset + 1
        for publication in self._read(due, self._last):
            if publication.offset != due:
                break
            due += 1
            if publication.is_empty or part.add(publication):
                continue
            yield part.publications
            part = Part(self._part_bytes)
            part.add(publication)
        if due <= self._last:
            # It expired before its number was due: history begins later.
            self.recovered = False
        elif part.publications:
            yield part.publications
