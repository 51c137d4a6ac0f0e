"""The client behind every AWS service that Peal calls: it signs a request, sends it, judges the response and retries.

Invariants: no try begins later than `Limits.begin_seconds` after the call; what the last one may take
(`Limits.longest_seconds`) comes on top. A clock that is minutes off is corrected once per call.
"""

import json
import logging
import os
import random
import time
import zlib
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final, Literal

from botocore import exceptions

from chalicelib.aws.errors import Exceptions, refusal
from chalicelib.aws.http import Exchange, Limits
from chalicelib.aws.http1 import Response
from chalicelib.aws.session import Session, boto3_client, credentials_of, find_endpoint, has_proxy
from chalicelib.aws.sigv4 import Credentials, Second, Signer, signed_request
from chalicelib.settings import ClientKind

Failure = exceptions.ClientError | exceptions.BotoCoreError
Read = Callable[[Response], dict[str, Any]]
# What a failed try means: the call has failed, a retry may help, or the clocks may differ.
Verdict = Literal["final", "retry", "skewed"]

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


class SignedClient:
    """Calls one service at one endpoint. Safe in threads.

    Args:
        endpoint: the URL to send to.
        credentials: returns the ones to sign with; asked once a second, so new ones count at once.
        limits: default: the class's own.
        clock, monotonic: return epoch seconds; seconds that never go back.
        sleep, jitter: waits the given seconds; returns a random number from 0 to 1.
    """

    service: str
    limits: Limits
    exceptions = Exceptions

    def __init__(
        self,
        endpoint: str,
        region: str,
        credentials: Callable[[], Credentials],
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.limits = limits or self.limits
        self._exchange = Exchange(endpoint, self.limits, monotonic)
        self._signer = Signer(self._exchange.host, region, self.service, credentials, clock)
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter

    def close(self) -> None:
        """Close the connections that are open and idle."""
        self._exchange.close()

    def judge(self, response: Response | None, failure: Failure) -> Verdict:
        """Return what a failed try means; `response` is None where none came, or only a damaged one."""
        raise NotImplementedError

    def _try(
        self, operation: str, send: Callable[[Second], Response], read: Read, headers: Mapping[str, str] = {}
    ) -> dict[str, Any]:
        """Send a request until it succeeds or `judge` gives up, and return what was read from the response.

        Args:
            operation: its name in the API: PostToConnection.
            send: signs with the given second, sends, and returns the response.
            read: reads a response with a status below 300.
            headers: signed in addition to the usual ones.
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
            if response and verdict == "skewed" and may_set_clock:
                may_set_clock = False
                if self._signer.set_clock(response.headers.get("date", ""), now):
                    continue
            if verdict != "retry":
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

    title: str
    target: str
    extra_headers: Mapping[str, str] = {}

    def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the service's response to the operation, as boto3 does but without ResponseMetadata."""
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
            return "retry"
        code = failure.response["Error"]["Code"]
        if code in _SKEWED_CODES:
            return "skewed"
        return "retry" if code in THROTTLED_CODES or response.status >= 500 else "final"


def operation(name: str) -> Callable[..., dict[str, Any]]:
    """Return a method of a JsonClient that calls the operation with its keyword arguments as parameters."""
    return lambda client, **parameters: client.call(name, parameters)


def connect(ours: type[JsonClient], session: Session, kind: ClientKind) -> Any:
    """Return a client of the service that `ours` calls: one of ours, or boto3's.

    boto3's is returned if it is wanted, and wherever only boto3 knows the endpoint or the way to it.
    """
    region = session.region_name
    endpoint = find_endpoint(os.environ, region, ours.service) if kind == "lean" else None
    if endpoint and not has_proxy(endpoint):
        return ours(endpoint, region, credentials_of(session))
    if kind == "lean":
        log.info("Only boto3 knows the way to %s here, so it asks: it needs more time to start.", ours.title)
    # A $connect that waits for the table still answers within API Gateway's 29 s.
    return boto3_client(session, ours.service, tries=3)


def _checked(response: Response) -> Response:
    """Return the response, unless it is damaged: ChecksumError."""
    expected, actual = response.headers.get("x-amz-crc32"), str(zlib.crc32(response.body))
    if expected not in (None, actual):
        raise exceptions.ChecksumError(checksum_type="crc32", expected_checksum=expected, actual_checksum=actual)
    return response


def _content(response: Response) -> Any:
    try:
        return json.loads(response.body or b"{}")
    except ValueError as error:
        raise exceptions.HTTPClientError(error=error) from error


def _exhausted(failure: Failure, retries: int) -> Failure:
    """Return the failure with the number of retries, as boto3 words it."""
    if not isinstance(failure, exceptions.ClientError):
        return failure
    response: Any = failure.response
    response["ResponseMetadata"] |= {"MaxAttemptsReached": True, "RetryAttempts": retries}
    return type(failure)(response, failure.operation_name)
