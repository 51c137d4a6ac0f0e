"""How many clients there is room for, and how long one may take to become one.

A TCP connection that is not a WebSocket may not be silent for long. If there are too many, the one that has been silent
longest is closed first, so a client that opens many loses its own.
"""

import asyncio
import resource

from localgateway.limits import Limits

# Open files of the process that are not clients: workers' channels, boto3's connections, the engine, the log.
RESERVED_FILES = 256


class Lobby:
    """The connections between two requests or in the middle of one, the longest-waiting first.

    Attributes:
        sockets: how many WebSockets there is room for.
        upgrading: how many handshakes are being decided.
    """

    def __init__(self, limits: Limits) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.sockets = min(limits.open_sockets, files - limits.http_connections - RESERVED_FILES)
        self.upgrading = 0
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._since: dict[asyncio.Transport, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, transport: asyncio.Transport) -> None:
        """Start, or restart, the time that a connection has to send a whole request."""
        self._since.pop(transport, None)
        self._since[transport] = self._loop.time()
        if len(self._since) > self._limits.http_connections:
            self._cut(next(iter(self._since)))
        if self._timer is None:
            self._timer = self._loop.call_later(self._limits.http_seconds, self._sweep)

    def leave(self, transport: asyncio.Transport) -> None:
        """Remove a connection: it is closed, or need not send anything."""
        self._since.pop(transport, None)

    def _sweep(self) -> None:
        now = self._loop.time()
        self._timer = None
        for transport, since in list(self._since.items()):
            due_at = since + self._limits.http_seconds
            if due_at > now:
                self._timer = self._loop.call_at(due_at, self._sweep)
                break
            self._cut(transport)

    def _cut(self, transport: asyncio.Transport) -> None:
        del self._since[transport]
        transport.abort()


def raise_file_limit() -> None:
    """Raise this process's limit of open files as far as allowed, to serve `Limits.open_sockets`."""
    limits = Limits()
    wanted = limits.open_sockets + limits.http_connections + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
