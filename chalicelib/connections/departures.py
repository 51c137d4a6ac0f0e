"""A connection has ended: its row and its memberships go, and those who want to know are told later.

Invariant: only its own rows are touched.
"""

import logging

from chalicelib.aws.queue import Jobs
from chalicelib.errors import ServiceError
from chalicelib.protocol.namespaces import Channel
from chalicelib.store.members import GRACE_SECONDS, Channels
from chalicelib.store.registry import Connection, Registry

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
            TableError: DynamoDB failed; memberships may stand until a send finds them dead, or their ttl. Where members
                are told who leaves, the job that tells them removes it.
        """
        return self._clear(self._registry.forget(connection_id))

    def prune(self, connection_id: str) -> Connection | None:
        """As `forget`, for one that answered 410 twice, unless it may still be connecting."""
        return self._clear(self._registry.prune(connection_id))

    def _clear(self, connection: Connection | None) -> Connection | None:
        if connection is None:
            return None
        try:
            self._channels.remove_all(connection)
        finally:
            for channel in self._channels.telling(connection):
                self._tell_later(channel, connection)
        return connection

    def _tell_later(self, channel: Channel, connection: Connection) -> None:
        job = {
            "job": "leave",
            "channel": channel.name,
            "userId": connection.user_id,
            "connectionId": connection.connection_id,
        }
        try:
            self._jobs.put(job, delay_seconds=GRACE_SECONDS)
        except ServiceError as error:
            log.warning("Nobody in %s will be told that %s left: %s", channel.name, connection.connection_id, error)
            # Else it would stand for as long as the job may take.
            self._channels.remove(channel, connection.connection_id)
