"""The client behind every AWS service that Peal calls: it signs a request, sends it, judges the response and retries.

Invariants: a call raises what boto3's client would raise. No try begins later than `Limits.begin_seconds` after the
call; what the last one may take (`Limits.longest_seconds`) comes on top. A clock that is minutes off is corrected
once per call. As with boto3, a retry after a lost response can do the same thing twice.
"""

import json
import logging
import os
import random
import ssl
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum, auto
from hashlib import sha256
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeVar

from botocore import exceptions

from chalicelib.aws.errors import Exceptions, refusal
from chalicelib.aws.http import Exchange, Limits
from chalicelib.aws.http1 import Response
from chalicelib.aws.session import Session, boto3_client, credentials_of, find_endpoint, has_proxy, trust
from chalicelib.aws.sigv4 import Credentials, Second, Signer, signature
from chalicelib.settings import ClientKind

Failure = exceptions.ClientError | exceptions.BotoCoreError
T = TypeVar("T")

# What botocore's standard mode calls throttled, as far as these services say it.
THROTTLED_CODES: Final = frozenset(
    {
        *("ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled"),
        *("Throttling", "ThrottlingException", "TooManyRequestsException"),
        # The same transaction, sent before, is still under way.
        "TransactionInProgressException",
    }
)
_SKEWED_CODES: Final = frozenset({"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"})

log = logging.getLogger(__name__)


class Verdict(Enum):
    """What a failed try means: the call has failed, a retry may help, or the clocks may differ."""

    FINAL = auto()
    RETRY = auto()
    SKEWED = auto()


