"""The only place where the parts meet.

    from chalicelib import wiring
    peal = wiring.build(Settings.from_env(os.environ), app.websocket_api)
    peal.send_to_user("u_456", text="hi")

Any Lambda of the project can do that: REST, queue, schedule; no WebSocket event is needed.
"""

import logging
import time
from collections.abc import Callable

import boto3
from botocore.config import Config

from chalicelib.delivery import Delivery
from chalicelib.endpoint import Endpoint
from chalicelib.management import MAX_CONNECTIONS, ManagementSession, WebsocketApi
from chalicelib.registry import Registry
from chalicelib.service import Service
from chalicelib.settings import Settings
from chalicelib.table import Table

log = logging.getLogger(__name__)

# Three tries of at most 1 s + 3 s: a $connect that waits for the table still answers within API Gateway's 29 s.
_TABLE_CONFIG = Config(
    connect_timeout=1,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=MAX_CONNECTIONS,
)


def build(
    settings: Settings,
    websocket_api: WebsocketApi,
    session: boto3.session.Session | None = None,
    clock: Callable[[], float] = time.time,
) -> Service:
    """A service over the table that the settings name, sending through `websocket_api`.

    Args:
        settings: see `Settings.from_env`.
        websocket_api: `app.websocket_api`; its session is set.
        session: the boto3 session for all clients; default: a new one.
        clock: epoch seconds.
    """
    if not settings.allow_anonymous:
        log.warning("Nobody can connect: there is no way to sign in yet, and ALLOW_ANONYMOUS is not true")
    session = session or boto3.session.Session()
    rows = Table(session.client("dynamodb", config=_TABLE_CONFIG), settings.connections_table, clock)
    endpoint = Endpoint(rows, settings.management_endpoint, session.region_name)
    websocket_api.session = ManagementSession(session, endpoint.resolve)
    registry = Registry(rows, clock)
    delivery = Delivery(websocket_api, endpoint.resolve, registry.prune)
    return Service(settings, registry, endpoint, delivery, clock)
