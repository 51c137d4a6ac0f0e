"""Serves the WebSocket API of one project: an event loop in a thread of its own, and threads for the handlers."""

import asyncio
import errno
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from weakref import WeakSet

from localgateway.api.api import Api
from localgateway.api.routing import Additions, route
from localgateway.aws.tables import Tables
from localgateway.console import page
from localgateway.console.admin import Admin
from localgateway.contract.events import Event
from localgateway.contract.invoke import Invoker, Result
from localgateway.contract.project import Function, Project, to_api_id
from localgateway.errors import AddressInUse, GatewayError
from localgateway.faults import Faults
from localgateway.front.http_connection import HttpSide
from localgateway.front.lobby import Lobby
from localgateway.limits import Limits
from localgateway.runtime.invocations import Invocations
from localgateway.runtime.triggers import Sources
from localgateway.wire.admission import Admission, is_loopback

T = TypeVar("T")

# Addresses that mean every interface: they can be listened on, not called.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class WebSocketServer:
    """The WebSocket API of a project on a listening socket, which it takes over."""

    def __init__(
        self,
        project: Project,
        invoker: Invoker,
        listening: socket.socket,
        limits: Limits,
        *,
        tls: ssl.SSLContext | None = None,
        allowed_hosts: frozenset[str] = frozenset(),
        faults: Faults | None = None,
        additions: Additions | None = None,
        tables: Tables | None = None,
    ) -> None:
        self._additions = additions or Additions()
        self._routing = route(project, self._additions)
        self._project = project
        self._faults = faults or Faults()
        self._tables = tables or Tables()
        self._invoker = Invocations(invoker, self._faults)
        self._listening = listening
        self._limits = limits
        self._transports: WeakSet[asyncio.Transport] = WeakSet()
        self._is_serving = threading.Event()
        self._thread = Thread(target=lambda: asyncio.run(self._serve()), name="localgateway", daemon=True)
        host, port = listening.getsockname()[:2]
        self._address = to_address(host, port)
        self._tls = tls
        self._admission = Admission(host, allowed_hosts)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"{'wss' if self._tls else 'ws'}://{self._address}/{self._project.api_stage}"

    @property
    def management_endpoint(self) -> str:
        """The endpoint_url of an SDK's apigatewaymanagementapi client."""
        return f"{'https' if self._tls else 'http'}://{self._address}/{self._project.api_stage}"

    @property
    def console_url(self) -> str | None:
        """Where the console is, None if this machine's loopback names do not lead here."""
        host = self._address.rpartition(":")[0].strip("[]")
        return f"{'https' if self._tls else 'http'}://{self._address}{page.PATH}" if is_loopback(host) else None

    def start(self) -> None:
        """Serve; clients may connect when this returns."""
        self._thread.start()
        self._is_serving.wait()

    def soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Schedule a call on the event loop, from any thread."""
        self._loop.call_soon_threadsafe(callback, *arguments)

    def deploy(self, project: Project) -> None:
        """Serve another version of the project; sockets stay open.

        Raises:
            ProjectError: if it lacks a function that an addition to its API names.
        """
        routing = route(project, self._additions)

        def deploy() -> None:
            self._project = project
            self._api.deploy(routing)
            self._sources.deploy(project)

        self.soon(deploy)

    def find(self, name: str) -> Function | None:
        """Return the function with that Chalice name, AWS name or ARN; never the one behind the REST API."""
        name = name.rpartition(":")[2]
        functions = (one for one in self._project.functions.values() if one != self._project.rest)
        return next((one for one in functions if name in (one.name, one.deployed_name)), None)

    def begin(self, function: Function, event: Event) -> None:
        """Start a function without waiting for it, from any thread."""
        asyncio.run_coroutine_threadsafe(self._invoker.invoke(function, event), self._loop)

    def invoke(self, function: Function, event: Event, timeout_seconds: float | None = None) -> Result:
        """Run a function and wait for it, from any thread but the event loop's.

        Raises:
            TimeoutError: if the time passes first; the function continues.
        """

        async def invoke() -> Result:
            return await asyncio.wait_for(self._invoker.invoke(function, event), timeout_seconds)

        return asyncio.run_coroutine_threadsafe(invoke(), self._loop).result()

    def serve_rest(self, request: Event) -> Result:
        """Run the function behind the REST routes. Raises TimeoutError past the integration timeout."""
        if self._project.rest is None:
            return Result("error")
        return self.invoke(self._project.rest, request, self._limits.integration_seconds)

    def reset(self) -> None:
        """Cut all sockets, without a $disconnect."""
        self.ask(Api.reset)

    def ask(self, question: Callable[[Api], Coroutine[Any, Any, T]], timeout_seconds: float | None = None) -> T:
        """Run a coroutine on the API's event loop and return its result; from any other thread.

        Raises:
            TimeoutError: if the time passes first.
        """
        return asyncio.run_coroutine_threadsafe(question(self._api), self._loop).result(timeout_seconds)

    def stop(self) -> None:
        """Close all sockets and run their $disconnect functions, which can still reach the gateway."""
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_over = asyncio.Event()
        self._api = Api(
            routing=self._routing,
            stage=self._project.api_stage,
            api_id=to_api_id(Path(self._project.directory)),
            address=self._address,
            is_secure=self._tls is not None,
            invocations=self._invoker,
            faults=self._faults,
            limits=self._limits,
        )
        admin = Admin(self._api, self._tables, lambda: self._project)
        lobby = Lobby(self._limits)
        server = await self._loop.create_server(
            lambda: HttpSide(self._api, admin, self._transports, lobby, self._admission),
            sock=self._listening,
            ssl=self._tls,
            ssl_handshake_timeout=self._limits.http_seconds if self._tls else None,
            ssl_shutdown_timeout=self._limits.close_seconds if self._tls else None,
        )
        self._sources = Sources(self._invoker)
        self._sources.deploy(self._project)
        self._is_serving.set()
        await self._is_over.wait()
        await self._sources.close()
        await self._api.close()
        server.close()
        for transport in list(self._transports):
            transport.abort()
        # abort() leaves the sockets for the next turn of the loop.
        await asyncio.sleep(0)
        await self._invoker.close()


def listen(host: str, port: int, option: str) -> socket.socket:
    """Return a listening socket; `option` is the command line's option for another port.

    Raises:
        AddressInUse: if another process has the port.
        GatewayError: if the address is not this machine's, or not permitted.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with explained(host, port, option):
        return socket.create_server((host, port), family=family, backlog=1024)


@contextmanager
def explained(host: str, port: int, option: str) -> Iterator[None]:
    """Turn the operating system's refusal to listen into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(host, port, option) from None
        # socket.create_server() adds the address in brackets.
        reason = str(error.strerror).partition(" (")[0]
        raise GatewayError(f"Cannot listen on {host}, port {port}: {reason}.") from None


def to_address(host: str, port: int) -> str:
    """Write an address for a URL; one that means every interface becomes loopback's."""
    host = WILDCARDS.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
