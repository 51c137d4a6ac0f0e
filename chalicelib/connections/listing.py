"""The roll: who is connected, page by page.

Invariant: it costs as much as there are connections, whatever else the table holds; whoever is connected from the first
page to the last is named once.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from chalicelib.errors import Invalid
from chalicelib.protocol.names import NAME
from chalicelib.store import keys
from chalicelib.store.registry import Place, Registry

MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
_PLACE: Final = re.compile(rf"(USER#{NAME}|ANON#[0-9])#(CONN#{NAME}(?:#{NAME})?)")


@dataclass(frozen=True)
class Page:
    """Some of those who are connected.

    Attributes:
        connections: connection ids with their users, None for someone anonymous.
        next: where the page after this one begins; None: there is none.
    """

    connections: tuple[tuple[str, str | None], ...]
    next: str | None

    def as_dict(self) -> dict[str, Any]:
        """`{"connections": [{"connectionId", "userId"}], "next"}`"""
        entries = [{"connectionId": connection_id, "userId": user_id} for connection_id, user_id in self.connections]
        return {"connections": entries, "next": self.next}


class Roll:
    """Reads the connections of the registry."""

    def __init__(self, registry: Registry, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._clock = clock

    def page(self, after: str | None, limit: int) -> Page:
        """Up to `limit` of those who are connected and signed in, in no order; fewer do not mean that it is the last.

        Args:
            after: the `next` of the page before; None: from the beginning.
            limit: 1 to MAX_PAGE.

        Returns:
            A page. One that connected within the last moments may be missing.

        Raises:
            Invalid: `after` is no page's `next`.
            TableError: DynamoDB failed.
        """
        start = None if after is None else _read(after)
        # Read in pages of one more, so that the last page does not name a next one.
        read = list(islice(self._registry.rows(after=start, page_items=limit + 1), limit + 1))
        entries = tuple(
            (entry.receiver.connection_id, keys.read_owner_partition(entry.place[0]))
            for entry in read[:limit]
            if entry.ttl > self._clock()
        )
        return Page(entries, _write(read[limit - 1].place) if len(read) > limit else None)


def _write(place: Place) -> str:
    # Base64, so that it stands in a query as it is: names may have `+` and `=`, keys have `#`.
    return urlsafe_b64encode("#".join(place).encode()).decode().rstrip("=")


def _read(text: str) -> Place:
    try:
        found = _PLACE.fullmatch(urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
    except ValueError:
        found = None
    if not found:
        raise Invalid("after", "must be the `next` of the page before")
    return found[1], found[2]
