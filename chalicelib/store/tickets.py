"""Tickets: a backend that knows its user by a cookie lets that user connect once, without a token in a browser.

Invariant: a ticket admits one connection, even if several race for it, and only within its time. The table holds its
hash, so reading the table does not allow connecting.
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
    """What a client connects with once, before `expires_at` (epoch seconds)."""

    ticket: str
    expires_at: int


@dataclass(eq=False, repr=False)
class Tickets:
    """The tickets stored in `rows`, each valid for `ttl_seconds`. `clock` returns epoch seconds."""

    rows: Table
    ttl_seconds: int
    clock: Callable[[], float]

    def issue(self, identity: Identity) -> Ticket:
        """Return a new ticket for the identity."""
        ticket = Ticket(token_urlsafe(_RANDOM_BYTES), int(self.clock()) + self.ttl_seconds)
        claims = {"userId": identity.user_id, "deviceId": identity.device_id, "expiresAt": identity.expires_at}
        grants = identity.grants.as_claims() if identity.grants else {}
        self.rows.put({**_key(ticket.ticket), "claims": dump(claims | grants), "ttl": ticket.expires_at})
        return ticket

    def redeem(self, ticket: str) -> Identity:
        """Use up the ticket and return the identity it was issued for.

        Raises Unauthenticated: there is no such ticket, it was used, or it or its user's credential has expired.
        """
        if not ticket.isascii() or len(ticket) > _MAX_TICKET_CHARS:
            raise Unauthenticated("no ticket")
        deleted = self.rows.delete(_key(ticket), where="#ttl > :now", values={":now": int(self.clock())})
        if deleted.item is None or not deleted.applied:
            raise Unauthenticated("unknown, used or late ticket")
        try:
            claims = json.loads(str(deleted.item.get("claims")))
            identity = read_identity(claims, user="userId", expires="expiresAt")
        except (ValueError, AttributeError, Invalid) as error:
            # Another version of the app wrote it.
            raise Unauthenticated("unreadable ticket") from error
        if identity.expires_at is not None and identity.expires_at <= self.clock():
            raise Unauthenticated("expired")
        return identity


def _key(ticket: str) -> dict[str, str]:
    return keys.ticket_key(sha256(ticket.encode()).hexdigest())
