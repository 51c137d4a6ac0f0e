"""A client of @connections that does what boto3's does, for a fifteenth of its CPU time.

Invariants: what it returns and raises is what boto3 returns and raises; a call takes less than ten seconds, its retries
included; tried again is what was answered 429 or 5xx, and at once what was sent over a kept connection that had died.
As with boto3, a retry after a lost answer can deliver twice. Safe in threads.

Why not boto3, with figures: docs/decisions/management-client.md.
"""

import json
import random
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from botocore import exceptions

from chalicelib.exchange import Exchange
from chalicelib.http1 import Answer
from chalicelib.refusals import Refusals, refusal, response_metadata
from chalicelib.signing import Credentials, signed_headers

TOTAL_SECONDS: Final = 9.5
TRIES: Final = 5
# Full jitter: a pause is anything from nothing to twice as much as the one before could be.
FIRST_PAUSE_SECONDS: Final = 0.1
# AWS takes signatures that are five minutes off; SDKs look at the clock from four on.
SKEW_SECONDS: Final = 240


class Address(NamedTuple):
    """Where @connections is: the Host header, the path of the API's stage, the Region that is signed for."""

    host: str
    path: str
    region: str


class LeanClient:
    """Sends to, closes and asks about the connections of one endpoint.

    Args:
        endpoint: the URL of the API's stage.
        region: the Region that is signed for.
        credentials: gives those to sign with; asked for each request, so that new ones count at once.
        tls: how certificates are checked; None for an endpoint without TLS.
        clock, monotonic, sleep, jitter: epoch seconds; seconds that never go back; waits; gives 0 to 1.
    """

    exceptions = Refusals

    def __init__(
        self,
        endpoint: str,
        region: str,
        credentials: Callable[[], Credentials],
        tls: ssl.SSLContext | None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._exchange = Exchange(endpoint, tls, monotonic)
        self._address = Address(self._exchange.host, self._exchange.path, region)
        self._credentials = credentials
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter
        self._skew_seconds = 0.0

    def post_to_connection(self, *, ConnectionId: str, Data: str | bytes) -> dict[str, Any]:
        """The connection was sent the data as one frame. Errors as boto3's."""
        return _told(self._call("PostToConnection", "POST", ConnectionId, Data))

    def delete_connection(self, *, ConnectionId: str) -> dict[str, Any]:
        """The connection is being closed. Errors as boto3's."""
        return _told(self._call("DeleteConnection", "DELETE", ConnectionId))

    def get_connection(self, *, ConnectionId: str) -> dict[str, Any]:
        """What API Gateway knows of the connection: ConnectedAt, LastActiveAt, Identity. Errors as boto3's."""
        answer = self._call("GetConnection", "GET", ConnectionId)
        try:
            body = json.loads(answer.body)
            times = {name: datetime.fromisoformat(body[name]) for name in ("connectedAt", "lastActiveAt")}
            identity = _capital(body["identity"], "sourceIp", "userAgent")
        except (ValueError, TypeError, KeyError) as error:
            raise exceptions.HTTPClientError(error=error) from error
        return _capital(times, *times) | {"Identity": identity} | _told(answer)

    def close(self) -> None:
        """No connection is kept open."""
        self._exchange.close()

    def _call(self, operation: str, method: str, connection_id: str, data: str | bytes = b"") -> Answer:
        until = self._monotonic() + TOTAL_SECONDS
        longest_pause, tries, may_set_clock = FIRST_PAUSE_SECONDS, 1, True
        while True:
            signed_at = int(self._clock() + self._skew_seconds)
            request = signed_request(self._address, method, connection_id, data, self._credentials(), signed_at)
            answer = self._exchange.ask(request, until)
            if answer.status < 300:
                return answer
            if answer.status == 403 and may_set_clock and self._set_clock(answer, signed_at):
                may_set_clock = False
                continue
            pause = self._jitter() * longest_pause
            is_for_now = answer.status == 429 or answer.status >= 500
            if not is_for_now or tries == TRIES or self._monotonic() + pause >= until:
                raise refusal(answer, operation, retries=tries - 1 if is_for_now else None)
            self._sleep(pause)
            longest_pause, tries = longest_pause * 2, tries + 1

    def _set_clock(self, answer: Answer, signed_at: int) -> bool:
        """Return whether the signature was refused by a clock so far from ours that ours is set by it."""
        try:
            theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return False
        if abs(theirs - signed_at) < SKEW_SECONDS:
            return False
        self._skew_seconds = theirs - self._clock()
        return True


def signed_request(
    address: Address, method: str, connection_id: str, data: str | bytes, credentials: Credentials, epoch: int
) -> bytes:
    """The bytes of a request to @connections, signed at that time, in seconds."""
    path = f"{address.path}/@connections/{quote(connection_id, safe='-._~')}"
    body, body_sha256 = _encoded(data)
    signed = signed_headers(method, path, body_sha256, address.host, address.region, credentials, epoch)
    head = f"{method} {path} HTTP/1.1\r\n{signed}User-Agent: Peal\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


# A fan-out sends one text to many, in threads that are at most a few frames apart.
@lru_cache(maxsize=16)
def _encoded(data: str | bytes) -> tuple[bytes, str]:
    body = data.encode() if isinstance(data, str) else data
    return body, sha256(body).hexdigest()


def _told(answer: Answer) -> dict[str, Any]:
    return {"ResponseMetadata": response_metadata(answer)}


def _capital(told: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name[0].upper() + name[1:]: told[name] for name in names}