class SignedClient(ABC):
    """Calls one service at one endpoint. Safe in threads.

    Args:
        endpoint: the URL to send to.
        region: the Region to sign for.
        credentials: returns the ones to sign with; asked once a second, so new ones count at once.
        tls: how certificates are checked; None for an endpoint without TLS.
        limits: default: the class's own.
        clock, monotonic: return epoch seconds; seconds that never go back.
        sleep, jitter: waits the given seconds; returns a random number from 0 to 1.
    """

    service: ClassVar[str]
    limits: Limits
    exceptions = Exceptions

    def __init__(
        self,
        endpoint: str,
        region: str,
        credentials: Callable[[], Credentials],
        tls: ssl.SSLContext | None,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.limits = limits or self.limits
        self._exchange = Exchange(endpoint, tls, self.limits, monotonic)
        self._signer = Signer(self._exchange.host, region, self.service, credentials, clock)
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter

    def close(self) -> None:
        """Close the connections that are open and idle."""
        self._exchange.close()

    @abstractmethod
    def judge(self, response: Response | None, failure: Failure) -> Verdict:
        """Return what a failed try means.

        Args:
            response: None where none came, or only a damaged one.
            failure: what the call raises unless it is retried.
        """

    def _try(
        self,
        operation: str,
        send: Callable[[Second], Response],
        read: Callable[[Response], T],
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> T:
        """Send a request until it succeeds or `judge` gives up, and return what was read from the response.

        Args:
            operation: its name in the API: PostToConnection.
            send: signs with the given second, sends, and returns the response.
            read: returns what the caller wants of a response with a status below 300.
            headers: sent and signed in addition to the usual ones.

        Raises:
            ClientError: the service refused.
            BotoCoreError: no response came, or an unreadable one; there are no credentials.
        """
        limits = self.limits
        last_begin = self._monotonic() + limits.begin_seconds
        longest_pause, tries, may_set_clock = limits.first_pause_seconds, 1, True
        while True:
            now = self._signer.now(operation, headers)
            response = None
            failure: Failure
            try:
                response = send(now)
                if response.status < 300:
                    return read(response)
                failure = refusal(response, operation)
            except (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.ChecksumError) as error:
                failure = error
            verdict = self.judge(response, failure)
            if response and verdict is Verdict.SKEWED and may_set_clock:
                may_set_clock = False
                if self._signer.set_clock(response.headers.get("date", ""), now):
                    continue
            if verdict is not Verdict.RETRY:
                raise failure
            pause = self._jitter() * longest_pause
            if tries == limits.tries or self._monotonic() + pause > last_begin:
                raise _exhausted(failure, tries - 1)
            self._sleep(pause)
            longest_pause, tries = longest_pause * 2, tries + 1


class JsonClient(SignedClient):
    """Calls a service that speaks AWS's JSON protocol, version 1.0.

    Source: https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html
    """

    title: ClassVar[str]
    target: ClassVar[str]
    extra_headers: ClassVar[Mapping[str, str]] = {}

    def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the service's response to the operation, as boto3 does but without ResponseMetadata.

        Raises:
            ClientError: the service refused.
            BotoCoreError: no response came, or an unreadable one; there are no credentials.
        """
        body = json.dumps(parameters).encode()

        def send(now: Second) -> Response:
            return _checked(self._exchange.send(signed_request(now, "POST", "/", "/", body, sha256(body).hexdigest())))

        return self._try(operation, send, _content, self.headers(operation))

    @classmethod
    def headers(cls, operation: str) -> dict[str, str]:
        """Return the headers that are sent and signed in addition to the usual ones."""
        target = f"{cls.target}.{operation}"
        return {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": target, **cls.extra_headers}

    def judge(self, response: Response | None, failure: Failure) -> Verdict:
        """Retry what is throttled, answered 5xx, damaged or not answered."""
        if response is None or not isinstance(failure, exceptions.ClientError):
            return Verdict.RETRY
        code = failure.response["Error"]["Code"]
        if code in _SKEWED_CODES:
            return Verdict.SKEWED
        return Verdict.RETRY if code in THROTTLED_CODES or response.status >= 500 else Verdict.FINAL


def connect(ours: type[JsonClient], session: Session, kind: ClientKind, config: Mapping[str, Any]) -> Any:
    """Return a client of a service for the session: one of `ours`, or boto3's.

    Args:
        ours: our client's class.
        session: gives credentials and Region.
        kind: which client is wanted; boto3's is returned wherever only boto3 knows the endpoint, or the way to it.
        config: the configuration of boto3's client.
    """
    region = session.region_name
    endpoint = find_endpoint(os.environ, region, ours.service) if kind == "lean" else None
    if endpoint is None or has_proxy(endpoint):
        if kind == "lean":
            log.info("Only boto3 knows the way to %s here, so it asks: it needs more time to start.", ours.title)
        return boto3_client(session, ours.service, config)
    return ours(endpoint, region, credentials_of(session), trust() if endpoint.startswith("https:") else None)


def signed_request(now: Second, method: str, path: str, canonical_path: str, body: bytes, body_sha256: str) -> bytes:
    """Return the bytes of a request: see `signature`."""
    signed = signature(now, method, canonical_path, body_sha256)
    head = f"{method} {path} HTTP/1.1\r\n{now.lines}{signed}\r\nUser-Agent: Peal\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _checked(response: Response) -> Response:
    """Return the response, unless it is damaged: ChecksumError."""
    expected, actual = response.headers.get("x-amz-crc32"), str(zlib.crc32(response.body))
    if expected not in (None, actual):
        raise exceptions.ChecksumError(checksum_type="crc32", expected_checksum=expected, actual_checksum=actual)
    return response


def _content(response: Response) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(response.body or b"{}")
    except ValueError as error:
        raise exceptions.HTTPClientError(error=error) from error
    return content


def _exhausted(failure: Failure, retries: int) -> Failure:
    """Return the failure with the number of retries, as boto3 words it."""
    if not isinstance(failure, exceptions.ClientError):
        return failure
    response: Any = failure.response
    response["ResponseMetadata"] |= {"MaxAttemptsReached": True, "RetryAttempts": retries}
    return type(failure)(response, failure.operation_name)
