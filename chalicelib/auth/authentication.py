"""Who may connect, and as whom.

Default closed: a client needs a token that one of our keys verifies or a ticket that we issued. ALLOW_ANONYMOUS=true
lets in whoever shows neither and believes the userId it claims; ALLOW_LATE_AUTHENTICATION=true gives it a moment to
send `authenticate`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from chalicelib.auth.credentials import find_credential
from chalicelib.auth.tokens import Tokens
from chalicelib.errors import Forbidden, Invalid, Unauthenticated
from chalicelib.protocol.events import Connect
from chalicelib.protocol.identity import Identity, read_identity, read_time
from chalicelib.protocol.names import check_name
from chalicelib.settings import Settings
from chalicelib.store.tickets import Ticket, Tickets

# A browser sends its `authenticate` as soon as the socket is open; this allows for a slow network.
LATE_AUTHENTICATION_SECONDS: Final = 10


class Authentication:
    """Tells who a client is, from its handshake or from a later `authenticate`."""

    def __init__(self, settings: Settings, tokens: Tokens, tickets: Tickets, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._tokens = tokens
        self._tickets = tickets
        self._clock = clock

    def identify(self, event: Connect) -> Identity:
        """Whose connection this will be. A ticket is used up by it.

        Raises:
            Forbidden: the page it comes from is not one of ALLOWED_ORIGINS.
            Unauthenticated: nobody we know.
            Invalid: more than one credential, or userId or deviceId is no name.
            ServiceError, ConfigurationError: keys or tickets cannot be read.
        """
        self._check_origin(event.headers)
        credential = find_credential(event)
        if credential is None:
            return self._without_credential(event.query)
        if credential.is_ticket:
            identity = self._tickets.redeem(credential.text)
        else:
            identity = self._tokens.verify(credential.text)
        return identity if identity.device_id else replace(identity, device_id=_claim(event.query, "deviceId"))

    def verify(self, token: str) -> Identity:
        """The identity that the token proves; errors as `Tokens.verify`."""
        return self._tokens.verify(token)

    def issue_ticket(self, claims: Mapping[str, Any]) -> Ticket:
        """A ticket for whom the claims say; errors as `Service.issue_ticket`."""
        identity = read_identity(claims, user="userId", expires="expiresAt")
        if identity.expires_at is not None and identity.expires_at <= self._clock():
            raise Invalid("expiresAt", "must be in the future")
        return self._tickets.issue(identity)

    def issue_token(self, claims: Mapping[str, Any]) -> str:
        """A token of these claims; errors as `Service.issue_token`."""
        read_identity(claims, user="sub", expires="exp")
        read_time(claims, "exp")
        return self._tokens.sign(claims)

    def _without_credential(self, query: Mapping[str, str]) -> Identity:
        if self._settings.allow_anonymous:
            return Identity(_claim(query, "userId"), _claim(query, "deviceId"))
        if self._settings.allow_late_authentication:
            until = int(self._clock()) + LATE_AUTHENTICATION_SECONDS
            return Identity(None, _claim(query, "deviceId"), until, is_signed_in=False)
        raise Unauthenticated("no credential")

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        # Only browsers send an Origin, and they cannot be made to lie; whoever is no browser needs no page.
        allowed, origin = self._settings.allowed_origins, headers.get("origin")
        if allowed and origin is not None and origin not in allowed:
            raise Forbidden


def _claim(query: Mapping[str, str], field: str) -> str | None:
    return check_name(query[field], field) if field in query else None
