"""TCP and TLS connections to one host that are kept open and used again, last in, first out.

Invariants: a connection has one user at a time; none is used again that the other side has closed or that was idle for
a minute, during which a frozen Lambda may have lost it without notice. Safe in threads.
"""

import select
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

# API Gateway closes what is idle for longer, and what vanished without a FIN would cost a whole timeout.
MAX_IDLE_SECONDS: Final = 60
# Within so short a time we trust it without looking: looking costs a system call.
TRUSTED_SECONDS: Final = 1


class Keepalive:
    """The open connections to one host.

    Args:
        host, port: where to.
        tls: how certificates are checked; None is plain TCP.
        clock: seconds, never going back.
    """

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._clock = clock
        self._idle: deque[tuple[float, socket.socket]] = deque()
        # An app that is dropped leaves none open.
        weakref.finalize(self, _close, self._idle)

    def take(self) -> socket.socket | None:
        """A connection that was used before and seems alive, or None."""
        now = self._clock()
        while True:
            try:
                # Given back in the order of time, so what has been idle for longest stands first. Between looking and
                # taking another thread may come, and a younger one is closed: nobody uses it, so no harm is done.
                while self._idle[0][0] < now - MAX_IDLE_SECONDS:
                    self._idle.popleft()[1].close()
                used_at, connection = self._idle.pop()
            except IndexError:
                return None
            if now - used_at < TRUSTED_SECONDS or not _has_news(connection):
                return connection
            connection.close()

    def give(self, connection: socket.socket) -> None:
        """The connection, which has nothing left to read, may be taken again."""
        self._idle.append((self._clock(), connection))

    def dial(self, connect_seconds: float, until: float) -> socket.socket:
        """A new connection.

        Args:
            connect_seconds: how long each of the host's addresses may take, and the TLS handshake.
            until: when all of it must be done, on the clock.

        Raises:
            TimeoutError: it took longer.
            ssl.SSLError: the host is not who it should be, or speaks no TLS.
            OSError: no address of the host answers, or it has none.
        """
        failure: OSError = TimeoutError()
        for family, kind, protocol, _, address in socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM):
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(self._patience(connect_seconds, until))
                connection.connect(address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is None:
                    return connection
                connection.settimeout(self._patience(connect_seconds, until))
                return self._tls.wrap_socket(connection, server_hostname=self._host)
            except OSError as error:
                connection.close()
                failure = error
        raise failure

    def close(self) -> None:
        """No connection is kept open."""
        _close(self._idle)

    def _patience(self, seconds: float, until: float) -> float:
        left = min(seconds, until - self._clock())
        if left <= 0:
            raise TimeoutError
        return left


def _close(idle: deque[tuple[float, socket.socket]]) -> None:
    while idle:
        idle.pop()[1].close()


def _has_news(connection: socket.socket) -> bool:
    # With no request under way whatever can be read is the end, or is not ours to read.
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
