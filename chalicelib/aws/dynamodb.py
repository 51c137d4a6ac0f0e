"""A client of DynamoDB that does what boto3's does for `table`, but starts at once.

Invariants: what it returns and raises is what boto3 returns and raises, but for ResponseMetadata and for binary
values, which stay base64; tried again is what was throttled, answered 5xx or damaged, or not answered. So, as with
boto3, a write whose answer was lost is sent again, though it may have taken place; a transaction takes place once.

Why not boto3, with figures: docs/decisions/table-client.md.
Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html
"""

import json
import logging
import os
import random
import re
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from botocore import exceptions

from chalicelib.aws.errors import Refusals, refusal
from chalicelib.aws.exchange import Exchange
from chalicelib.aws.http1 import Answer
from chalicelib.aws.session import Session, boto3_client, credentials_of, has_proxy, trust
from chalicelib.aws.signer import Signer
from chalicelib.aws.sigv4 import Credentials, Second, signature
from chalicelib.settings import ClientKind

TRIES: Final = 5
# Full jitter: a pause is anything from nothing to twice as much as the one before could be, 1.5 s in the mean of all.
FIRST_PAUSE_SECONDS: Final = 0.2
# No try begins later than that after the call: a $connect that waits for the table answers within API Gateway's 29 s.
BEGIN_SECONDS: Final = 8
# A page is 1 MB of items as DynamoDB counts them; names of types and JSON's escapes come on top.
MAX_BODY_BYTES: Final = 16 * 2**20
_THROTTLED: Final = {
    *("ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"),
    # The same transaction, sent before, is still under way.
    "TransactionInProgressException",
}
_SKEWED: Final = {"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"}
# What decides about endpoints in ways that only boto3 knows.
_ONLY_BOTO3: Final = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT")
# Regions whose hosts are under amazonaws.com.
_REGION: Final = re.compile(r"(?!us-iso)(af|ap|ca|eu|il|me|mx|sa|us)-[a-z-]+-\d")

log = logging.getLogger(__name__)


def _operation(name: str) -> Callable[..., Any]:
    return lambda client, **asked: client.call(name, asked)


class LeanDynamoDB:
    """Asks one endpoint. Safe in threads.

    Args:
        endpoint: its URL.
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
        self._exchange = Exchange(endpoint, tls, monotonic, MAX_BODY_BYTES)
        self._signer = Signer(self._exchange.host, region, "dynamodb", credentials, clock)
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter

    get_item, query, scan = _operation("GetItem"), _operation("Query"), _operation("Scan")
    put_item, update_item, delete_item = _operation("PutItem"), _operation("UpdateItem"), _operation("DeleteItem")
    batch_write_item, transact_write_items = _operation("BatchWriteItem"), _operation("TransactWriteItems")

    def close(self) -> None:
        """No connection is kept open."""
        self._exchange.close()

    def call(self, operation: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What DynamoDB answers to the operation. Errors as boto3's."""
        if operation == "TransactWriteItems":
            # As boto3 does: sent again, it takes place once and is answered as if for the first time.
            asked = {"ClientRequestToken": os.urandom(16).hex(), **asked}
        body = json.dumps(asked).encode()
        last_begin = self._monotonic() + BEGIN_SECONDS
        longest_pause, tries, may_set_clock = FIRST_PAUSE_SECONDS, 1, True
        while True:
            now = self._signer.now(operation, headers(operation))
            failure: exceptions.ClientError | exceptions.BotoCoreError
            try:
                answer = _checked(self._exchange.ask(request(now, body)))
                if answer.status < 300:
                    return _content(answer)
                failure = refusal(answer, operation, retries=None)
                if may_set_clock and _code(failure) in _SKEWED and self._signer.set_clock(answer, now):
                    may_set_clock = False
                    continue
            except (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.ChecksumError) as error:
                failure = error
            pause = self._jitter() * longest_pause
            if not _is_for_now(failure) or tries == TRIES or self._monotonic() + pause > last_begin:
                raise failure
            self._sleep(pause)
            longest_pause, tries = longest_pause * 2, tries + 1


def connect(session: Session, kind: ClientKind, config: Mapping[str, Any]) -> Any:
    """A client of DynamoDB for the session.

    Args:
        session: whose credentials and Region it is.
        kind: which client; boto3's in any case where only boto3 knows the endpoint, or the way to it.
        config: what boto3's client is given.
    """
    region = session.region_name
    endpoint = find_endpoint(os.environ, region) if kind == "lean" else None
    if endpoint is None or has_proxy(endpoint):
        if kind == "lean":
            log.info("Only boto3 knows the way to DynamoDB here, so it asks: it needs more time to start.")
        return boto3_client(session, "dynamodb", config)
    return LeanDynamoDB(endpoint, region, credentials_of(session), trust() if endpoint.startswith("https:") else None)


def find_endpoint(environ: Mapping[str, str], region: str | None) -> str | None:
    """The URL of DynamoDB in the Region, as boto3 finds it, or None where that is boto3's to know."""
    if region is None or any(environ.get(name) for name in _ONLY_BOTO3):
        return None
    if told := environ.get("AWS_ENDPOINT_URL_DYNAMODB") or environ.get("AWS_ENDPOINT_URL"):
        return None if urlsplit(told).path.strip("/") else told
    has_file = Path(environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser().exists()
    return None if has_file or not _REGION.fullmatch(region) else f"https://dynamodb.{region}.amazonaws.com"


def request(now: Second, body: bytes) -> bytes:
    """The bytes of a request, signed in that second."""
    signed = signature(now, "POST", "/", sha256(body).hexdigest())
    head = f"POST / HTTP/1.1\r\n{now.lines}{signed}\r\nUser-Agent: Peal\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def headers(operation: str) -> Mapping[str, str]:
    """What is sent and signed with requests for the operation, beside what always is."""
    return {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"DynamoDB_20120810.{operation}"}


def _checked(answer: Answer) -> Answer:
    """Return the answer as it came, unless it is not as it was sent."""
    expected, actual = answer.headers.get("x-amz-crc32"), str(zlib.crc32(answer.body))
    if expected not in (None, actual):
        raise exceptions.ChecksumError(checksum_type="crc32", expected_checksum=expected, actual_checksum=actual)
    return answer


def _content(answer: Answer) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(answer.body or b"{}")
    except ValueError as error:
        raise exceptions.HTTPClientError(error=error) from error
    return found


def _code(failure: exceptions.ClientError | exceptions.BotoCoreError) -> str:
    return failure.response["Error"]["Code"] if isinstance(failure, exceptions.ClientError) else ""


def _is_for_now(failure: exceptions.ClientError | exceptions.BotoCoreError) -> bool:
    if not isinstance(failure, exceptions.ClientError):
        return True
    return _code(failure) in _THROTTLED or failure.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
