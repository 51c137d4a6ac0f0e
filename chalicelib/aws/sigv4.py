"""AWS Signature Version 4 for requests without a query, with the credentials and the time that hold now.

Invariants: a signature is byte for byte botocore's, which a property test checks. What changes once a second is built
once a second, and the key once a day, so a request costs three short hashes. New credentials count within a second. A
clock that is minutes off is corrected by the other side's.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hmac
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple

_BLOCK_BYTES: Final = 64
# AWS accepts signatures that are five minutes off; SDKs look at the clock from four on.
SKEW_SECONDS: Final = 240


class Credentials(NamedTuple):
    """What signs, as one consistent set; botocore's frozen credentials look like it."""

    access_key: str
    secret_key: str
    token: str | None


class Second(NamedTuple):
    """What requests for one operation have in common within a second.

    Attributes:
        epoch: the second, since 1970.
        headers: the canonical request from its empty query to the list of header names.
        scope: the beginning of the string to sign.
        inner, outer: HMAC's two hashes, with the key in them already (RFC 2104): copying them is half of the work.
        lines: the header lines that are sent, Host to Authorization, up to where the signature goes.
    """

    epoch: int
    headers: str
    scope: str
    inner: Any
    outer: Any
    lines: str


class Signer:
    """Holds what requests to one host of one service are signed with. Safe in threads.

    Args:
        host: the value of the Host header, with the port unless it is the scheme's own.
        service: the name that the service has in signatures.
        credentials: returns the ones to sign with; asked once a second.
        clock: returns epoch seconds.
    """

    def __init__(
        self, host: str, region: str, service: str, credentials: Callable[[], Credentials], clock: Callable[[], float]
    ) -> None:
        self._host = host
        self._region = region
        self._service = service
        self._credentials = credentials
        self._clock = clock
        self._skew_seconds = 0.0
        self._seconds: tuple[int, dict[str, Second]] = (0, {})

    def now(self, operation: str = "", headers: Mapping[str, str] = {}) -> Second:
        """Return what to sign requests for the operation with now; all have the same additional `headers`."""
        epoch = int(self._clock() + self._skew_seconds)
        signed_in, operations = self._seconds
        if signed_in != epoch:
            operations = {}
            # One assignment: other threads see both or neither.
            self._seconds = (epoch, operations)
        found = operations.get(operation)
        if found is None:
            found = operations[operation] = self._second(epoch, headers)
        return found

    def set_clock(self, date: str, signed: Second) -> bool:
        """Set the clock by the other side's if the two are minutes apart, and return whether it was set.

        Args:
            date: the response's Date header.
            signed: what its request was signed with.
        """
        # Imported when a clock is wrong: it would cost every cold start.
        from email.utils import parsedate_to_datetime

        try:
            theirs = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return False
        if abs(theirs - signed.epoch) < SKEW_SECONDS:
            return False
        self._skew_seconds = theirs - self._clock()
        return True

    def _second(self, epoch: int, additional: Mapping[str, str]) -> Second:
        credentials = self._credentials()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(epoch))
        day = stamp[:8]
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        headers = {"Host": self._host, "X-Amz-Date": stamp, **additional}
        if credentials.token:
            headers["X-Amz-Security-Token"] = credentials.token
        by_name = sorted((name.lower(), value) for name, value in headers.items())
        canonical = "".join(f"{name}:{value}\n" for name, value in by_name)
        names = ";".join(name for name, _ in by_name)
        sent = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        key = _key(credentials.secret_key, day, self._region, self._service).ljust(_BLOCK_BYTES, b"\0")
        return Second(
            epoch=epoch,
            headers=f"\n\n{canonical}\n{names}\n",
            scope=f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n",
            inner=sha256(bytes(byte ^ 0x36 for byte in key)),
            outer=sha256(bytes(byte ^ 0x5C for byte in key)),
            lines=f"{sent}Authorization: AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature=",
        )


def signed_request(now: Second, method: str, path: str, canonical_path: str, body: bytes, body_sha256: str) -> bytes:
    """Return the bytes of a request, head and body.

    Args:
        now: the second it is signed in.
        path, canonical_path: the path as it is sent; the same, percent-encoded once more.
        body, body_sha256: the body, and its hash in hexadecimal.
    """
    canonical = f"{method}\n{canonical_path}{now.headers}{body_sha256}"
    inner, outer = now.inner.copy(), now.outer.copy()
    inner.update(f"{now.scope}{sha256(canonical.encode()).hexdigest()}".encode())
    outer.update(inner.digest())
    line, signed = f"{method} {path} HTTP/1.1", f"{now.lines}{outer.hexdigest()}"
    return f"{line}\r\n{signed}\r\nUser-Agent: Peal\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@lru_cache(maxsize=4)
def _key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
