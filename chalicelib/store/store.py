"""The store: the parts of this room over one table."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from chalicelib.protocol.namespaces import Namespace
from chalicelib.settings import Settings
from chalicelib.store.endpoint import Endpoint
from chalicelib.store.lease import Leases
from chalicelib.store.log import Log
from chalicelib.store.members import Members
from chalicelib.store.registry import Registry
from chalicelib.store.table import Table
from chalicelib.store.tickets import Tickets


class Store(NamedTuple):
    """Everything that is stored."""

    registry: Registry
    members: Members
    log: Log
    leases: Leases
    tickets: Tickets
    endpoint: Endpoint


def open_store(
    client: Any, settings: Settings, region: str | None, namespaces: Mapping[str, Namespace], clock: Callable[[], float]
) -> Store:
    """Return the store in the table that the settings name, through a DynamoDB `client`, boto3's or ours."""
    rows = Table(client, settings.connections_table, clock)
    return Store(
        Registry(rows, clock),
        Members(rows, namespaces, clock),
        Log(rows, clock),
        Leases(rows, clock),
        Tickets(rows, settings.ticket_ttl_seconds, clock),
        Endpoint(rows, settings.management_endpoint, region),
    )
