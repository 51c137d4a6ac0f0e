"""Requests to one host and their responses, over connections that are kept open.

Invariants: it fails as botocore fails. A connection has one user at a time; none is used again that the other side has
closed, or that was idle for a minute, during which a frozen Lambda may have lost it without notice. A request is sent a
second time only if its connection was kept and ended before a byte of a response came.
"""

import os
import select
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from socket import IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, getaddrinfo, socket
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import botocore
from botocore import exceptions

from chalicelib.aws.http1 import MAX_BODY_BYTES, BadResponse, Response, read_response

# One TLS record.
_RECEIVE_BYTES: Final = 16_384


class Limits(NamedTuple):
    """How often, how long and how large: what one call of a service may take.

    A named tuple, because making a dataclass would cost each cold start half a millisecond.

    Attributes:
        tries: how often a request is sent at most.
        first_pause_seconds: the longest pause before the second try. Each next one may be twice as long; with full
            jitter, a pause is anything between nothing and its longest.
        begin_seconds: no try begins later than this after the call.
        connect_seconds: for connecting to one address of the host, and again for the TLS handshake.
        dial_seconds: for all addresses and TLS together.
        answer_seconds: for sending the request, and again for the response.
        dead_seconds: a kept connection that ends within this time was dead already.
        idle_seconds: API Gateway closes what is idle for longer, and what vanished without a FIN costs a timeout.
        trusted_seconds: a connection that was idle for less is not checked: checking costs a system call.
        max_body_bytes: the largest body of a response.
    """

    tries: int = 5
    first_pause_seconds: float = 0.1
    begin_seconds: float = 1
    connect_seconds: float = 1
    dial_seconds: float = 2
    answer_seconds: float = 3
    dead_seconds: float = 0.5
    idle_seconds: float = 60
    trusted_seconds: float = 1
    max_body_bytes: int = MAX_BODY_BYTES

    @property
    def longest_seconds(self) -> float:
        """How long one try can take: all of it, one after the other."""
        return self.dead_seconds + self.dial_seconds + 2 * self.answer_seconds


class _Died(ConnectionError):
    """A connection ended before a byte of a response came."""


