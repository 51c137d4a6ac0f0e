"""AWS Signature Version 4 for requests that have neither a query nor headers to sign of their own. Pure.

Invariant: a signature is byte for byte botocore's, which a property test holds it to. What changes once a second is
built once a second, and the key once a day, so that a request costs two hashes.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hmac
import time
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple
from urllib.parse import quote

SERVICE: Final = "execute-api"


class Credentials(NamedTuple):
    """What signs, as one consistent set; botocore's frozen credentials have the same fields first."""

    access_key: str
    secret_key: str
    token: str | None


class Second(NamedTuple):
    """All that requests to one host have in common within a second.

    Attributes:
        key: signs.
        headers: of the canonical request, with the list of their names.
        scope: what the string to sign begins with.
        lines: the header lines that are sent, up to where the signature goes.
    """

    key: bytes
    headers: str
    scope: str
    lines: str


def signed_headers(
    method: str, path: str, body_sha256: str, host: str, region: str, credentials: Credentials, epoch: int
) -> str:
    """The header lines Host to Authorization that make a request signed.

    Args:
        method: GET, POST, DELETE.
        path: as it is sent, percent-encoded.
        body_sha256: of the body, in hexadecimal.
        host: as it is sent, with the port unless it is the scheme's own.
        region: the Region that is signed for.
        credentials: who signs.
        epoch: when, in seconds.
    """
    second = _second(host, region, credentials, epoch)
    canonical = f"{method}\n{quote(path, safe='/~')}{second.headers}{body_sha256}"
    text = second.scope + sha256(canonical.encode()).hexdigest()
    return f"{second.lines}{hmac.digest(second.key, text.encode(), 'sha256').hex()}\r\n"


@lru_cache(maxsize=4)
def _second(host: str, region: str, credentials: Credentials, epoch: int) -> Second:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(epoch))
    day = stamp[:8]
    scope = f"{day}/{region}/{SERVICE}/aws4_request"
    headers = {"Host": host, "X-Amz-Date": stamp}
    if credentials.token:
        headers["X-Amz-Security-Token"] = credentials.token
    # Their order is alphabetical, as it must be.
    canonical = "".join(f"{name.lower()}:{value}\n" for name, value in headers.items())
    names = ";".join(headers).lower()
    sent = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return Second(
        key=_key(credentials.secret_key, day, region),
        headers=f"\n\n{canonical}\n{names}\n",
        scope=f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n",
        lines=f"{sent}Authorization: AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature=",
    )


@lru_cache(maxsize=4)
def _key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, SERVICE, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
