"""What API Gateway and DynamoDB answer when they do not do what they were asked, raised as boto3 raises it.

Invariant: code and message are read as botocore reads them, which a property test holds this to; an answer that
botocore fails on is an HTTPClientError.
"""

import json
from http import HTTPStatus
from typing import Any

from botocore import exceptions

from chalicelib.aws.http1 import Answer


class GoneException(exceptions.ClientError):
    """The connection is not there any more."""


class LimitExceededException(exceptions.ClientError):
    """Too many requests, or the receiver does not read."""


class PayloadTooLargeException(exceptions.ClientError):
    """More bytes than a frame may have."""


class ForbiddenException(exceptions.ClientError):
    """The caller may not, or the signature is wrong."""


class ConditionalCheckFailedException(exceptions.ClientError):
    """The item is not as the condition says."""


class TransactionCanceledException(exceptions.ClientError):
    """Nothing of a transaction took place."""


class Refusals:
    """A client's `exceptions`."""

    ClientError = exceptions.ClientError
    GoneException = GoneException
    LimitExceededException = LimitExceededException
    PayloadTooLargeException = PayloadTooLargeException
    ForbiddenException = ForbiddenException
    ConditionalCheckFailedException = ConditionalCheckFailedException
    TransactionCanceledException = TransactionCanceledException


def refusal(answer: Answer, operation: str, retries: int | None) -> exceptions.ClientError | exceptions.HTTPClientError:
    """The error of the operation that the answer is.

    Args:
        answer: with a status of 300 or more.
        operation: its name in the API: PostToConnection.
        retries: how often it was tried again, if that did not help; else None.
    """
    try:
        code, message, told = _read(answer)
    except (ValueError, AttributeError, TypeError) as error:
        return exceptions.HTTPClientError(error=error)
    metadata = response_metadata(answer)
    if retries is not None:
        metadata |= {"MaxAttemptsReached": True, "RetryAttempts": retries}
    kind = _KINDS.get(code, exceptions.ClientError)
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata} | told
    return kind(response, operation)


def response_metadata(answer: Answer) -> dict[str, Any]:
    """What boto3 tells of an answer beside its content."""
    metadata: dict[str, Any] = {"HTTPStatusCode": answer.status, "HTTPHeaders": answer.headers}
    if "x-amzn-requestid" in answer.headers:
        metadata["RequestId"] = answer.headers["x-amzn-requestid"]
    return metadata


def _read(answer: Answer) -> tuple[str, str, dict[str, Any]]:
    text = answer.body.strip()
    if answer.status >= 500 and (not text or text.startswith(b"<html>")):
        return str(answer.status), _REASONS.get(answer.status, ""), {}
    body = _json(answer.body)
    code = answer.headers.get("x-amzn-errortype")
    if code is None:
        code = body.get("code", body.get("Code", body.get("__type", str(answer.status))))
    told = {name: body[name] for name in _TOLD & body.keys()}
    return code.split(":", 1)[0].rsplit("#", 1)[-1], body.get("message", body.get("Message", "")), told


def _json(body: bytes) -> Any:
    text = body.decode() or "{}"
    try:
        return json.loads(text)
    except ValueError:
        return {"message": text}


_KINDS: dict[str, type[exceptions.ClientError]] = {
    kind.__name__: kind
    for kind in (
        *(GoneException, LimitExceededException, PayloadTooLargeException, ForbiddenException),
        *(ConditionalCheckFailedException, TransactionCanceledException),
    )
}
# What DynamoDB tells beside code and message: what stands in the way.
_TOLD = frozenset({"Item", "CancellationReasons"})
_REASONS = {status.value: status.phrase for status in HTTPStatus}
