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
from types import MappingProxyType
from typing import Any, Final, NamedTuple

_BLOCK_BYTES: Final = 64
# AWS accepts signatures that are five minutes off; SDKs look at the clock from four on.
SKEW_SECONDS: Final = 240
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Credentials(NamedTuple):
    """What signs, as one consistent set; botocore's frozen credentials look like it."""

    access_key: str
    secret_key: str
    token: str | None


class Second(NamedTuple):
    """What requests of one kind to one host have in common within a second.

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
        host: the value of the Host header.
        region: the Region to sign for.
        service: the name that the service has in signatures.
        credentials: returns the ones to sign with; asked once a second, so new ones count at once.
        clock: returns epoch seconds.
    """

    def __init__(
        self,
        host: str,
        region: str,
        service: str,
        credentials: Callable[[], Credentials],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._region = region
        self._service = service
        self._credentials = credentials
        self._clock = clock
        self._skew_seconds = 0.0
        self._seconds: tuple[int, dict[str, Second]] = (0, {})

    def now(self, kind: str = "", headers: Mapping[str, str] = _NO_HEADERS) -> Second:
        """Return what requests of a kind that are signed now have in common.

        Args:
            kind: requests of one kind have the same headers.
            headers: sent and signed in addition to the usual ones.
        """
        epoch = int(self._clock() + self._skew_seconds)
        signed_in, kinds = self._seconds
        if signed_in != epoch:
            kinds = {}
            # One assignment: other threads see both or neither.
            self._seconds = (epoch, kinds)
        found = kinds.get(kind)
        if found is None:
            found = kinds[kind] = second(epoch, self._host, self._region, self._credentials(), self._service, headers)
        return found

    def set_clock(self, date: str, signed: Second) -> bool:
        """Set the clock by the other side's, if the two are minutes apart.

        Args:
            date: the response's Date header.
            signed: what its request was signed with.

        Returns:
            Whether the clock was set, so that signing again may help.
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


def second(
    epoch: int,
    host: str,
    region: str,
    credentials: Credentials,
    service: str,
    signed_headers: Mapping[str, str] = _NO_HEADERS,
) -> Second:
    """Return what requests that are signed in a second have in common.

    Args:
        epoch: the second, since 1970.
        host: the value of the Host header, with the port unless it is the scheme's own.
        region: the Region to sign for.
        credentials: what signs.
        service: the name that the service has in signatures.
        signed_headers: sent and signed in addition to the usual ones.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(epoch))
    day = stamp[:8]
    scope = f"{day}/{region}/{service}/aws4_request"
    headers = {"Host": host, "X-Amz-Date": stamp, **signed_headers}
    if credentials.token:
        headers["X-Amz-Security-Token"] = credentials.token
    by_name = sorted((name.lower(), value) for name, value in headers.items())
    canonical = "".join(f"{name}:{value}\n" for name, value in by_name)
    names = ";".join(name for name, _ in by_name)
    sent = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    key = _key(credentials.secret_key, day, region, service).ljust(_BLOCK_BYTES, b"\0")
    return Second(
        epoch=epoch,
        headers=f"\n\n{canonical}\n{names}\n",
        scope=f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n",
        inner=sha256(bytes(byte ^ 0x36 for byte in key)),
        outer=sha256(bytes(byte ^ 0x5C for byte in key)),
        lines=f"{sent}Authorization: AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature=",
    )


def signature(now: Second, method: str, canonical_path: str, body_sha256: str) -> str:
    """Return the signature of a request, in hexadecimal.

    Args:
        now: the second it is signed in.
        method: GET, POST, DELETE.
        canonical_path: the path as it is sent, percent-encoded once more.
        body_sha256: the body's hash, in hexadecimal.
    """
    canonical = f"{method}\n{canonical_path}{now.headers}{body_sha256}"
    inner, outer = now.inner.copy(), now.outer.copy()
    inner.update(f"{now.scope}{sha256(canonical.encode()).hexdigest()}".encode())
    outer.update(inner.digest())
    signed: str = outer.hexdigest()
    return signed


@lru_cache(maxsize=4)
def _key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
