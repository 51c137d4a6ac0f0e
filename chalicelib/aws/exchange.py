"""A request's bytes to one host, and its answer, over a connection that is kept or a new one.

Invariants: it fails as botocore fails, so that callers need not know which of the two they have; a request is sent a
second time only if the connection was kept and ended before a byte of an answer came.
"""

import ssl
import time
from collections.abc import Callable
from socket import socket
from typing import Final
from urllib.parse import urlsplit

from botocore import exceptions

from chalicelib.aws.http1 import MAX_BODY_BYTES, Answer, BadAnswer, read_answer, read_whole
from chalicelib.aws.keepalive import Keepalive

# One address of the host, or TLS; all addresses and TLS together.
CONNECT_SECONDS: Final = 1
DIAL_SECONDS: Final = 2
# Sending the request, and again waiting for its answer.
ANSWER_SECONDS: Final = 3
# A kept connection was dead beforehand only if it shows within so short a time.
DEAD_SECONDS: Final = 0.5
# All of these, one after the other.
LONGEST_SECONDS: Final = DEAD_SECONDS + DIAL_SECONDS + 2 * ANSWER_SECONDS
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
        max_body_bytes: the largest body of an answer that is read.

    Attributes:
        host: what a request's Host header says.
        path: the endpoint's, without a slash at its end.
    """

    def __init__(
        self,
        endpoint: str,
        tls: ssl.SSLContext | None,
        monotonic: Callable[[], float] = time.monotonic,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        url = urlsplit(endpoint)
        usual = 443 if tls else 80
        name, port = url.hostname or "", url.port or usual
        self.host = (f"[{name}]" if ":" in name else name) + (f":{port}" if port != usual else "")
        self.path = url.path.rstrip("/")
        self._endpoint = endpoint
        self._monotonic = monotonic
        self._max_body_bytes = max_body_bytes
        self._kept = Keepalive(name, port, tls, monotonic)

    def ask(self, request: bytes) -> Answer:
        """The answer to the request, whatever its status, in at most LONGEST_SECONDS.

        Args:
            request: head and body.

        Raises:
            ConnectTimeoutError, EndpointConnectionError, SSLError: nobody is there, or it is somebody else.
            ReadTimeoutError: the whole answer did not come in time. The request may have been done.
            ConnectionClosedError, HTTPClientError: no answer came, or none that can be read; it may have, too.
        """
        kept = self._kept.take()
        if kept:
            began_at = self._monotonic()
            try:
                return self._converse(kept, request)
            except _Died as error:
                if self._monotonic() - began_at > DEAD_SECONDS:
                    raise self._closed(error) from error
        try:
            return self._converse(self._dial(), request)
        except _Died as error:
            raise self._closed(error) from error

    def close(self) -> None:
        """No connection is kept open."""
        self._kept.close()

    def _dial(self) -> socket:
        try:
            connection = self._kept.dial(CONNECT_SECONDS, self._monotonic() + DIAL_SECONDS)
        except TimeoutError as error:
            raise exceptions.ConnectTimeoutError(endpoint_url=self._endpoint, error=error) from error
        except ssl.SSLError as error:
            raise exceptions.SSLError(endpoint_url=self._endpoint, error=error) from error
        except OSError as error:
            raise exceptions.EndpointConnectionError(endpoint_url=self._endpoint, error=error) from error
        # Kept ones have it already: setting it takes time.
        connection.settimeout(ANSWER_SECONDS)
        return connection

    def _converse(self, connection: socket, request: bytes) -> Answer:
        answer = None
        try:
            first = _first(connection, request)
            answer = read_whole(first) or self._read_on(first, connection)
        except _Died:
            raise
        except TimeoutError as error:
            raise exceptions.ReadTimeoutError(endpoint_url=self._endpoint, error=error) from error
        except OSError as error:
            raise self._closed(error) from error
        except BadAnswer as error:
            raise exceptions.HTTPClientError(error=error) from error
        finally:
            if answer and not answer.is_last:
                self._kept.give(connection)
            else:
                connection.close()
        return answer

    def _read_on(self, first: bytes, connection: socket) -> Answer:
        until = self._monotonic() + ANSWER_SECONDS

        def receive() -> bytes:
            left = until - self._monotonic()
            if left <= 0:
                raise TimeoutError("not answered in time")
            connection.settimeout(left)
            return connection.recv(_RECEIVE_BYTES)

        answer = read_answer(first, receive, self._max_body_bytes)
        connection.settimeout(ANSWER_SECONDS)
        return answer

    def _closed(self, error: OSError) -> exceptions.ConnectionClosedError:
        return exceptions.ConnectionClosedError(endpoint_url=self._endpoint, error=error)


def _first(connection: socket, request: bytes) -> bytes:
    try:
        # All at once in nearly all cases, for which sendall would need more time than for the sending.
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
