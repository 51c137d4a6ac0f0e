"""The roll: who is connected, page by page.

Invariant: it costs as much as there are connections, whatever else the table holds; whoever is connected from the first
page to the last is named once.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chalicelib import keys
from chalicelib.errors import Invalid
from chalicelib.names import NAME
from chalicelib.table import Table

MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
_PLACE: Final = re.compile(rf"(USER#{NAME}|ANON#[0-9])#({NAME})")


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
    """Reads the connections that stand in `rows`."""

    def __init__(self, rows: Table) -> None:
        self._rows = rows

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
        found, last = self._rows.connections_page(None if after is None else _read(after), limit)
        entries = tuple((keys.connection_of(entry), keys.owner_of(entry)) for entry in found)
        return Page(entries, _write(last) if last else None)


def _write(entry: Mapping[str, str]) -> str:
    # Base64, so that it stands in a query as it is: names may have `+` and `=`, keys have `#`.
    owner, connection_id = entry["GSI1PK"], keys.connection_of(entry)
    return urlsafe_b64encode(f"{owner}#{connection_id}".encode()).decode().rstrip("=")


def _read(place: str) -> dict[str, str]:
    try:
        found = _PLACE.fullmatch(urlsafe_b64decode(place + "=" * (-len(place) % 4)).decode())
    except ValueError:
        found = None
    if not found:
        raise Invalid("after", "must be the `next` of the page before")
    owner, connection_id = found[1], found[2]
    return {**keys.connection_key(connection_id), "GSI1PK": owner, "GSI1SK": f"CONN#{connection_id}"}
