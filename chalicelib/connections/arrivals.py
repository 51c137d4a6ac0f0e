"""A connection begins, signs in and sends: its row, until when that counts, and how fast it may send.

Invariant: a row that has expired is not there, so whoever's credential has run out sends and gets nothing more.
"""

from collections.abc import Callable

from chalicelib.auth.authentication import Authentication
from chalicelib.errors import Forbidden, NotRegistered, TableError
from chalicelib.protocol.events import Connect
from chalicelib.protocol.frame import parse_attributes, timestamp
from chalicelib.protocol.identity import Identity
from chalicelib.settings import RateLimit
from chalicelib.store.endpoint import Endpoint
from chalicelib.store.registry import Connection, Registry

MAX_USER_AGENT_CHARS = 256


class Arrivals:
    """Registers connections, each for `ttl_seconds` at most, and admits their frames."""

    def __init__(
        self,
        registry: Registry,
        endpoint: Endpoint,
        authentication: Authentication,
        ttl_seconds: int,
        rate_limit: RateLimit | None,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._endpoint = endpoint
        self._authentication = authentication
        self._ttl_seconds = ttl_seconds
        self._rate_limit = rate_limit
        self._clock = clock

    def register(self, event: Connect) -> Connection:
        """The connection is registered, as the last thing that happens before its handshake is answered.

        Raises:
            Unauthenticated: nobody we know, and anonymous use is off.
            Forbidden: a page of that origin may not connect.
            Invalid: a query parameter or a header is not what it must be.
            Conflict: another connection holds that id; it is untouched.
            TableError: DynamoDB failed; whatever was written is taken back as far as DynamoDB lets us.
            ServiceError, ConfigurationError: the keys that verify tokens cannot be had.
        """
        attributes = parse_attributes(event.query.get("attributes") or "{}")
        identity = self._authentication.identify(event)
        context = event.context
        connected_at = (context.connected_at_ms or int(self._clock() * 1000)) / 1000
        connection = Connection(
            connection_id=context.connection_id,
            connected_at=timestamp(connected_at),
            ttl=self._ttl(connected_at, identity),
            endpoint=self._endpoint.learn(event),
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
            self._registry.put(connection)
        except TableError:
            # The write may have reached the table although its answer did not reach us.
            self._registry.take_back(connection)
            raise
        return connection

    def speak(self, connection: Connection, codec: str) -> Connection:
        """The connection, which has signed in, reads and writes that codec.

        Raises:
            NotRegistered: it has closed or run out meanwhile.
            TableError: DynamoDB failed.
        """
        spoken = connection if connection.codec == codec else self._registry.speak(connection, codec)
        if spoken is None:
            raise NotRegistered
        return spoken

    def authenticate(self, connection: Connection, token: str, codec: str | None = None) -> Connection:
        """The connection is its user's, with the grants and until the end that the token says.

        Args:
            connection: one that has not signed in yet, or is the same user's. Someone anonymous who is in no channel
                has not signed in yet.
            token: see `Tokens.verify`.
            codec: what it reads and writes from now on; None: as before.

        Raises:
            Unauthenticated: the token proves nothing; all stays as it was.
            Forbidden: it is another user's.
            NotRegistered: the connection has closed or run out meanwhile.
            ServiceError, ConfigurationError: the table or the keys cannot be read.
        """
        identity = self._authentication.verify(token)
        is_nobody = connection.user_id is None and not connection.channels
        if connection.user_id != identity.user_id and connection.is_signed_in and not is_nobody:
            raise Forbidden
        ttl = self._ttl(self._clock(), identity)
        renewed = self._registry.renew(connection.connection_id, identity, ttl, codec or connection.codec)
        if renewed is None:
            raise NotRegistered
        return renewed

    def admit(self, connection_id: str, frames: int = 1) -> Connection:
        """The connection that sent so many frames, which may be acted upon.

        Raises:
            NotRegistered: it is not registered (any more), or its time has run out.
            RateLimited: it sends faster than it may.
            TableError: DynamoDB failed.
        """
        if self._rate_limit is None:
            connection = self._registry.get(connection_id)
        else:
            connection = self._registry.spend(connection_id, self._rate_limit, frames)
        if connection is None:
            raise NotRegistered
        return connection

    def _ttl(self, start: float, identity: Identity) -> int:
        ttl = int(start) + self._ttl_seconds
        return ttl if identity.expires_at is None else min(ttl, identity.expires_at)
