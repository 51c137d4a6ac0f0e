"""The only place where the parts meet.

    from chalicelib import wiring
    peal = wiring.build(Settings.from_env(os.environ), app.websocket_api)
    peal.send_to_user("u_456", text="hi")

Any Lambda of the project can do that: REST, queue, schedule; no WebSocket event is needed.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from chalicelib.auth.authentication import Authentication
from chalicelib.auth.authorization import Authorization, Hook, no_opinion
from chalicelib.auth.tokens import Tokens
from chalicelib.aws.client import connect
from chalicelib.aws.dynamodb import DynamoDBClient
from chalicelib.aws.management import MAX_CONNECTIONS, WORKERS, ManagementSession, WebsocketApi
from chalicelib.aws.queue import Jobs, SQSClient, SqsQueue
from chalicelib.aws.secrets import Secrets
from chalicelib.aws.session import EnvironmentSession, Session
from chalicelib.channels.admission import Joining
from chalicelib.channels.presence import Attendance
from chalicelib.channels.publish import Publishing
from chalicelib.channels.recovery import Reader
from chalicelib.channels.sequencer import Advance
from chalicelib.channels.subscribe import Subscribing
from chalicelib.connections.arrivals import Arrivals
from chalicelib.connections.broadcast import Broadcasting
from chalicelib.connections.closing import Closing
from chalicelib.connections.departures import Departures
from chalicelib.connections.listing import Roll
from chalicelib.connections.reaper import Reaping
from chalicelib.delivery.delivery import Delivery
from chalicelib.delivery.slices import Slices
from chalicelib.peal import Service
from chalicelib.protocol.namespaces import NAMESPACES, Namespace
from chalicelib.settings import Settings
from chalicelib.store.endpoint import Endpoint
from chalicelib.store.lease import Cursors
from chalicelib.store.log import History
from chalicelib.store.members import Channels
from chalicelib.store.registry import Registry
from chalicelib.store.table import Table
from chalicelib.store.tickets import Tickets

log = logging.getLogger(__name__)

# Three tries of at most 1 s + 3 s: a $connect that waits for the table still answers within API Gateway's 29 s.
_AWS_CONFIG: Mapping[str, Any] = {
    "connect_timeout": 1,
    "read_timeout": 3,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "max_pool_connections": MAX_CONNECTIONS,
}


def build(
    settings: Settings,
    websocket_api: WebsocketApi,
    session: Session | None = None,
    clock: Callable[[], float] = time.time,
    namespaces: Mapping[str, Namespace] = NAMESPACES,
    jobs: Jobs | None = None,
    authorize: Hook = no_opinion,
    sleep: Callable[[float], None] = time.sleep,
) -> Service:
    """A service over the table that the settings name, sending through `websocket_api`.

    Args:
        settings: see `Settings.from_env`.
        websocket_api: `app.websocket_api`; its session is set.
        session: the boto3 session for all clients; default: what the environment says, and boto3 where it must.
        clock: epoch seconds.
        namespaces: what channels there can be.
        authorize: what the app itself says to what connections want to do.
        jobs: takes jobs; default: the SQS queue that the settings name.
        sleep: waits so many seconds.
    """
    if not settings.has_keys and not settings.allow_anonymous:
        log.warning(
            "Nobody can connect without a ticket from POST /tickets: "
            "neither JWT_SECRETS nor JWT_JWKS_URL is set, and ALLOW_ANONYMOUS is not true"
        )
    session = session or EnvironmentSession(os.environ)
    client = connect(DynamoDBClient, session, settings.table_client, _AWS_CONFIG)
    rows = Table(client, settings.connections_table, clock)
    endpoint = Endpoint(rows, settings.management_endpoint, session.region_name)
    websocket_api.session = ManagementSession(session, endpoint.resolve, settings.management_client)
    registry = Registry(rows, clock)
    queue = jobs or SqsQueue(
        lambda: connect(SQSClient, session, settings.table_client, _AWS_CONFIG), settings.jobs_queue
    )
    channels = Channels(rows, namespaces, clock)
    departures = Departures(registry, channels, queue)
    workers = WORKERS[settings.management_client]
    delivery = Delivery(websocket_api, endpoint.resolve, departures.prune, workers, sleep)
    history, cursors = History(rows, clock), Cursors(rows, clock)
    slices = Slices(queue, settings.fanout_size, clock)
    broadcasting = Broadcasting(registry, delivery, slices, clock)
    closing = Closing(delivery, departures)
    attendance = Attendance(registry, channels, delivery)
    joining = Joining(registry, history, channels, delivery, attendance, queue)
    advance = Advance(history, cursors, channels, joining, delivery, queue, clock, sleep)
    tokens = Tokens(settings, Secrets(session, clock), clock)
    tickets = Tickets(rows, settings.ticket_ttl_seconds, clock)
    authentication = Authentication(settings, tokens, tickets, clock)
    return Service(
        registry,
        Roll(registry, clock),
        Arrivals(registry, endpoint, authentication, settings.connection_ttl_seconds, settings.rate_limit, clock),
        delivery,
        departures,
        closing,
        channels,
        broadcasting,
        Reaping(rows, registry, channels, cursors, delivery, closing, departures, queue, clock),
        Publishing(history, cursors, channels, advance, delivery, slices, queue, clock),
        Subscribing(registry, history, cursors, joining, advance, settings.max_channels),
        attendance,
        Reader(history, cursors),
        authentication,
        Authorization(settings.anonymous_grants, authorize),
        clock,
    )
