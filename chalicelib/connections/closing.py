"""The server closes connections: each is told why, closed and forgotten.

API Gateway can choose neither close code nor reason, so a `goodbye` frame says it before.
"""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.connections.departures import Departures
from chalicelib.delivery.delivery import Delivery
from chalicelib.errors import ServiceError
from chalicelib.protocol.codec import Receiver

# The codes of docs/PROTOCOL.md, "What closes a connection"; RUN_OUT has its reason with it.
CLOSED: Final = "closed"
RUN_OUT: Final = ("unauthenticated", "Not signed in any more: connect again.")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Closed:
    """How many connections were closed, or could not be; together they are those that were meant."""

    closed: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        """`{"closed": 1, "failed": 0}`"""
        return asdict(self)


class Closing:
    """Closes connections."""

    def __init__(self, delivery: Delivery, departures: Departures) -> None:
        self._delivery = delivery
        self._departures = departures

    def close(self, receiver: Receiver, code: str, reason: str | None) -> None:
        """The connection is told `goodbye`, closed and forgotten; one that is gone already is forgotten.

        Raises:
            ServiceError: API Gateway or DynamoDB failed; it stays registered.
            ConfigurationError: nobody knows the management endpoint.
        """
        self._delivery.send([receiver], lambda codec: codec.goodbye(code, reason))
        self.cut(receiver.connection_id)

    def cut(self, connection_id: str) -> None:
        """The connection is closed without a word and forgotten; it comes back if it wants. Errors as `close`."""
        try:
            self._delivery.close(connection_id)
        except (ClientError, BotoCoreError) as error:
            raise ServiceError(f"Closing {connection_id} failed: {type(error).__name__}") from error
        self._departures.forget(connection_id)

    def close_all(self, receivers: Iterable[Receiver], code: str, reason: str | None) -> Closed:
        """Each of them is closed as `close` does, also where another cannot be. Raises ConfigurationError, TableError.

        TableError: they could not be read.
        """
        closed, failed = 0, 0
        for receiver in receivers:
            try:
                self.close(receiver, code, reason)
                closed += 1
            except ServiceError as error:
                log.warning("%s", error)
                failed += 1
        return Closed(closed, failed)
