"""What a subscriber has missed: all of it, in parts that each fit a frame, or nothing. Pure.

Invariant: no part goes past a hole. If a publication is no longer kept, `recovered` is False.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from chalicelib.limits import LIMITS
from chalicelib.protocol.frame import dump
from chalicelib.protocol.publication import Position, Publication


class Part:
    """Publications that together fit `max_bytes`, written as action frames; the first one always fits."""

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


@dataclass(eq=False, repr=False)
class Missed:
    """What a subscriber has missed, read as its parts are asked for.

    Attributes:
        since: the last position that the subscriber knows; None if it asks for nothing.
        position: the channel's position; None if it keeps nothing.
        kept: how many publications the channel keeps.
        last: the offset of the last publication that the subscriber is given here.
        read: yields what is kept from the first offset to the last, inclusive, in order.
        part_bytes: the most bytes of a part.
        recovered: whether nothing is missing, as far as it was read; None if the subscriber asked for nothing.
    """

    since: Position | None
    position: Position | None = None
    kept: int = 0
    last: int = 0
    read: Callable[[int, int], Iterator[Publication]] = lambda first, last: iter(())
    part_bytes: int = LIMITS.part_bytes
    recovered: bool | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        since, here = self.since, self.position
        if since is not None:
            self.recovered = (
                here is not None
                and since.epoch == here.epoch
                and here.offset - self.kept <= since.offset <= here.offset
            )

    def parts(self) -> Iterator[Sequence[Publication]]:
        """Yield the parts in order, none of them empty, until `recovered` turns False. Raises what `read` raises."""
        if not self.recovered or self.since is None or self.since.offset >= self.last:
            return
        part, due = Part(self.part_bytes), self.since.offset + 1
        for publication in self.read(due, self.last):
            if publication.offset != due:
                break
            due += 1
            if publication.is_empty or part.add(publication):
                continue
            yield part.publications
            part = Part(self.part_bytes)
            part.add(publication)
        if due <= self.last:
            # The publication `due` has expired: history begins later.
            self.recovered = False
        elif part.publications:
            yield part.publications
