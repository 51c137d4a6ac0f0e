"""What a subscriber has missed: all of it, in parts that fit a frame each, or nothing. Pure.

Invariant: no part is given beyond a hole; where a publication is no longer kept, that is said instead.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from chalicelib.protocol.frame import dump
from chalicelib.protocol.publication import Publication, Stream

# How many bytes of publications one frame carries: API Gateway bills by 32 KB.
PART_BYTES: Final = 30_000


class Part:
    """Publications that fit one frame together, as action frames write them; a single one always does."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self._size_bytes = 0

    def add(self, publication: Publication) -> bool:
        """It is part of it; False where it does not fit."""
        size_bytes = len(dump(publication.as_dict()).encode())
        if self.publications and self._size_bytes + size_bytes > PART_BYTES:
            return False
        self.publications.append(publication)
        self._size_bytes += size_bytes
        return True


class Missed:
    """What a subscriber has missed, read as its parts are asked for.

    Args:
        recover: the last position that the subscriber knows; None: it asks for nothing.
        stream: where the channel stands; None: it keeps nothing.
        kept: how many publications the channel keeps.
        last: the offset up to which the subscriber is given what it missed.
        read: gives what is kept under the offsets from one to another, both included, in their order.

    Attributes:
        since: `recover`.
        recovered: whether all of it is there, as far as it was read; None: it was not asked for.
    """

    def __init__(
        self,
        recover: Stream | None,
        stream: Stream | None = None,
        kept: int = 0,
        last: int = 0,
        read: Callable[[int, int], Iterator[Publication]] = lambda first, last: iter(()),
    ) -> None:
        self.since = recover
        self.recovered: bool | None = None
        self._last = last
        self._read = read
        if recover is not None:
            self.recovered = (
                stream is not None
                and recover.epoch == stream.epoch
                and stream.offset - kept <= recover.offset <= stream.offset
            )

    def parts(self) -> Iterator[Sequence[Publication]]:
        """The parts, in order, none of them empty; they end where `recovered` turns False. Errors as `read`."""
        if not self.recovered or self.since is None or self.since.offset >= self._last:
            return
        part, due = Part(), self.since.offset + 1
        for publication in self._read(due, self._last):
            if publication.offset != due:
                break
            due += 1
            if publication.is_empty or part.add(publication):
                continue
            yield part.publications
            part = Part()
            part.add(publication)
        if due <= self._last:
            # Its time was up before its number was: history begins later.
            self.recovered = False
        elif part.publications:
            yield part.publications
