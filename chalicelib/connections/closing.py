"""A connection's end: the server closes it, or forgets one that has ended.

API Gateway lets us choose neither close code nor reason, so a `goodbye` frame says it before.

Invariant: only its own rows are touched.
"""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.queue import Jobs
from chalicelib.delivery.delivery import Delivery
from chalicelib.errors import ServiceError
from chalicelib.limits import LIMITS, Limits
from chalicelib.protocol.codec import Receiver, codec_of
from chalicelib.protocol.jobs import Leave, dump_job
from chalicelib.store.connection import Connection
from chalicelib.store.members import Members
from chalicelib.store.registry import Registry

# The codes of docs/PROTOCOL.md, "What closes a connection"; RUN_OUT with its reason.
CLOSED: Final = "closed"
RUN_OUT: Final = ("unauthenticated", "Not signed in any more: connect again.")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Closed:
    """How many connections were closed, and how many could not be."""

    closed: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return `{"closed": 1, "failed": 0}`."""
        return asdict(self)


@dataclass(eq=False, repr=False)
class Departures:
    """Removes the rows of connections that have ended, and puts the jobs that announce it in their channels."""

    registry: Registry
    members: Members
    queue: Jobs
    limits: Limits = LIMITS

    def forget(self, connection_id: str) -> Connection | None:
        """Delete the connection's row and memberships; return the connection if it was registered.

        After a TableError, memberships may remain until a send finds them dead, or until their ttl. In channels
        that announce who leaves, the job that does so removes the membership.
        """
        return self._clear(self.registry.forget(connection_id))

    def prune(self, connection_id: str) -> Connection | None:
        """Forget a connection that answered 410 twice, unless it may still be connecting.

        Returns the connection, if it was forgotten.
        """
        return self._clear(self.registry.prune(connection_id))

    def _clear(self, connection: Connection | None) -> Connection | None:
        if connection is None:
            return None
        try:
            self.members.remove_all(connection)
        finally:
            for channel in self.members.telling(connection):
                job = Leave(channel.name, str(connection.user_id), connection.connection_id)
                try:
                    self.queue.put(dump_job(job), delay_seconds=self.limits.grace_seconds)
                except ServiceError as error:
                    log.warning("Nobody in %s will be told that %s left: %s", job.channel, job.connection_id, error)
                    # Otherwise it would remain for as long as the job may take.
                    self.members.remove(channel, connection.connection_id)
        return connection


@dataclass(eq=False, repr=False)
class Closing:
    """Closes connections."""

    delivery: Delivery
    departures: Departures

    def close(self, receiver: Receiver, code: str, reason: str | None) -> None:
        """Send `goodbye` to the connection, close it and forget it; one that has ended already is forgotten.

        Raises ConfigurationError; ServiceError: API Gateway or DynamoDB failed; it stays registered.
        """
        self.delivery.reply(receiver, codec_of(receiver).goodbye(code, reason))
        self.close_silently(receiver.connection_id)

    def close_silently(self, connection_id: str) -> None:
        """Close the connection without a `goodbye` and forget it; its client may reconnect.

        Raises ConfigurationError; ServiceError: API Gateway or DynamoDB failed; it stays registered.
        """
        try:
            self.delivery.close(connection_id)
        except (ClientError, BotoCoreError) as error:
            raise ServiceError(f"Closing {connection_id} failed: {type(error).__name__}") from error
        self.departures.forget(connection_id)

    def close_all(self, receivers: Iterable[Receiver], code: str, reason: str | None) -> Closed:
        """Close each of them, even if another cannot be closed."""
        closed, failed = 0, 0
        for receiver in receivers:
            try:
                self.close(receiver, code, reason)
                closed += 1
            except ServiceError as error:
                log.warning("%s", error)
                failed += 1
        return Closed(closed, failed)
