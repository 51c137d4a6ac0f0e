"""A local gateway with what tests need: connect, settle, advance, call."""

import json
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack, closing
from functools import cached_property
from http.client import HTTPConnection
from types import ModuleType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import boto3
from botocore.config import Config
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from localgateway.api.api import Api
from localgateway.faults import Faults
from localgateway.gateway import LocalGateway
from localgateway.runtime.invocations import Invocation
from localgateway.testing.client import SECONDS, Client, dial
from localgateway.testing.events import to_text

T = TypeVar("T")


class Answer(NamedTuple):
    """The answer of a REST route; `body` is parsed if it is JSON, else text."""

    status: int
    body: Any


class Gateway:
    """Runs one project, its functions in threads of this process, from start() to stop() or in a `with` block.

    Attributes:
        parameters: the names of the query parameters for `connect`'s `user` and `device`.
    """

    def __init__(self, project_dir: Any = ".", *, parameters: tuple[str, str] = ("userId", "deviceId"), **options: Any):
        """Prepare a gateway; the options are LocalGateway's. Schedules do not run by themselves by default."""
        self.parameters = parameters
        self._local = LocalGateway(project_dir, **{"schedules": False} | options)
        self._sockets: list[ClientConnection] = []
        self._opened = ExitStack()

    # Where everything is.

    @property
    def url(self) -> str:
        """Where WebSocket clients connect."""
        return self._local.url

    @property
    def rest_url(self) -> str | None:
        """Where the REST routes are, None if the project has none."""
        return self._local.rest_url

    @property
    def management_endpoint(self) -> str:
        """Where a boto3 apigatewaymanagementapi client sends to."""
        return self._local.management_endpoint

    @property
    def environment(self) -> Mapping[str, str]:
        """What another process must have in its environment to work beside this one."""
        return self._local.environment

    @property
    def app(self) -> ModuleType:
        """The project's app.py, as imported for the handlers."""
        return sys.modules["app"]

    @property
    def faults(self) -> Faults:
        """The faults to inject; see `faults`."""
        return self._local.faults

    # What goes in.

    def connect(
        self,
        user: str | None = None,
        *,
        device: str | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: tuple[str, ...] | list[str] = (),
        **options: Any,
    ) -> Client:
        """Open a WebSocket; it is closed when the gateway is reset.

        Args:
            user: like `device`, written into the query under the names in `parameters`.
            query: the rest of the query; a list repeats its name.
            options: those of websockets.sync.client.connect.

        Raises:
            Refused: if the handshake is refused.
        """
        claimed = dict(zip(self.parameters, (user, device), strict=True))
        asked = {name: value for name, value in claimed.items() if value is not None} | dict(query or {})
        url = f"{self.url}?{urlencode(asked, doseq=True)}" if asked else self.url
        socket = dial(self._opened, url, headers=headers, subprotocols=subprotocols, **options)
        return self.adopt(socket, user or "the client")

    def adopt(self, socket: ClientConnection, name: str, read: Callable[[str], Any] | None = None) -> Client:
        """Return a client for an open socket, which `settle` includes from now on."""
        self._sockets.append(socket)
        address = socket.socket.getsockname()[:2]

        async def find(api: Api) -> str | None:
            found = (key for key, connection in api.connections.items() if connection.client_address == address)
            return next(found, None)

        return Client(socket, name=name, connection_id=self._ask(find), settle=self.settle, read=read)

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request to the REST routes; a body that is not text is sent as JSON."""
        if self.rest_url is None:
            raise LookupError("The project has no REST routes.")
        address = urlsplit(self.rest_url)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=SECONDS)
        text = None if body is None else to_text(body).encode()
        with closing(connection):
            connection.request(method, path, text, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            said = response.read().decode()
        try:
            return Answer(response.status, json.loads(said) if said else None)
        except ValueError:
            return Answer(response.status, said)

    def management(self) -> Any:
        """Return a boto3 client of @connections, as another process would make it, without retries."""
        config = Config(retries={"total_max_attempts": 1}, read_timeout=SECONDS)
        client = self._session.client("apigatewaymanagementapi", endpoint_url=self.management_endpoint, config=config)
        return self._opened.enter_context(closing(client))

    def cut(self, connection_id: str) -> None:
        """Fail the network between a client and the gateway: no close frame, and $disconnect runs now."""

        async def cut(api: Api) -> None:
            api.connections[connection_id].cut()

        self._ask(cut)

    def advance(self, seconds: float) -> None:
        """Move time forward at once: sockets that have been idle or open too long are closed.

        Everything sent before is handled first, and every $disconnect has run when this returns.
        """
        self.settle()

        async def advance(api: Api) -> None:
            api.advance(seconds)

        self._ask(advance)
        self.settle()

    # What comes of it.

    @property
    def invocations(self) -> list[Invocation]:
        """The invocations since the last reset, in the order in which they ended. Waits for running ones."""

        async def read(api: Api) -> list[Invocation]:
            return list(api.invocations.ended)

        self.settle()
        return self._ask(read)

    def settle(self) -> None:
        """Wait until everything that clients sent is handled, and everything sent to them has arrived.

        A pong arrives after all frames that were sent before it. So once every client has one, the gateway has all that
        they sent; then the gateway waits until no function runs; then a second pong follows all that those functions
        sent. Nothing waits for a fixed time, nor for what the gateway does not see: threads that outlive their handler,
        messages in a queue, other processes.
        """
        self._exchange_pings()
        try:
            self._ask(Api.quiet)
        except TimeoutError:
            raise AssertionError(f"Functions were still at work after {SECONDS} s.") from None
        self._exchange_pings()

    def reset(self) -> None:
        """Start afresh: no sockets, empty tables and queues, no faults, the right time. The app's own memory stays."""
        self._local.reset()
        self._sockets.clear()
        self._opened.close()

    # From start to stop.

    def start(self) -> Self:
        """Start everything; when this returns, clients may connect.

        Raises:
            GatewayError: if something is missing or broken.
        """
        self._local.start()
        return self

    def stop(self) -> None:
        """Close everything."""
        self._local.stop()
        self._opened.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    @cached_property
    def _session(self) -> boto3.session.Session:
        # A client made from a session of its own takes ten times as long.
        return boto3.session.Session()

    def _ask(self, question: Callable[[Api], Coroutine[Any, Any, T]]) -> T:
        return self._local.ask(question, SECONDS)

    def _exchange_pings(self) -> None:
        pongs = []
        for socket in list(self._sockets):
            try:
                pongs.append(socket.ping(ack_on_close=True))
            except ConnectionClosed:
                self._sockets.remove(socket)
        if not all([pong.wait(SECONDS) for pong in pongs]):
            raise AssertionError(f"A client had no answer to its ping within {SECONDS} s.")