class Exchange:
    """Exchanges requests for responses with the host of an endpoint. Safe in threads.

    Args:
        endpoint: a URL; with https, the host's certificate is checked.
        limits: how long things may take, and how large a response may be.
        monotonic: returns seconds that never go back.

    Attributes:
        host: the value of a request's Host header.
        path: the endpoint's path, without a slash at its end.
    """

    def __init__(self, endpoint: str, limits: Limits, monotonic: Callable[[], float] = time.monotonic) -> None:
        url = urlsplit(endpoint)
        self._tls = trust() if url.scheme == "https" else None
        usual = 443 if self._tls else 80
        self._name, self._port = name, port = url.hostname or "", url.port or usual
        self.host = (f"[{name}]" if ":" in name else name) + (f":{port}" if port != usual else "")
        self.path = url.path.rstrip("/")
        self._endpoint = endpoint
        self._limits = limits
        self._monotonic = monotonic
        # Idle connections with the time each was given back; the last one given is the first one taken.
        self._idle: deque[tuple[float, socket]] = deque()
        # An app that is dropped leaves none open.
        weakref.finalize(self, _close, self._idle)

    def send(self, request: bytes) -> Response:
        """Send a request, head and body, and return the response, whatever its status.

        It takes `Limits.longest_seconds` at most.

        Raises:
            ConnectTimeoutError, EndpointConnectionError: the host could not be reached.
            SSLError: its certificate is wrong, or it does not speak TLS.
            ReadTimeoutError: the response did not come in time. The request may have been carried out.
            ConnectionClosedError, HTTPClientError: no response came, or an unreadable one. Likewise.
        """
        kept = self.take()
        try:
            if kept:
                began_at = self._monotonic()
                try:
                    return self._converse(kept, request)
                except _Died:
                    if self._monotonic() - began_at > self._limits.dead_seconds:
                        raise
            return self._converse(self.dial(), request)
        except exceptions.BotoCoreError:
            # Dialling failed; some of its errors are botocore's and OSErrors too.
            raise
        except TimeoutError as error:
            raise exceptions.ReadTimeoutError(endpoint_url=self._endpoint, error=error) from error
        except OSError as error:
            raise exceptions.ConnectionClosedError(endpoint_url=self._endpoint, error=error) from error
        except BadResponse as error:
            raise exceptions.HTTPClientError(error=error) from error

    def close(self) -> None:
        """Close the idle connections."""
        _close(self._idle)

    def take(self) -> socket | None:
        """Return a connection that was used before and seems alive, or None."""
        now = self._monotonic()
        while True:
            try:
                # Given back in order of time, so the one that was idle longest is first. Another thread may come
                # between looking and taking; then a younger one is closed, which nobody uses, so it does no harm.
                while self._idle[0][0] < now - self._limits.idle_seconds:
                    self._idle.popleft()[1].close()
                used_at, connection = self._idle.pop()
            except IndexError:
                return None
            if now - used_at < self._limits.trusted_seconds or not _has_news(connection):
                return connection
            connection.close()

    def give(self, connection: socket) -> None:
        """Keep a connection that has nothing left to read, to be taken again."""
        self._idle.append((self._monotonic(), connection))

    def dial(self) -> socket:
        """Return a new connection; for what it raises, see `send`."""
        try:
            connection = self._connect()
        except TimeoutError as error:
            raise exceptions.ConnectTimeoutError(endpoint_url=self._endpoint, error=error) from error
        except ssl.SSLError as error:
            raise exceptions.SSLError(endpoint_url=self._endpoint, error=error) from error
        except OSError as error:
            raise exceptions.EndpointConnectionError(endpoint_url=self._endpoint, error=error) from error
        connection.settimeout(self._limits.answer_seconds)
        return connection

    def _connect(self) -> socket:
        until = self._monotonic() + self._limits.dial_seconds
        failure: OSError = TimeoutError()
        for family, kind, protocol, _, address in getaddrinfo(self._name, self._port, type=SOCK_STREAM):
            connection = socket(family, kind, protocol)
            try:
                connection.settimeout(self._patience(until))
                connection.connect(address)
                connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                if self._tls is None:
                    return connection
                connection.settimeout(self._patience(until))
                return self._tls.wrap_socket(connection, server_hostname=self._name)
            except OSError as error:
                connection.close()
                failure = error
        raise failure

    def _patience(self, until: float) -> float:
        left = min(self._limits.connect_seconds, until - self._monotonic())
        if left <= 0:
            raise TimeoutError
        return left

    def _converse(self, connection: socket, request: bytes) -> Response:
        response = None
        try:
            response = self._read(connection, _first(connection, request))
        finally:
            if response and not response.is_last:
                self.give(connection)
            else:
                connection.close()
        return response

    def _read(self, connection: socket, first: bytes) -> Response:
        until = self._monotonic() + self._limits.answer_seconds

        def receive() -> bytes:
            left = until - self._monotonic()
            if left <= 0:
                raise TimeoutError("not answered in time")
            connection.settimeout(left)
            return connection.recv(_RECEIVE_BYTES)

        response = read_response(first, receive, self._limits.max_body_bytes)
        # Nearly always the first bytes are all. Setting the timeout is a system call; reading it is not.
        if connection.gettimeout() != self._limits.answer_seconds:
            connection.settimeout(self._limits.answer_seconds)
        return response


def trust() -> ssl.SSLContext:
    """Return what checks certificates, by the authorities that boto3 trusts."""
    return _trust(os.environ.get("AWS_CA_BUNDLE") or _authorities())


# Reading all the authorities takes longer than a handshake.
@cache
def _trust(path: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)


def _authorities() -> str:
    try:
        return str(import_module("certifi").where())
    except ImportError:
        return str(Path(botocore.__file__).with_name("cacert.pem"))


def _first(connection: socket, request: bytes) -> bytes:
    """Send the request and return the first bytes of what comes back."""
    try:
        # Nearly always all is sent at once; `sendall` would take longer for that than the sending itself.
        sent = connection.send(request)
        if sent < len(request):
            connection.sendall(request[sent:])
        first = connection.recv(_RECEIVE_BYTES)
    except TimeoutError:
        raise
    except OSError as error:
        raise _Died("closed before it answered") from error
    if not first:
        raise _Died("closed before it answered")
    return first


def _close(idle: deque[tuple[float, socket]]) -> None:
    while idle:
        idle.pop()[1].close()


def _has_news(connection: socket) -> bool:
    # With no request under way, whatever can be read is the end of the connection, or is not ours to read.
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
