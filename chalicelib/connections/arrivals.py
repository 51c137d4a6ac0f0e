"""A connection begins, signs in and sends: its row, its expiry, and how fast it may send.

Invariant: an expired row counts as absent, so a connection whose credential has expired neither sends nor receives.
"""

from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.auth.authentication import Authentication
from chalicelib.errors import Forbidden, NotRegistered, TableError
from chalicelib.protocol.events import ConnectEvent
from chalicelib.protocol.frame import parse_attributes, timestamp
from chalicelib.protocol.identity import Identity
from chalicelib.settings import RateLimit
from chalicelib.store.connection import Connection
from chalicelib.store.endpoint import Endpoint
from chalicelib.store.registry import Registry

MAX_USER_AGENT_CHARS = 256


@dataclass(eq=False, repr=False)
class Arrivals:
    """Registers connections, each for `ttl_seconds` at most, and admits their frames. `clock` returns epoch seconds."""

    registry: Registry
    endpoint: Endpoint
    authentication: Authentication
    ttl_seconds: int
    rate_limit: RateLimit | None
    clock: Callable[[], float]

    def register(self, event: ConnectEvent) -> Connection:
        """Register the connection, as the last step before its handshake is answered.

        Raises:
            Unauthenticated, Forbidden, Invalid, JwksError, SecretError: see `Authentication.identify`.
            Conflict: another connection holds that id; it is untouched.
            TableError: DynamoDB failed; what was written is taken back as far as DynamoDB allows.
        """
        attributes = parse_attributes(event.query.get("attributes") or "{}")
        identity = self.authentication.identify(event)
        context = event.context
        connected_at = (context.connected_at_ms or int(self.clock() * 1000)) / 1000
        connection = Connection(
            connection_id=context.connection_id,
            connected_at=timestamp(connected_at),
            ttl=self._ttl(connected_at, identity),
            endpoint=self.endpoint.learn(event),
            user_id=identity.user_id,
            device_id=identity.device_id,
            source_ip=context.source_ip,
            user_agent=(context.user_agent or "")[:MAX_USER_AGENT_CHARS] or None,
            attributes=attributes,
            expires_at=identity.expires_at,
            grants=identity.grants,
            is_signed_in=identity.is_signed_in,
        )
        try:
            self.registry.put(connection)
        except TableError:
            # The write may have reached the table although its answer did not reach us.
            self.registry.take_back(connection)
            raise
        return connection

    def speak(self, connection: Connection, codec: str) -> Connection:
        """Change the codec that a signed-in connection reads and writes.

        Raises TableError; NotRegistered: it has closed or expired meanwhile.
        """
        changed = connection if connection.codec == codec else self.registry.speak(connection, codec)
        if changed is None:
            raise NotRegistered
        return changed

    def authenticate(self, connection: Connection, token: str, codec: str | None = None) -> Connection:
        """Give the connection the token's user, grants and expiry.

        Args:
            connection: one that has not signed in yet, or belongs to the same user. An anonymous one that is in no
                channel counts as not signed in.
            token: see `Tokens.verify`.
            codec: what it reads and writes from now on; None for no change.

        Raises:
            Unauthenticated, JwksError, SecretError: see `Tokens.verify`; nothing changes.
            Forbidden: the connection belongs to another user.
            NotRegistered: it has closed or expired meanwhile.
        """
        identity = self.authentication.tokens.verify(token)
        is_nobody = connection.user_id is None and not connection.channels
        if connection.user_id != identity.user_id and connection.is_signed_in and not is_nobody:
            raise Forbidden
        ttl = self._ttl(self.clock(), identity)
        renewed = self.registry.renew(connection.connection_id, identity, ttl, codec or connection.codec)
        if renewed is None:
            raise NotRegistered
        return renewed

    def admit(self, connection_id: str, frames: int = 1) -> Connection:
        """Return the connection that sent that many frames, if they may be acted upon.

        Raises NotRegistered: it is not registered (any more), or has expired; RateLimited: it sends too fast.
        """
        if self.rate_limit is None:
            connection = self.registry.get(connection_id)
        else:
            connection = self.registry.spend(connection_id, self.rate_limit, frames)
        if connection is None:
            raise NotRegistered
        return connection

    def seconds_left(self, connection: Connection) -> float | None:
        """Return how long the connection's credential is still valid; None if it does not expire."""
        return None if connection.expires_at is None else connection.expires_at - self.clock()

    def _ttl(self, start: float, identity: Identity) -> int:
        ttl = int(start) + self.ttl_seconds
        return ttl if identity.expires_at is None else min(ttl, identity.expires_at)
