"""Read back what was published: for those who come back, and for those who look.

Invariant: nothing is read beyond the cursor, up to which every number is written or filled, so no reader sees a hole;
where history does not reach back far enough, that is said and nothing is given in part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chalicelib.errors import EpochOver, Invalid, NotAvailable
from chalicelib.protocol import frame as protocol
from chalicelib.protocol.missed import Missed, Part
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Publication, Stream
from chalicelib.store.lease import Cursors
from chalicelib.store.log import History

MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100


@dataclass(frozen=True)
class Page:
    """Some of a channel's publications, and where the channel stands."""

    channel: str
    epoch: str
    offset: int
    publications: Sequence[Publication]

    def as_dict(self) -> dict[str, Any]:
        """What stands in replies of action frames, and in answers of the REST routes."""
        return {
            "channel": self.channel,
            "epoch": self.epoch,
            "offset": self.offset,
            "publications": [publication.as_dict() for publication in self.publications],
        }


class Reader:
    """Reads pages of history."""

    def __init__(self, history: History, cursors: Cursors) -> None:
        self._history = history
        self._cursors = cursors

    def missed(self, channel: Channel, connection_id: str, recover: Stream | None) -> tuple[Stream | None, Missed]:
        """Where the connection would join the channel now, and what it has missed since `recover`.

        The position is None in a channel without history. Raises TableError.
        """
        if not channel.options.history_size:
            return None, Missed(recover)
        stream = self._history.stream(channel)
        delivered = self._cursors.delivered(channel, channel.shard_of(connection_id), stream.epoch)
        return Stream(stream.epoch, delivered), Missed(
            recover,
            Stream(stream.epoch, max(stream.offset, delivered)),
            channel.options.history_size,
            delivered,
            lambda first, last: self._history.read(channel, stream.epoch, first, last),
        )

    def page(self, channel: Channel, since: Stream | None, limit: int, reverse: bool) -> Page:
        """The publications after `since`, or in reverse before it, as many as fit the limit and a frame.

        Args:
            channel: a channel with history.
            since: a position in the current epoch, whichever that is where it names none; None: from the oldest, in
                reverse from the newest.
            limit: at most so many, 0 to MAX_PAGE.
            reverse: newest first.

        Returns:
            A page, empty where there are no more; what follows it is read with its last offset as `since`.

        Raises:
            NotAvailable: the channel has no history.
            EpochOver: `since` is of an epoch that is over.
            TableError: DynamoDB failed.
        """
        if not channel.options.history_size:
            raise NotAvailable("channel", "is in a namespace without history")
        stream = self._history.stream(channel)
        if since is not None and since.epoch not in ("", stream.epoch):
            raise EpochOver("since", "is of an epoch that is over")
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
                if not publication.is_empty and not part.add(publication):
                    break
                if len(part.publications) == limit:
                    break
        return Page(channel.name, stream.epoch, top, part.publications)


def read_position(frame: protocol.Frame, field: str) -> Stream | None:
    """The field is `{"epoch", "offset"}`, or None where it is not given. Raises Invalid where it is anything else."""
    value = frame.fields.get(field)
    if value is None:
        return None
    epoch, offset = (value.get("epoch"), value.get("offset")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(epoch, str) or not protocol.is_integer(offset, 0, protocol.MAX_SAFE_INTEGER):
        raise Invalid(field, "must be an object with an epoch, a string, and an offset, a whole number")
    return Stream(epoch, offset)
