"""What is behind `app.websocket_api`: a client of @connections that does what boto3's does, for a tenth of its CPU.

Chalice's public seam is `app.websocket_api.session`: it asks that for a client once, and sends through the client.

Invariants: the client returns and raises what boto3's does. A call takes less than ten seconds, its retries included.
It retries what is answered 429 or 5xx, and at once what was sent over a kept connection that had died.

Why not boto3, with figures: docs/decisions/management-client.md.
"""

import json
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

from botocore import exceptions

from chalicelib.aws.client import Failure, Read, SignedClient, Verdict
from chalicelib.aws.errors import response_metadata
from chalicelib.aws.http import Limits
from chalicelib.aws.http1 import Response
from chalicelib.aws.session import Session, boto3_client, credentials_of, has_proxy
from chalicelib.aws.sigv4 import Second, signed_request
from chalicelib.settings import ClientKind

# How many POSTs are under way at once. 96 of 10 ms each are 9,600 a second, just below the 10,000 that an account may
# send. boto3 is CPU-bound from 16 threads on, so more of them do not send faster.
WORKERS: Final[dict[ClientKind, int]] = {"lean": 96, "boto3": 16}
_UNRESERVED: Final = "-._~"
# `quote` for ASCII, four times as fast.
_QUOTED: Final = {code: quote(chr(code), safe=_UNRESERVED) for code in range(128)}

log = logging.getLogger(__name__)


class ManagementClient(SignedClient):
    """Sends to, closes and looks up the connections of one endpoint, the URL of an API's stage.

    Each call raises GoneException where there is no such connection any more.
    """

    service = "execute-api"
    limits = Limits(tries=5, first_pause_seconds=0.1, begin_seconds=1)

    def post_to_connection(self, *, ConnectionId: str, Data: str | bytes) -> dict[str, Any]:
        """Send the data to the connection as one frame.

        Returns the status and nothing else of what boto3 returns: Chalice drops the rest, and reading it takes time.
        """
        return self._ask("PostToConnection", "POST", ConnectionId, _status, Data)

    def delete_connection(self, *, ConnectionId: str) -> dict[str, Any]:
        """Close the connection."""
        return self._ask("DeleteConnection", "DELETE", ConnectionId, _metadata)

    def get_connection(self, *, ConnectionId: str) -> dict[str, Any]:
        """Return what API Gateway knows about the connection: ConnectedAt, LastActiveAt, Identity."""
        return self._ask("GetConnection", "GET", ConnectionId, _connection)

    def judge(self, response: Response | None, failure: Failure) -> Verdict:
        """Retry what is answered 429 or 5xx; not what was not answered, which may have been delivered."""
        if response is None:
            return "final"
        if response.status == 403:
            return "skewed"
        return "retry" if response.status == 429 or response.status >= 500 else "final"

    def _ask(
        self, operation: str, method: str, connection_id: str, read: Read, data: str | bytes = b""
    ) -> dict[str, Any]:
        def send(now: Second) -> Response:
            return self._exchange.send(connection_request(now, method, self._exchange.path, connection_id, data))

        return self._try(operation, send, read)


class WebsocketApi(Protocol):
    """What Chalice's `app.websocket_api` offers."""

    session: Any

    def configure(self, domain_name: str, stage: str) -> None: ...
    def send(self, connection_id: str, message: str) -> None: ...
    def close(self, connection_id: str) -> None: ...
    def info(self, connection_id: str) -> Any: ...


class ManagementSession:
    """Takes the place of the boto3 session that Chalice asks for its client.

    Chalice builds its endpoint from the event and with https. This session returns a client for the endpoint that
    `resolve` returns: of `kind`, or boto3's where a proxy leads to it. Chalice does not lock, so threads that send for
    the first time together all ask; they get the same client.
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
        """Return the one client for the resolved endpoint; what Chalice names does not count."""
        endpoint = self._resolve()
        with self._lock:
            if endpoint not in self._clients:
                self._clients[endpoint] = self._make(endpoint)
            return self._clients[endpoint]

    def _make(self, endpoint: str) -> Any:
        if self._kind == "lean" and not has_proxy(endpoint):
            if self.region_name is None:
                raise exceptions.NoRegionError
            return ManagementClient(endpoint, self.region_name, credentials_of(self._session))
        if self._kind == "lean":
            log.warning("A proxy leads to the connections, so boto3 sends: it needs far more CPU.")
        # Two tries of 1 s + 3 s and a pause of 1 s are less than the ten seconds that we promise.
        return boto3_client(self._session, "apigatewaymanagementapi", tries=2, endpoint_url=endpoint)


def prepare(websocket_api: WebsocketApi, endpoint: str) -> None:
    """Let `websocket_api` send, also in a Lambda that no WebSocket event has configured.

    Chalice refuses to send before it knows a domain; behind a ManagementSession it does not matter which.
    """
    url = urlsplit(endpoint)
    websocket_api.configure(url.netloc, url.path.strip("/"))


def connection_request(now: Second, method: str, stage_path: str, connection_id: str, data: str | bytes) -> bytes:
    """Return the bytes of a request to @connections, signed in that second."""
    quoted = connection_id.translate(_QUOTED) if connection_id.isascii() else quote(connection_id, safe=_UNRESERVED)
    path, canonical_path = _paths(stage_path)
    return signed_request(now, method, path + quoted, canonical_path + quoted.replace("%", "%25"), *_encoded(data))


@lru_cache(maxsize=1)
def _paths(stage_path: str) -> tuple[str, str]:
    """Return what paths begin with, up to the connection's id, and the same percent-encoded once more."""
    path = f"{stage_path}/@connections/"
    return path, quote(path, safe="/~")


# A fan-out sends one text to many, in threads that are at most a few frames apart.
@lru_cache(maxsize=16)
def _encoded(data: str | bytes) -> tuple[bytes, str]:
    body = data.encode() if isinstance(data, str) else data
    return body, sha256(body).hexdigest()


def _status(response: Response) -> dict[str, Any]:
    return {"ResponseMetadata": {"HTTPStatusCode": response.status}}


def _metadata(response: Response) -> dict[str, Any]:
    return {"ResponseMetadata": response_metadata(response)}


def _connection(response: Response) -> dict[str, Any]:
    try:
        body = json.loads(response.body)
        found = {
            "ConnectedAt": datetime.fromisoformat(body["connectedAt"]),
            "LastActiveAt": datetime.fromisoformat(body["lastActiveAt"]),
            "Identity": {"SourceIp": body["identity"]["sourceIp"], "UserAgent": body["identity"]["userAgent"]},
        }
    except (ValueError, TypeError, KeyError) as error:
        raise exceptions.HTTPClientError(error=error) from error
    return found | _metadata(response)
