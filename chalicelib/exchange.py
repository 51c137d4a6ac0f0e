"""A request's bytes to one host, and its answer, over a connection that is kept or a new one.

Invariants: it fails as botocore fails, so that callers need not know which of the two they have; a request is sent a
second time only if the connection was kept and ended before a byte of an answer came.
"""

import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from socket import socket
from typing import Final
from urllib.parse import urlsplit

from botocore import exceptions

from chalicelib.http1 import Answer, BadAnswer, read_answer
from chalicelib.keepalive import Keepalive

CONNECT_SECONDS: Final = 1
ANSWER_SECONDS: Final = 3
# One TLS record.
_RECEIVE_BYTES: Final = 16_384


class _Died(ConnectionError):
    """A connection ended before a byte of an answer came."""


class Exchange:
    """Exchanges requests for answers with the host of an endpoint. Safe in threads.

    Args:
        endpoint: a URL.
        tls: how certificates are checked; None for http.
        monotonic: seconds that never go back.

    Attributes:
        host: what a request's Host header says.
        path: the endpoint's, without a slash at its end.
    """

    def __init__(
        self, endpoint: str, tls: ssl.SSLContext | None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        url = urlsplit(endpoint)
        usual = 443 if tls else 80
        name, port = url.hostname or "", url.port or usual
        self.host = (f"[{name}]" if ":" in name else name) + (f":{port}" if port != usual else "")
        self.path = url.path.rstrip("/")
        self._endpoint = endpoint
        self._monotonic = monotonic
        self._kept = Keepalive(name, port, tls, monotonic)

    def ask(self, request: bytes, until: float) -> Answer:
        """The answer to the request, whatever its status.

        Args:
            request: head and body.
            until: when it must have come, on the clock.

        Raises:
            ConnectTimeoutError, EndpointConnectionError, SSLError: nobody is there, or it is somebody else.
            ReadTimeoutError: the whole answer did not come in time. The request may have been done.
            ConnectionClosedError, HTTPClientError: no answer came, or none that can be read; it may have, too.
        """
        kept = self._kept.take()
        if kept:
            with suppress(_Died):
                return self._converse(kept, request, until)
        try:
            return self._converse(self._dial(until), request, until)
        except _Died as error:
            raise exceptions.ConnectionClosedError(endpoint_url=self._endpoint, error=error) from error

    def close(self) -> None:
        """No connection is kept open."""
        self._kept.close()

    def _dial(self, until: float) -> socket:
        try:
            return self._kept.dial(CONNECT_SECONDS, until)
        except TimeoutError as error:
            raise exceptions.ConnectTimeoutError(endpoint_url=self._endpoint, error=error) from error
        except ssl.SSLError as error:
            raise exceptions.SSLError(endpoint_url=self._endpoint, error=error) from error
        except OSError as error:
            raise exceptions.EndpointConnectionError(endpoint_url=self._endpoint, error=error) from error

    def _converse(self, connection: socket, request: bytes, until: float) -> Answer:
        until = min(until, self._monotonic() + ANSWER_SECONDS)

        def receive() -> bytes:
            connection.settimeout(self._left(until))
            return connection.recv(_RECEIVE_BYTES)

        answer = None
        try:
            connection.settimeout(self._left(until))
            answer = read_answer(_first(connection, request, receive), receive)
        except _Died:
            raise
        except TimeoutError as error:
            raise exceptions.ReadTimeoutError(endpoint_url=self._endpoint, error=error) from error
        except OSError as error:
            raise exceptions.ConnectionClosedError(endpoint_url=self._endpoint, error=error) from error
        except BadAnswer as error:
            raise exceptions.HTTPClientError(error=error) from error
        finally:
            if answer and not answer.is_last:
                self._kept.give(connection)
            else:
                connection.close()
        return answer

    def _left(self, until: float) -> float:
        left = until - self._monotonic()
        if left <= 0:
            raise TimeoutError("not answered in time")
        return left


def _first(connection: socket, request: bytes, receive: Callable[[], bytes]) -> bytes:
    try:
        connection.sendall(request)
        first = receive()
    except TimeoutError:
        raise
    except OSError as error:
        raise _Died("closed before it answered") from error
    if not first:
        raise _Died("closed before it answered")
    return first
