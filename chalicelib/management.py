"""The client behind `app.websocket_api`: where it points, how long it waits, what it tries again.

Chalice's public seam for this is `app.websocket_api.session`: it asks it for a client once and sends through that.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

# boto3 is CPU-bound from 16 threads on, so neither more threads nor more connections send faster.
MAX_CONNECTIONS = 16
# One POST waits at most two tries of 1 s + 3 s and a pause of at most 1 s: below the ten seconds we promise.
CONFIG = Config(
    connect_timeout=1,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=MAX_CONNECTIONS,
)


class WebsocketApi(Protocol):
    """What Chalice's `app.websocket_api` offers."""

    session: Any

    def configure(self, domain_name: str, stage: str) -> None: ...

    def send(self, connection_id: str, message: str) -> None: ...

    def close(self, connection_id: str) -> None: ...


class ManagementSession:
    """Stands in for the boto3 session that Chalice asks for its client.

    Chalice builds its endpoint from the event and with https; this one answers with a client for the endpoint
    that `resolve` gives, whatever Chalice asked for. Chalice does not lock, so threads that send for the first
    time together all ask: they get one and the same client.
    """

    def __init__(self, session: boto3.session.Session, resolve: Callable[[], str]) -> None:
        self._session = session
        self._resolve = resolve
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    @property
    def region_name(self) -> str:
        """The Region that requests are signed for."""
        return self._session.region_name

    def client(self, service_name: str, endpoint_url: str | None = None) -> Any:
        """The one client of `service_name` for the resolved endpoint. `endpoint_url` is Chalice's guess."""
        endpoint = self._resolve()
        with self._lock:
            if endpoint not in self._clients:
                self._clients[endpoint] = self._session.client(
                    "apigatewaymanagementapi", endpoint_url=endpoint, config=CONFIG
                )
            return self._clients[endpoint]


def prepare(websocket_api: WebsocketApi, endpoint: str) -> None:
    """`websocket_api` may be sent through, also in a Lambda that no WebSocket event has configured.

    Chalice refuses to send before it was told a domain; which one does not matter behind a ManagementSession.
    """
    url = urlsplit(endpoint)
    websocket_api.configure(url.netloc, url.path.strip("/"))
