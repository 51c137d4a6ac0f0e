"""AWS Signature Version 4 for requests without a query. Pure.

Invariant: a signature is byte for byte botocore's, which a property test holds it to. What changes once a second is
built once a second, and the key once a day, so that a request costs three short hashes.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, NamedTuple

_BLOCK_BYTES: Final = 64


class Credentials(NamedTuple):
    """What signs, as one consistent set; botocore's frozen credentials look like it."""

    access_key: str
    secret_key: str
    token: str | None


class Second(NamedTuple):
    """All that requests to one host have in common within a second.

    Attributes:
        epoch: which second.
        headers: of the canonical request, from its empty query to the list of their names.
        scope: what the string to sign begins with.
        inner, outer: HMAC's two hashes, with the key in them already (RFC 2104): copying them is half of the work.
        lines: the header lines that are sent, Host to Authorization, up to where the signature goes.
    """

    epoch: int
    headers: str
    scope: str
    inner: Any
    outer: Any
    lines: str


def second(
    epoch: int,
    host: str,
    region: str,
    credentials: Credentials,
    service: str = "execute-api",
    signed_headers: Mapping[str, str] = MappingProxyType({}),
) -> Second:
    """What requests that are signed in that second have in common.

    Args:
        epoch: seconds.
        host: as the Host header says it, with the port unless it is the scheme's own.
        region: the Region that is signed for.
        credentials: who signs.
        service: whose name the signature is for.
        signed_headers: others that are sent and signed.
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
    """The signature of a request, in hexadecimal.

    Args:
        now: the second it is signed in.
        method: GET, POST, DELETE.
        canonical_path: the path as it is sent, percent-encoded once more.
        body_sha256: of the body, in hexadecimal.
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
