"""A connection has ended: its row and its memberships go, and those who want to know are told later.

Invariant: only its own rows are touched.
"""

import logging

from chalicelib.channels import GRACE_SECONDS, Channels
from chalicelib.errors import ServiceError
from chalicelib.jobs import Jobs
from chalicelib.registry import Connection, Registry

log = logging.getLogger(__name__)


class Departures:
    """Forgets connections."""

    def __init__(self, registry: Registry, channels: Channels, jobs: Jobs) -> None:
        self._registry = registry
        self._channels = channels
        self._jobs = jobs

    def forget(self, connection_id: str) -> Connection | None:
        """The connection is neither registered nor a member of anything; returns what it was.

        Raises:
            TableError: DynamoDB failed; memberships may stand until a send finds them dead, or their ttl.
        """
        return self._clear(self._registry.forget(connection_id))

    def prune(self, connection_id: str) -> Connection | None:
        """As `forget`, for one that answered 410 twice, unless it may still be connecting."""
        return self._clear(self._registry.prune(connection_id))

    def _clear(self, connection: Connection | None) -> Connection | None:
        if connection is None:
            return None
        for channel in self._channels.remove_all(connection):
            job = {
                "job": "leave",
                "channel": channel.name,
                "userId": connection.user_id,
                "connectionId": connection.connection_id,
            }
            try:
                self._jobs.put(job, delay_seconds=GRACE_SECONDS)
            except ServiceError as error:
                # The row that says so goes by its ttl; only the push is lost.
                log.warning("Nobody in %s will be told that %s left: %s", channel.name, connection.connection_id, error)
        return connection
