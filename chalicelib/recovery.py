"""Read back what was published: for those who come back, and for those who look.

Invariant: nothing is read beyond the cursor, up to which every number is written or filled, so no reader sees a hole;
where history does not reach back far enough, that is said and nothing is given in part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chalicelib import protocol
from chalicelib.cursors import Cursors
from chalicelib.errors import Invalid
from chalicelib.history import History, Publication, Stream
from chalicelib.namespaces import Channel

# How many bytes of publications one frame carries: API Gateway bills by 32 KB.
PART_BYTES: Final = 30_000
MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100


@dataclass(frozen=True)
class Page:
    """Some of a channel's publications, as they stand in frames, and where the channel stands."""

    channel: str
    epoch: str
    offset: int
    publications: Sequence[Mapping[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """What stands in replies."""
        return {
            "channel": self.channel,
            "epoch": self.epoch,
            "offset": self.offset,
            "publications": self.publications,
        }


class Reader:
    """Reads pages of history."""

    def __init__(self, history: History, cursors: Cursors) -> None:
        self._history = history
        self._cursors = cursors

    def page(self, channel: Channel, since: Stream | None, limit: int, reverse: bool) -> Page:
        """The publications after `since`, or in reverse before it, as many as fit the limit and a frame.

        Args:
            channel: a channel with history.
            since: a position in the current epoch; None: from the oldest, in reverse from the newest.
            limit: at most so many, 0 to MAX_PAGE.
            reverse: newest first.

        Returns:
            A page, empty where there are no more; what follows it is read with its last offset as `since`.

        Raises:
            Invalid: the channel has no history, or `since` is of an epoch that is over.
            TableError: DynamoDB failed.
        """
        if not channel.options.history_size:
            raise Invalid("channel", "is in a namespace without history")
        stream = self._history.stream(channel)
        if since is not None and since.epoch != stream.epoch:
            raise Invalid("since", "is of an epoch that is over")
        top = self._cursors.delivered(channel, 0, stream.epoch)
        first, last = max(top - channel.options.history_size, 0) + 1, top
        if since is not None and reverse:
            last = min(last, since.offset - 1)
        elif since is not None:
            first = max(first, since.offset + 1)
        part = Part()
        if first <= last and limit:
            rows = self._history.read(channel, stream.epoch, first, last, reverse, page_items=min(limit, 100))
            for publication in rows:
                if not publication.is_empty and not part.add(as_published(publication)):
                    break
                if len(part.publications) == limit:
                    break
        return Page(channel.name, stream.epoch, top, part.publications)


class Part:
    """Publications that fit one frame together; a single one always does."""

    def __init__(self) -> None:
        self.publications: list[Mapping[str, Any]] = []
        self._size_bytes = 0

    def add(self, published: Mapping[str, Any]) -> bool:
        """It is part of it; False where it does not fit."""
        size_bytes = len(protocol.dump(published).encode())
        if self.publications and self._size_bytes + size_bytes > PART_BYTES:
            return False
        self.publications.append(published)
        self._size_bytes += size_bytes
        return True


class Missed:
    """What a subscriber has missed, as it is read: parts that fill a frame are sent, the last is kept.

    Args:
        recover: the last position the subscriber knows; None: it asks for nothing.
        stream: where the channel stands.
        channel: how much it keeps.
        send: sends a part; False where the subscriber could not be reached.
    """

    def __init__(
        self,
        recover: Stream | None,
        stream: Stream,
        channel: Channel,
        send: Callable[[Sequence[Mapping[str, Any]]], bool],
    ) -> None:
        self._channel = channel
        self._stream = stream
        self._send = send
        self._part = Part()
        self._next = 0
        self.is_reached = True
        # Whether all of it was there so far; None: it was not asked for.
        self.recovered: bool | None = None
        if recover is not None:
            kept_from = stream.offset - channel.options.history_size
            self._next = recover.offset + 1
            self.recovered = recover.epoch == stream.epoch and kept_from <= recover.offset <= stream.offset

    @property
    def rest(self) -> Sequence[Mapping[str, Any]]:
        """What was not sent yet; nothing where not all of it was there."""
        return self._part.publications if self.recovered else ()

    def read(self, history: History, last: int) -> None:
        """All up to the offset `last` is sent or kept, or is known to be lost. Errors as `Delivery.send`."""
        if not self.recovered or not self.is_reached or self._next > last:
            return
        for publication in history.read(self._channel, self._stream.epoch, self._next, last):
            if publication.offset != self._next:
                break
            self._next += 1
            if not publication.is_empty:
                self._keep(as_published(publication))
        if self._next <= last:
            # Its time was up before its number was: history begins later.
            self.recovered = False

    def _keep(self, published: Mapping[str, Any]) -> None:
        if not self._part.add(published):
            self.is_reached = self.is_reached and self._send(self._part.publications)
            self._part = Part()
            self._part.add(published)


def read_position(frame: protocol.Frame, field: str) -> Stream | None:
    """The field is `{"epoch", "offset"}`, or None where it is not given. Raises Invalid where it is anything else."""
    value = frame.fields.get(field)
    if value is None:
        return None
    epoch, offset = (value.get("epoch"), value.get("offset")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(epoch, str) or not protocol.is_integer(offset, 0, protocol.MAX_SAFE_INTEGER):
        raise Invalid(field, "must be an object with an epoch, a string, and an offset, a whole number")
    return Stream(epoch, offset)


def as_published(publication: Publication) -> dict[str, Any]:
    """The publication as it stands in frames."""
    return protocol.published(
        publication.offset, publication.data, publication.sender, publication.time, publication.message_id
    )
