"""Tickets: a backend that knows its user by a cookie lets that user connect once, without a token in a browser.

Invariant: a ticket lets one connection in, whoever races for it, and only within its time. The table knows its hash,
so that whoever reads the table cannot connect.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final

from chalicelib.errors import Invalid, Unauthenticated
from chalicelib.protocol.frame import dump
from chalicelib.protocol.identity import Identity, read_identity
from chalicelib.store import keys
from chalicelib.store.table import Table

_RANDOM_BYTES: Final = 32
_MAX_TICKET_CHARS: Final = 128


@dataclass(frozen=True)
class Ticket:
    """What a client connects with, once, before `expires_at` (epoch seconds)."""

    ticket: str
    expires_at: int


class Tickets:
    """The tickets that stand in `rows`, each for `ttl_seconds`."""

    def __init__(self, rows: Table, ttl_seconds: int, clock: Callable[[], float]) -> None:
        self._rows = rows
        self._ttl_seconds = ttl_seconds
        self._clock = clock

    def issue(self, identity: Identity) -> Ticket:
        """A new ticket for whoever that is. Issuing twice gives two. Raises TableError."""
        ticket = Ticket(token_urlsafe(_RANDOM_BYTES), int(self._clock()) + self._ttl_seconds)
        claims = {"userId": identity.user_id, "deviceId": identity.device_id, "expiresAt": identity.expires_at}
        grants = identity.grants.as_claims() if identity.grants else {}
        self._rows.put({**_key(ticket.ticket), "claims": dump(claims | grants), "ttl": ticket.expires_at})
        return ticket

    def redeem(self, ticket: str) -> Identity:
        """The identity that the ticket was issued for; the ticket is used up.

        Raises:
            Unauthenticated: there is no such ticket, it was used, or its time or its user's has run out.
            TableError: DynamoDB failed; the ticket may be used up.
        """
        if not ticket.isascii() or len(ticket) > _MAX_TICKET_CHARS:
            raise Unauthenticated("no ticket")
        taken = self._rows.delete(_key(ticket), where="#ttl > :now", values={":now": int(self._clock())})
        if taken.item is None or not taken.applied:
            raise Unauthenticated("unknown, used or late ticket")
        try:
            claims = json.loads(str(taken.item.get("claims")))
            identity = read_identity(claims, user="userId", expires="expiresAt")
        except (ValueError, AttributeError, Invalid) as error:
            # Written by another version of the app.
            raise Unauthenticated("unreadable ticket") from error
        if identity.expires_at is not None and identity.expires_at <= self._clock():
            raise Unauthenticated("expired")
        return identity


def _key(ticket: str) -> dict[str, str]:
    return keys.ticket_key(sha256(ticket.encode()).hexdigest())
