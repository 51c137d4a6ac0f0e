"""Serves the WebSocket API of one project: an event loop in a thread of its own, and threads for the handlers."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from weakref import WeakSet

from localgateway.api import Api
from localgateway.errors import AddressInUse, GatewayError
from localgateway.http_side import HttpSide
from localgateway.invoke import ThreadInvoker
from localgateway.limits import Limits
from localgateway.project import Project, to_api_id

# Addresses that mean every interface: to be listened on, not to be called.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class WebSocketServer:
    """The WebSocket API of a loaded project on a listening socket, which it owns from now on."""

    def __init__(self, project: Project, listening: socket.socket, limits: Limits) -> None:
        self._project = project
        self._listening = listening
        self._limits = limits
        self._invoker = ThreadInvoker(limits.concurrent_invocations)
        self._transports: WeakSet[asyncio.Transport] = WeakSet()
        self._is_serving = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._serve()), name="localgateway", daemon=True)
        host, port = listening.getsockname()[:2]
        self._address = to_address(host, port)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"ws://{self._address}/{self._project.api_stage}"

    @property
    def management_endpoint(self) -> str:
        """The endpoint_url of an SDK's apigatewaymanagementapi client."""
        return f"http://{self._address}/{self._project.api_stage}"

    def start(self) -> None:
        """Serve; the first client may come when this returns."""
        # Chalice knows no endpoint but https://{apiId}.execute-api..., unless it has one already.
        self._project.app.websocket_api._endpoint = self.management_endpoint
        self._thread.start()
        self._is_serving.wait()

    def reset(self) -> None:
        """Cut all sockets, without a $disconnect."""
        asyncio.run_coroutine_threadsafe(self._api.reset(), self._loop).result()

    def stop(self) -> None:
        """Close all sockets and run their $disconnect; handlers can reach the gateway while they do."""
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join()
        self._invoker.close()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_over = asyncio.Event()
        self._api = Api(
            routes=self._project.routes,
            stage=self._project.api_stage,
            api_id=to_api_id(self._project.directory),
            address=self._address,
            invoker=self._invoker,
            limits=self._limits,
        )
        server = await self._loop.create_server(lambda: HttpSide(self._api, self._transports), sock=self._listening)
        self._is_serving.set()
        await self._is_over.wait()
        await self._api.close()
        server.close()
        for transport in list(self._transports):
            transport.abort()
        # abort() leaves the sockets for the next turn of the loop.
        await asyncio.sleep(0)


def listen(host: str, port: int, option: str) -> socket.socket:
    """Return a listening socket; `option` is how the user would choose another port.

    Raises:
        AddressInUse: if another process has the port.
        GatewayError: if there is no such address here, or no right to it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with explained(host, port, option):
        return socket.create_server((host, port), family=family, backlog=1024)


@contextmanager
def explained(host: str, port: int, option: str) -> Iterator[None]:
    """Turn the operating system's refusal to listen into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(host, port, option) from None
        # socket.create_server() adds the address in brackets.
        reason = str(error.strerror).partition(" (")[0]
        raise GatewayError(f"Cannot listen on {host}, port {port}: {reason}.") from None


def to_address(host: str, port: int) -> str:
    """Write an address as it stands in a URL; one that means every interface becomes one that can be called."""
    host = WILDCARDS.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
