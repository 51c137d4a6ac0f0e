"""What Peal can do, as verbs: the same ones for the WebSocket doors, the REST doors and any other Lambda.

Knows nothing of frames' text, HTTP or events' raw shape.
"""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib import protocol
from chalicelib.auth import identify
from chalicelib.delivery import Delivery, Outcome
from chalicelib.endpoint import Endpoint
from chalicelib.errors import NotFound, ServiceError, TableError
from chalicelib.events import Connect
from chalicelib.registry import Connection, Registry
from chalicelib.settings import Settings

MAX_USER_AGENT_CHARS = 256


class Service:
    """One API's connections. Built by `wiring.build`; safe to share between threads."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        endpoint: Endpoint,
        delivery: Delivery,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._endpoint = endpoint
        self._delivery = delivery
        self._clock = clock

    def register(self, event: Connect) -> Connection:
        """The connection is registered, as the last thing that happens before its handshake is answered.

        Raises:
            Unauthenticated: nobody we know, and anonymous use is off.
            Invalid: a query parameter is not what it must be.
            Conflict: another connection holds that id; it is untouched.
            TableError: DynamoDB failed; whatever was written is taken back as far as DynamoDB lets us.
        """
        identity = identify(event.query, self._settings)
        attributes = protocol.parse_attributes(event.query.get("attributes") or "{}")
        context = event.context
        connected_at = (context.connected_at_ms or int(self._clock() * 1000)) / 1000
        connection = Connection(
            connection_id=context.connection_id,
            connected_at=protocol.timestamp(connected_at),
            ttl=int(connected_at) + self._settings.connection_ttl_seconds,
            endpoint=self._endpoint.learn(event),
            user_id=identity.user_id,
            device_id=identity.device_id,
            source_ip=context.source_ip,
            user_agent=(context.user_agent or "")[:MAX_USER_AGENT_CHARS] or None,
            attributes=attributes,
        )
        try:
            self._registry.put(connection)
        except TableError:
            # The write may have reached the table although its answer did not reach us.
            self._registry.take_back(connection)
            raise
        return connection

    def forget(self, connection_id: str) -> bool:
        """The connection is not registered any more; returns whether it was. Raises TableError."""
        return self._registry.forget(connection_id) is not None

    def connection(self, connection_id: str) -> Connection:
        """The registered connection. Raises NotFound, TableError."""
        connection = self._registry.get(connection_id)
        if connection is None:
            raise NotFound
        return connection

    def send_to_connection(
        self, connection_id: str, text: str | None = None, data: Any = None, sender: Connection | None = None
    ) -> Outcome:
        """The connection was sent a `message` frame. One that is not registered counts as gone.

        Args:
            connection_id: the receiver.
            text, data: what to say; data is any JSON.
            sender: who says it; None is the server itself.

        Returns:
            Counts that add up to one.

        Raises:
            ConfigurationError: nobody knows the management endpoint.
            TableError: DynamoDB failed.
        """
        if self._registry.get(connection_id) is None:
            return Outcome(gone=1)
        return self._delivery.send([connection_id], self._message(sender, text, data))

    def send_to_user(
        self, user_id: str, text: str | None = None, data: Any = None, sender: Connection | None = None
    ) -> Outcome:
        """Each of the user's connections was sent a `message` frame; arguments and errors as `send_to_connection`.

        Returns:
            Counts that add up to the user's connections; all zero for someone who is not here.
        """
        return self._delivery.send(self._registry.by_user(user_id), self._message(sender, text, data))

    def broadcast(self, note: str | None = None, data: Any = None) -> Outcome:
        """Every connection was sent a `broadcast` frame; errors as `send_to_connection`.

        Returns:
            Counts that add up to everyone who is here.
        """
        frame = protocol.broadcast(note, data, self._clock())
        return self._delivery.send(self._registry.everyone(), frame)

    def send_frame(self, connection_id: str, frame: dict[str, Any]) -> Outcome:
        """The connection was sent that frame as it is: a reply or an error. Errors as `send_to_connection`."""
        return self._delivery.send([connection_id], frame)

    def close(self, connection_id: str) -> None:
        """The connection is closed and forgotten.

        Raises:
            NotFound: it is not registered.
            ServiceError: API Gateway or DynamoDB failed; it stays registered.
            ConfigurationError: nobody knows the management endpoint.
        """
        self.connection(connection_id)
        try:
            self._delivery.close(connection_id)
        except (ClientError, BotoCoreError) as error:
            raise ServiceError(f"Closing {connection_id} failed: {type(error).__name__}") from error
        self._registry.forget(connection_id)

    def _message(self, sender: Connection | None, text: str | None, data: Any) -> dict[str, Any]:
        origin = {"userId": sender.user_id, "connectionId": sender.connection_id} if sender else None
        return protocol.message(origin, text, data, self._clock())
