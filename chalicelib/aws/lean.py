"""A client of @connections that does what boto3's does, for a tenth of its CPU time.

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
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote

from botocore import exceptions

from chalicelib.aws.errors import Refusals, refusal, response_metadata
from chalicelib.aws.exchange import Exchange
from chalicelib.aws.http1 import Answer
from chalicelib.aws.signer import Signer
from chalicelib.aws.sigv4 import Credentials, Second, signature

TRIES: Final = 5
# No try begins later than that after the call; what the last one may take comes on top (see `exchange`).
BEGIN_SECONDS: Final = 1
# Full jitter: a pause is anything from nothing to twice as much as the one before could be.
FIRST_PAUSE_SECONDS: Final = 0.1
_UNRESERVED: Final = "-._~"
# `quote` for ASCII, four times as fast.
_QUOTED: Final = {code: quote(chr(code), safe=_UNRESERVED) for code in range(128)}


class Address(NamedTuple):
    """Where @connections is.

    Attributes:
        path: what all paths begin with, up to the connection's id.
        canonical_path: that, percent-encoded once more.
    """

    path: str
    canonical_path: str

    @classmethod
    def of(cls, stage_path: str) -> Self:
        """The address of the API whose stage has that path."""
        path = f"{stage_path}/@connections/"
        return cls(path, quote(path, safe="/~"))


class LeanClient:
    """Sends to, closes and asks about the connections of one endpoint.

    Args:
        endpoint: the URL of the API's stage.
        region: the Region that is signed for.
        credentials: gives those to sign with; asked once in a second, so that new ones count at once.
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
        self._address = Address.of(self._exchange.path)
        self._signer = Signer(self._exchange.host, region, "execute-api", credentials, clock)
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter

    def post_to_connection(self, *, ConnectionId: str, Data: str | bytes) -> dict[str, Any]:
        """The connection was sent the data as one frame. Errors as boto3's.

        Of what boto3 returns, nothing but the status: nobody sees the rest through Chalice, and it would take time.
        """
        answer = self._call("PostToConnection", "POST", ConnectionId, Data)
        return {"ResponseMetadata": {"HTTPStatusCode": answer.status}}

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
        last_begin = self._monotonic() + BEGIN_SECONDS
        longest_pause, tries, may_set_clock = FIRST_PAUSE_SECONDS, 1, True
        while True:
            now = self._signer.now()
            answer = self._exchange.ask(request(self._address, now, method, connection_id, data))
            if answer.status < 300:
                return answer
            if answer.status == 403 and may_set_clock and self._signer.set_clock(answer, now):
                may_set_clock = False
                continue
            pause = self._jitter() * longest_pause
            is_for_now = answer.status == 429 or answer.status >= 500
            if not is_for_now or tries == TRIES or self._monotonic() + pause > last_begin:
                raise refusal(answer, operation, retries=tries - 1 if is_for_now else None)
            self._sleep(pause)
            longest_pause, tries = longest_pause * 2, tries + 1


def request(address: Address, now: Second, method: str, connection_id: str, data: str | bytes) -> bytes:
    """The bytes of a request to @connections, signed in that second."""
    quoted = connection_id.translate(_QUOTED) if connection_id.isascii() else quote(connection_id, safe=_UNRESERVED)
    body, body_sha256 = _encoded(data)
    signed = signature(now, method, address.canonical_path + quoted.replace("%", "%25"), body_sha256)
    head = (
        f"{method} {address.path}{quoted} HTTP/1.1\r\n{now.lines}{signed}\r\n"
        f"User-Agent: Peal\r\nContent-Length: {len(body)}\r\n\r\n"
    )
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
