"""What a subscriber has missed: all of it, in parts that each fit a frame, or nothing. Pure.

Invariant: no part is given beyond a hole; if a publication is no longer kept, that is said instead.
"""

from collections.abc import Callable, Iterator, Sequence

from chalicelib.limits import LIMITS
from chalicelib.protocol.frame import dump
from chalicelib.protocol.publication import Position, Publication


class Part:
    """Publications that together fit `max_bytes`, as action frames write them; a single one always does."""

    def __init__(self, max_bytes: int) -> None:
        self.publications: list[Publication] = []
        self._max_bytes = max_bytes
        self._size_bytes = 0

    def add(self, publication: Publication) -> bool:
        """Add the publication; return False if it does not fit."""
        size_bytes = len(dump(publication.as_dict()).encode())
        if self.publications and self._size_bytes + size_bytes > self._max_bytes:
            return False
        self.publications.append(publication)
        self._size_bytes += size_bytes
        return True


class Missed:
    """What a subscriber has missed, read as its parts are asked for.

    Args:
        recover: the last position that the subscriber knows; None if it asks for nothing.
        position: the channel's position; None if it keeps nothing.
        kept: how many publications the channel keeps.
        last: the offset up to which the subscriber is given what it missed.
        read: yields what is kept at the offsets from one to another, inclusive, in order.
        part_bytes: how large a part may be.

    Attributes:
        since: `recover`.
        recovered: whether all of it is there, as far as it was read; None if it was not asked for.
    """

    def __init__(
        self,
        recover: Position | None,
        position: Position | None = None,
        kept: int = 0,
        last: int = 0,
        read: Callable[[int, int], Iterator[Publication]] = lambda first, last: iter(()),
        part_bytes: int = LIMITS.part_bytes,
    ) -> None:
        self.since = recover
        self.recovered: bool | None = None
        self._last = last
        self._read = read
        self._part_bytes = part_bytes
        if recover is not None:
            self.recovered = (
                position is not None
                and recover.epoch == position.epoch
                and position.offset - kept <= recover.offset <= position.offset
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
