"""The log of a channel: its publications, numbered, kept for a while, read in order.

Invariants: within an epoch no two publications share an offset, and a written one is never replaced. If a publisher
dies before it writes, its number is filled with an empty publication, so a reader that waits long enough sees no hole;
a publisher that is too late for its number takes another (as in CORFU, Balakrishnan et al., NSDI 2012).
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from chalicelib.protocol.frame import dump
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Position, Publication
from chalicelib.store import keys
from chalicelib.store.connection import load_row_json
from chalicelib.store.table import Item, Table, Value

# A channel unused for this long is forgotten; its next use begins a new epoch.
IDLE_SECONDS: Final = 30 * 24 * 3_600
# Within this time a repeated messageId means the same message.
REPEAT_SECONDS: Final = 5 * 60
EPOCH_BYTES: Final = 6


@dataclass(eq=False, repr=False)
class Log:
    """The publications stored in `rows`. `clock` returns epoch seconds."""

    rows: Table
    clock: Callable[[], float]

    def position(self, channel: Channel) -> Position:
        """Return the channel's position, and begin its first epoch if it is new."""
        row = self.rows.get(keys.channel_key(channel.name))
        position = _position(row)
        if row is None or position is None:
            return self._count(channel, 0)
        ttl = row.get("ttl")
        if isinstance(ttl, int) and ttl < self.clock() + IDLE_SECONDS / 2:
            # The channel is in use: its epoch must not change under its members.
            return self._count(channel, 0)
        return position

    def number(self, channel: Channel) -> Position:
        """Reserve the next number for the caller to write."""
        return self._count(channel, 1)

    def write(self, channel: Channel, epoch: str, publication: Publication) -> bool:
        """Write the publication at its offset, for as long as the namespace says.

        Returns False if the number was filled because its publisher was too slow: take another.
        """
        return self.rows.put_new(self._item(channel, epoch, publication))

    def write_once(self, channel: Channel, epoch: str, publication: Publication) -> Position | None:
        """Write the publication at its offset and let its messageId point there for five minutes, or do neither.

        Returns the position of the messageId's publication; if that is an earlier one, the number stays free. None if
        the number was filled, as in `write`.
        """
        assert publication.offset is not None
        assert publication.message_id is not None
        pointer: Item = {
            **keys.message_key(channel.name, publication.message_id),
            "offset": publication.offset,
            "epoch": epoch,
            "ttl": int(self.clock()) + REPEAT_SECONDS,
        }
        filled, earlier = self.rows.put_both(self._item(channel, epoch, publication), pointer)
        if earlier:
            return _position(earlier)
        return None if filled else Position(epoch, publication.offset)

    def first_of(self, channel: Channel, message_id: str) -> Position | None:
        """Return the position of the last five minutes' publication with this messageId, or None."""
        return _position(self.rows.get(keys.message_key(channel.name, message_id)))

    def claim(self, channel: Channel, message_id: str) -> bool:
        """Reserve the messageId for five minutes, in a channel that keeps no publication it could point to.

        Returns whether it was free.
        """
        claim: Item = {
            **keys.message_key(channel.name, message_id),
            # Distinguishes our own write, retried after a lost answer, from another's in the same second.
            "claim": secrets.token_urlsafe(EPOCH_BYTES),
            "ttl": int(self.clock()) + REPEAT_SECONDS,
        }
        return self.rows.put_new(claim)

    def release(self, channel: Channel, message_id: str) -> None:
        """Free the messageId again."""
        self.rows.delete(keys.message_key(channel.name, message_id))

    def fill(self, channel: Channel, epoch: str, offset: int) -> None:
        """Write an empty publication at the offset, unless its publisher has written there."""
        empty: Item = {**keys.publication_key(channel.name, epoch, offset), "isEmpty": 1, "ttl": self._ttl(channel)}
        self.rows.put_new(empty)

    def read(
        self, channel: Channel, epoch: str, first: int, last: int, reverse: bool = False, page_items: int | None = None
    ) -> Iterator[Publication]:
        """Yield the publications at the offsets `first` to `last`, inclusive, with empty ones, page by page.

        Reading goes from `last` down to `first` if `reverse`; `page_items` at a time, or as many as DynamoDB gives.
        """
        rows = self.rows.query(
            keys.history_partition(channel.name, epoch),
            keys.offset_sort(max(first, 0)),
            keys.offset_sort(last),
            reverse=reverse,
            page_items=page_items,
        )
        return map(_publication, rows)

    def _count(self, channel: Channel, count: int) -> Position:
        key = keys.channel_key(channel.name)
        values: dict[str, Value] = {":ttl": int(self.clock()) + IDLE_SECONDS, ":now": int(self.clock())}
        epoch = secrets.token_urlsafe(EPOCH_BYTES)
        while True:
            counted = self.rows.update(
                key,
                "SET #epoch = if_not_exists(#epoch, :epoch), #ttl = :ttl ADD #offset :count",
                values | {":epoch": epoch, ":count": count},
                where="attribute_not_exists(PK) OR #ttl > :now",
            )
            if counted.applied:
                position = _position(counted.item)
                assert position is not None
                return position
            # The row has expired and is not deleted yet: the channel begins anew.
            begun = self.rows.update(
                key,
                "SET #epoch = :epoch, #ttl = :ttl, #offset = :count",
                values | {":epoch": epoch, ":count": count},
                where="#ttl <= :now",
            )
            if begun.applied:
                return Position(epoch, count)

    def _item(self, channel: Channel, epoch: str, publication: Publication) -> Item:
        assert publication.offset is not None
        return {
            **keys.publication_key(channel.name, epoch, publication.offset),
            "data": dump(publication.data),
            "from": dump(publication.sender) if publication.sender else None,
            "time": publication.time,
            "messageId": publication.message_id,
            "exclude": publication.exclude,
            "ttl": self._ttl(channel),
        }

    def _ttl(self, channel: Channel) -> int:
        return int(self.clock()) + channel.options.history_ttl_seconds


def _position(row: Mapping[str, Value] | None) -> Position | None:
    epoch, offset = (row.get("epoch"), row.get("offset")) if row else (None, None)
    return Position(epoch, offset) if isinstance(epoch, str) and isinstance(offset, int) else None


def _publication(row: Mapping[str, Value]) -> Publication:
    # Another version of the app may have written the row: what is missing or malformed reads as unknown.
    def text(name: str) -> str | None:
        value = row.get(name)
        return value if isinstance(value, str) else None

    sender = load_row_json(row.get("from"))
    return Publication(
        offset=int(text("SK") or 0),
        data=load_row_json(row.get("data")),
        sender=sender if isinstance(sender, dict) else None,
        time=text("time") or "",
        message_id=text("messageId"),
        exclude=text("exclude"),
        is_empty="isEmpty" in row,
    )
