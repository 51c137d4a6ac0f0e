"""Read what was published: for clients that reconnect, and for those that look back.

Invariant: nothing is read beyond the cursor, up to which every number is written or filled, so no reader sees a hole;
if history does not reach back far enough, the reader learns that, and receives nothing rather than a part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chalicelib.errors import EpochOver, Invalid, NotAvailable
from chalicelib.limits import LIMITS, Limits
from chalicelib.protocol.frame import MAX_SAFE_INTEGER, Frame, is_integer
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Missed, Part, Position, Publication
from chalicelib.store.lease import Lease, Leases
from chalicelib.store.log import Log

MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100


@dataclass(frozen=True)
class HistoryPage:
    """Some of a channel's publications, and the channel's position."""

    channel: str
    epoch: str
    offset: int
    publications: Sequence[Publication]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of replies and of answers of the REST routes."""
        return {
            "channel": self.channel,
            "epoch": self.epoch,
            "offset": self.offset,
            "publications": [publication.as_dict() for publication in self.publications],
        }


@dataclass(eq=False, repr=False)
class Recovery:
    """Reads a channel's log as far as it has been delivered."""

    log: Log
    leases: Leases
    limits: Limits = LIMITS

    def missed(self, channel: Channel, connection_id: str, recover: Position | None) -> tuple[Position | None, Missed]:
        """Return where the connection would join (None without history), and what it missed since `recover`, unread."""
        if not channel.options.history_size:
            return None, Missed(recover)
        position = self.log.position(channel)
        delivered = self.leases.delivered(channel, channel.shard_of(connection_id), position.epoch)
        return Position(position.epoch, delivered), self._missed(channel, recover, position, delivered)

    def missed_under(self, lease: Lease, recover: Position | None) -> Missed:
        """Return what a subscriber admitted under the lease has missed since `recover`, not read yet."""
        position = Position(lease.epoch, max(lease.wanted, lease.delivered))
        return self._missed(lease.channel, recover, position, lease.delivered)

    def page(self, channel: Channel, since: Position | None, limit: int, reverse: bool) -> HistoryPage:
        """Return the publications after `since`, or before it in reverse, as many as fit the limit and a frame.

        Args:
            channel: a channel with history.
            since: a position in the current epoch, which it need not name; None for the oldest, in
                reverse the newest.
            limit: at most this many, 0 to MAX_PAGE.
            reverse: newest first.

        Returns A page, empty if there are no more; the next one is read with its last offset as `since`.
        Raises TableError; NotAvailable: the channel has no history; EpochOver: `since` is in an epoch that is over.
        """
        if not channel.options.history_size:
            raise NotAvailable("channel", "is in a namespace without history")
        position = self.log.position(channel)
        if since is not None and since.epoch not in ("", position.epoch):
            raise EpochOver("since", "is of an epoch that is over")
        top = self.leases.delivered(channel, 0, position.epoch)
        first, last = max(top - channel.options.history_size, 0) + 1, top
        if since is not None and reverse:
            last = min(last, since.offset - 1)
        elif since is not None:
            first = max(first, since.offset + 1)
        part = Part(self.limits.part_bytes)
        if first <= last and limit:
            rows = self.log.read(channel, position.epoch, first, last, reverse, page_items=min(limit, 100))
            for publication in rows:
                if not publication.is_empty and not part.add(publication):
                    break
                if len(part.publications) == limit:
                    break
        return HistoryPage(channel.name, position.epoch, top, part.publications)

    def _missed(self, channel: Channel, recover: Position | None, position: Position, delivered: int) -> Missed:
        return Missed(
            recover,
            position,
            channel.options.history_size,
            delivered,
            lambda first, last: self.log.read(channel, position.epoch, first, last),
            self.limits.part_bytes,
        )


def read_position(frame: Frame, field: str) -> Position | None:
    """Return the field's `{"epoch", "offset"}`, or None if it is not given. Raises Invalid if it is anything else."""
    value = frame.fields.get(field)
    if value is None:
        return None
    epoch, offset = (value.get("epoch"), value.get("offset")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(epoch, str) or not is_integer(offset, 0, MAX_SAFE_INTEGER):
        raise Invalid(field, "must be an object with an epoch, a string, and an offset, a whole number")
    return Position(epoch, offset)
