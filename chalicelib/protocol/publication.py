"""Publications of a channel, positions in it, and what a subscriber has missed, in parts that each fit a frame. Pure.

Invariant: no part goes past a hole. If a publication is no longer kept, `recovered` is False.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from chalicelib.limits import LIMITS
from chalicelib.protocol.frame import dump


class Position(NamedTuple):
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


class Part:
    """Publications that together fit `max_bytes`, written as action frames; the first one always fits."""

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
        last: the offset of the last publication that the subscriber is given here.
        read: yields what is kept from the first offset to the last, inclusive, in order.
        part_bytes: the most bytes of a part.

    `recovered` says whether nothing is missing, as far as it was read; None if the subscriber asked for nothing.
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
        """Yield the parts in order, none of them empty, until `recovered` turns False. Raises what `read` raises."""
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
            # The publication `due` has expired: history begins later.
            self.recovered = False
        elif part.publications:
            yield part.publications
