"""Who may connect, and as which user.

Closed by default: a client needs a token signed by one of our keys, or a ticket that we issued. ALLOW_ANONYMOUS=true
admits clients that show neither, and believes the userId they claim; ALLOW_LATE_AUTHENTICATION=true gives a client a
moment to send `authenticate`.

Invariant: at most one credential counts. A client that sends two is refused, so there is no precedence to know.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from chalicelib.auth.tokens import Tokens
from chalicelib.errors import Forbidden, Invalid, Unauthenticated
from chalicelib.protocol.events import ConnectEvent
from chalicelib.protocol.identity import Identity
from chalicelib.protocol.names import check_name
from chalicelib.settings import Settings
from chalicelib.store.tickets import Tickets

# A browser sends its `authenticate` as soon as the socket is open; this allows for a slow network.
LATE_AUTHENTICATION_SECONDS: Final = 10
# The sub-protocol that a client offers beside the token that it hides among the sub-protocols.
SUBPROTOCOL: Final = "peal"
_BEARER: Final = "bearer."


@dataclass(frozen=True)
class Credential:
    """A token to verify, or a ticket to redeem. Never logged."""

    text: str = field(repr=False)
    is_ticket: bool = False


@dataclass(eq=False, repr=False)
class Authentication:
    """Identifies clients by their handshake. `clock` returns epoch seconds."""

    settings: Settings
    tokens: Tokens
    tickets: Tickets
    clock: Callable[[], float]

    def identify(self, event: ConnectEvent) -> Identity:
        """Return the identity of the client that connects. Its ticket, if it shows one, is used up.

        Raises:
            Forbidden: the page's origin is not one of ALLOWED_ORIGINS.
            Unauthenticated: no valid credential.
            Invalid: more than one credential, or userId or deviceId is no name.
            JwksError, SecretError, TableError: keys or tickets cannot be read.
            ConfigurationError: a secret that was looked up is too short.
        """
        self._check_origin(event.headers)
        credential = find_credential(event)
        if credential is None:
            return self._without_credential(event.query)
        prove = self.tickets.redeem if credential.is_ticket else self.tokens.verify
        identity = prove(credential.text)
        return identity if identity.device_id else replace(identity, device_id=_claim(event.query, "deviceId"))

    def _without_credential(self, query: Mapping[str, str]) -> Identity:
        if self.settings.allow_anonymous:
            return Identity(_claim(query, "userId"), _claim(query, "deviceId"))
        if self.settings.allow_late_authentication:
            until = int(self.clock()) + LATE_AUTHENTICATION_SECONDS
            return Identity(None, _claim(query, "deviceId"), until, is_signed_in=False)
        raise Unauthenticated("no credential")

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        # Only browsers send an Origin, and a page cannot forge it. Other clients are not limited by origin.
        allowed, origin = self.settings.allowed_origins, headers.get("origin")
        if allowed and origin is not None and origin not in allowed:
            raise Forbidden


def find_credential(event: ConnectEvent) -> Credential | None:
    """Return the one credential of the handshake, not yet checked, or None.

    Look at `Authorization: Bearer`, `Sec-WebSocket-Protocol: peal, bearer.<token>`, `?token=` and `?ticket=`. Other
    schemes of Authorization are not ours.

    Raises Invalid: there is more than one, or a token among the sub-protocols without `peal` beside it, for which a
    browser would reject the answer.
    """
    scheme, _, token = event.headers.get("authorization", "").strip().partition(" ")
    credentials = [Credential(token.strip())] if scheme.lower() == "bearer" else []
    offered = _offered(event.headers)
    bearers = [Credential(name.removeprefix(_BEARER)) for name in offered if name.startswith(_BEARER)]
    if bearers and SUBPROTOCOL not in offered:
        raise Invalid("Sec-WebSocket-Protocol", f"must offer {SUBPROTOCOL} beside {_BEARER}<token>")
    credentials += bearers
    credentials += [Credential(event.query["token"])] if "token" in event.query else []
    credentials += [Credential(event.query["ticket"], is_ticket=True)] if "ticket" in event.query else []
    if len(credentials) > 1:
        raise Invalid("token", "must be given once, by header, sub-protocol or query, and without a ticket")
    return credentials[0] if credentials else None


def choose_subprotocol(headers: Mapping[str, str]) -> str | None:
    """Return the sub-protocol for the handshake's answer: `peal` if the client offers it. API Gateway chooses none."""
    return SUBPROTOCOL if SUBPROTOCOL in _offered(headers) else None


def _offered(headers: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]


def _claim(query: Mapping[str, str], name: str) -> str | None:
    return check_name(query[name], name) if name in query else None
