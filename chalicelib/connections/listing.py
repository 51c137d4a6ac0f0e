"""List who is connected, page by page.

Invariant: the cost grows with the connections, whatever else the table holds; a connection that stays from the first
page to the last is listed once.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from chalicelib.errors import Invalid
from chalicelib.protocol.names import NAME
from chalicelib.store.registry import Place, Registry

MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
_PLACE: Final = re.compile(rf"(USER#{NAME}|ANON#[0-9])#(CONN#{NAME}(?:#{NAME})?)")


@dataclass(frozen=True)
class ConnectionPage:
    """Some connection ids with their users (None if anonymous), and where the next page begins, if there is one."""

    connections: tuple[tuple[str, str | None], ...]
    next: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return `{"connections": [{"connectionId", "userId"}], "next"}`."""
        entries = [{"connectionId": connection_id, "userId": user_id} for connection_id, user_id in self.connections]
        return {"connections": entries, "next": self.next}


def read_page(
    registry: Registry, clock: Callable[[], float], after: str | None = None, limit: int = DEFAULT_PAGE
) -> ConnectionPage:
    """Return a page of up to `limit` signed-in connections (1 to MAX_PAGE), in no order, after the page before.

    A short page need not be the last, and a connection that began within the last moments may be missing. `after` is
    the `next` of the page before, None for the first; if it is neither, this raises Invalid.
    """
    start = None if after is None else _read(after)
    # One more is read, so that the last page does not name a next one.
    entries = list(islice(registry.entries(after=start, page_items=limit + 1), limit + 1))
    alive = tuple((entry.receiver.connection_id, entry.user_id) for entry in entries[:limit] if entry.ttl > clock())
    return ConnectionPage(alive, _write(entries[limit - 1].place) if len(entries) > limit else None)


def _write(place: Place) -> str:
    # Base64, so that it fits a query as it is: names may contain `+` and `=`, keys contain `#`.
    return urlsafe_b64encode("#".join(place).encode()).decode().rstrip("=")


def _read(text: str) -> Place:
    try:
        match = _PLACE.fullmatch(urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
    except ValueError:
        match = None
    if not match:
        raise Invalid("after", "must be the `next` of the page before")
    return match[1], match[2]
