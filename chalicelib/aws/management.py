"""The client behind `app.websocket_api`: where it points, how long it waits, what it tries again.

Chalice's public seam for this is `app.websocket_api.session`: it asks it for a client once and sends through that.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from botocore.exceptions import NoRegionError

from chalicelib.aws.lean import LeanClient
from chalicelib.aws.session import Session, boto3_client, credentials_of, has_proxy, trust
from chalicelib.settings import ClientKind

log = logging.getLogger(__name__)

# How many POSTs are under way at once. 96 of 10 ms each are 9,600 a second, just below the 10,000 that an account may
# send. boto3 is CPU-bound from 16 threads on, so more of them do not send faster.
WORKERS: Final[dict[ClientKind, int]] = {"lean": 96, "boto3": 16}
# Any client's pool is as wide as there may be workers that use it, else it opens and drops connections.
MAX_CONNECTIONS: Final = max(WORKERS.values())
# One POST waits at most two tries of 1 s + 3 s and a pause of at most 1 s: below the ten seconds we promise.
CONFIG: Mapping[str, Any] = {
    "connect_timeout": 1,
    "read_timeout": 3,
    "retries": {"mode": "standard", "total_max_attempts": 2},
    "max_pool_connections": MAX_CONNECTIONS,
}


class WebsocketApi(Protocol):
    """What Chalice's `app.websocket_api` offers."""

    session: Any

    def configure(self, domain_name: str, stage: str) -> None: ...

    def send(self, connection_id: str, message: str) -> None: ...

    def close(self, connection_id: str) -> None: ...

    def info(self, connection_id: str) -> Any: ...


class ManagementSession:
    """Stands in for the boto3 session that Chalice asks for its client.

    Chalice builds its endpoint from the event and with https; this one answers with a client for the endpoint
    that `resolve` gives, whatever Chalice asked for. Chalice does not lock, so threads that send for the first
    time together all ask: they get one and the same client.

    Args:
        session: whose credentials and Region it is, and who makes boto3's client.
        resolve: gives the management endpoint.
        kind: which client; where a proxy leads to the endpoint, it is boto3's.
    """

    def __init__(self, session: Session, resolve: Callable[[], str], kind: ClientKind) -> None:
        self._session = session
        self._resolve = resolve
        self._kind = kind
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    @property
    def region_name(self) -> Any:
        """The Region that requests are signed for, or None."""
        return self._session.region_name

    def client(self, service_name: str, endpoint_url: str | None = None) -> Any:
        """The one client of `service_name` for the resolved endpoint. `endpoint_url` is Chalice's guess."""
        endpoint = self._resolve()
        with self._lock:
            if endpoint not in self._clients:
                self._clients[endpoint] = self._make(endpoint)
            return self._clients[endpoint]

    def _make(self, endpoint: str) -> Any:
        if self._kind == "lean" and has_proxy(endpoint):
            log.warning("A proxy leads to the connections, so boto3 sends: it needs far more CPU.")
        elif self._kind == "lean":
            if self.region_name is None:
                raise NoRegionError
            tls = trust() if endpoint.startswith("https:") else None
            return LeanClient(endpoint, self.region_name, credentials_of(self._session), tls)
        return boto3_client(self._session, "apigatewaymanagementapi", CONFIG, endpoint_url=endpoint)


def prepare(websocket_api: WebsocketApi, endpoint: str) -> None:
    """`websocket_api` may be sent through, also in a Lambda that no WebSocket event has configured.

    Chalice refuses to send before it was told a domain; which one does not matter behind a ManagementSession.
    """
    url = urlsplit(endpoint)
    websocket_api.configure(url.netloc, url.path.strip("/"))
