"""What a client shows at the handshake: a token or a ticket, and where it stands.

Invariant: at most one credential counts. Whoever sends two is refused, so there is no precedence to know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from chalicelib.errors import Invalid
from chalicelib.protocol.events import Connect

# What a client offers to be told by, beside the token that it hides among the sub-protocols.
SUBPROTOCOL: Final = "peal"
_BEARER: Final = "bearer."


@dataclass(frozen=True)
class Credential:
    """A token to be verified, or a ticket to be redeemed. Never logged."""

    text: str = field(repr=False)
    is_ticket: bool = False


def find_credential(event: Connect) -> Credential | None:
    """The one credential of the handshake, not yet checked, or None.

    Looks at `Authorization: Bearer`, at `Sec-WebSocket-Protocol: peal, bearer.<token>`, at `?token=` and at
    `?ticket=`. Other schemes of Authorization are not ours.

    Raises:
        Invalid: there is more than one, or a token among the sub-protocols without `peal` beside it, which a
            browser would hold against the answer.
    """
    scheme, _, token = event.headers.get("authorization", "").strip().partition(" ")
    found = [Credential(token.strip())] if scheme.lower() == "bearer" else []
    offered = _offered(event.headers)
    bearers = [Credential(name.removeprefix(_BEARER)) for name in offered if name.startswith(_BEARER)]
    if bearers and SUBPROTOCOL not in offered:
        raise Invalid("Sec-WebSocket-Protocol", f"must offer {SUBPROTOCOL} beside {_BEARER}<token>")
    found += bearers
    found += [Credential(event.query["token"])] if "token" in event.query else []
    found += [Credential(event.query["ticket"], is_ticket=True)] if "ticket" in event.query else []
    if len(found) > 1:
        raise Invalid("token", "must be given once, by header, sub-protocol or query, and without a ticket")
    return found[0] if found else None


def choose_subprotocol(headers: Mapping[str, str]) -> str | None:
    """The sub-protocol for the handshake's answer: `peal` if the client offers it. API Gateway chooses none itself."""
    return SUBPROTOCOL if SUBPROTOCOL in _offered(headers) else None


def _offered(headers: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
