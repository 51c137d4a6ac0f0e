"""The publications of a channel: numbered, kept for a while, read in order.

Invariants: within an epoch no two publications have one offset, and one that was written is never replaced. A number
whose publisher died before it wrote is filled with an empty publication, so a reader that waits long enough sees
no hole; whoever comes too late for its number takes another (as in CORFU, Balakrishnan et al., NSDI 2012).
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from chalicelib.protocol.frame import dump
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Publication, Stream
from chalicelib.store import keys
from chalicelib.store.table import Item, Table, Value

# A channel that nobody has used for that long is forgotten; the next use begins a new epoch.
IDLE_SECONDS: Final = 30 * 24 * 3_600
# Within which a messageId that comes again is the same message.
REPEAT_SECONDS: Final = 5 * 60
EPOCH_BYTES: Final = 6


class History:
    """The publications that stand in `rows`."""

    def __init__(self, rows: Table, clock: Callable[[], float]) -> None:
        self._rows = rows
        self._clock = clock

    def stream(self, channel: Channel) -> Stream:
        """Where the channel stands. Begins its first epoch where there is none. Raises TableError."""
        row = self._rows.get(keys.channel_key(channel.name))
        stream = _stream(row)
        if row is None or stream is None:
            return self._count(channel, 0)
        ttl = row.get("ttl")
        if isinstance(ttl, int) and ttl < self._clock() + IDLE_SECONDS / 2:
            # Someone is here, so it is not idle: its epoch must not change under those who listen.
            return self._count(channel, 0)
        return stream

    def number(self, channel: Channel, count: int = 1) -> Stream:
        """The last `count` numbers up to the stream's offset are the caller's to write. Raises TableError."""
        return self._count(channel, count)

    def write(self, channel: Channel, epoch: str, publication: Publication) -> bool:
        """The publication stands under its offset for as long as the namespace says.

        Returns:
            False where the number was taken from its publisher, who was too slow: take another.

        Raises:
            TableError: DynamoDB failed; it may stand there all the same.
        """
        return self._rows.put_new(self._item(channel, epoch, publication))

    def write_once(self, channel: Channel, epoch: str, publication: Publication) -> Stream | None:
        """The publication stands under its offset, and its messageId points there for five minutes, or neither.

        Returns:
            What the messageId has become: another publication where it had come before, and then the number stays
            free. None where the number was taken, as in `write`.

        Raises:
            TableError: DynamoDB failed.
        """
        assert publication.offset is not None
        assert publication.message_id is not None
        pointer: Item = {
            **keys.message_key(channel.name, publication.message_id),
            "offset": publication.offset,
            "epoch": epoch,
            "ttl": int(self._clock()) + REPEAT_SECONDS,
        }
        taken, standing = self._rows.put_both(self._item(channel, epoch, publication), pointer)
        if standing:
            return _stream(standing)
        return None if taken else Stream(epoch, publication.offset)

    def first_of(self, channel: Channel, message_id: str) -> Stream | None:
        """The epoch and offset of the publication that `message_id` has become within five minutes, or None."""
        return _stream(self._rows.get(keys.message_key(channel.name, message_id)))

    def claim(self, channel: Channel, message_id: str) -> bool:
        """The messageId is taken for five minutes, where no publication is kept that it could point to.

        Returns whether it was free. Raises TableError.
        """
        taken: Item = {
            **keys.message_key(channel.name, message_id),
            # Tells our own write, whose answer was lost, from another's in the same second.
            "claim": secrets.token_urlsafe(EPOCH_BYTES),
            "ttl": int(self._clock()) + REPEAT_SECONDS,
        }
        return self._rows.put_new(taken)

    def release(self, channel: Channel, message_id: str) -> None:
        """The messageId is free again. Raises TableError."""
        self._rows.delete(keys.message_key(channel.name, message_id))

    def fill(self, channel: Channel, epoch: str, offset: int) -> None:
        """Something stands under the offset: what its publisher wrote, else an empty publication. Raises TableError."""
        empty: Item = {**keys.publication_key(channel.name, epoch, offset), "isEmpty": 1, "ttl": self._ttl(channel)}
        self._rows.put_new(empty)

    def read(
        self, channel: Channel, epoch: str, first: int, last: int, reverse: bool = False, page_items: int | None = None
    ) -> Iterator[Publication]:
        """What stands under the offsets from `first` to `last`, both included, empty ones too, page by page.

        Raises TableError.
        """
        rows = self._rows.query(
            keys.history_partition(channel.name, epoch),
            keys.offset_sort(max(first, 0)),
            keys.offset_sort(last),
            reverse=reverse,
            page_items=page_items,
        )
        return map(_publication, rows)

    def _count(self, channel: Channel, count: int) -> Stream:
        key = keys.channel_key(channel.name)
        values: dict[str, Value] = {":ttl": int(self._clock()) + IDLE_SECONDS, ":now": int(self._clock())}
        epoch = secrets.token_urlsafe(EPOCH_BYTES)
        while True:
            counted = self._rows.update(
                key,
                "SET #epoch = if_not_exists(#epoch, :epoch), #ttl = :ttl ADD #offset :count",
                values | {":epoch": epoch, ":count": count},
                where="attribute_not_exists(PK) OR #ttl > :now",
            )
            if counted.applied:
                stream = _stream(counted.item)
                assert stream is not None
                return stream
            # The row has expired and is not swept yet: the channel begins anew.
            begun = self._rows.update(
                key,
                "SET #epoch = :epoch, #ttl = :ttl, #offset = :count",
                values | {":epoch": epoch, ":count": count},
                where="#ttl <= :now",
            )
            if begun.applied:
                return Stream(epoch, count)

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
        return int(self._clock()) + channel.options.history_ttl_seconds


def _stream(row: Mapping[str, Value] | None) -> Stream | None:
    epoch, offset = (row.get("epoch"), row.get("offset")) if row else (None, None)
    return Stream(epoch, offset) if isinstance(epoch, str) and isinstance(offset, int) else None


def _publication(row: Mapping[str, Value]) -> Publication:
    # A row may have been written by another version of the app: what is missing or strange reads as unknown.
    def text(name: str) -> str | None:
        value = row.get(name)
        return value if isinstance(value, str) else None

    sender = _json(text("from"))
    return Publication(
        offset=int(text("SK") or 0),
        data=_json(text("data")),
        sender=sender if isinstance(sender, dict) else None,
        time=text("time") or "",
        message_id=text("messageId"),
        exclude=text("exclude"),
        is_empty="isEmpty" in row,
    )


def _json(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None
