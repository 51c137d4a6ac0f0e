"""What a service answers when it refuses, raised as boto3 raises it.

Invariant: code and message are read as botocore reads them, which a property test checks; a response that botocore
cannot read is an HTTPClientError.
"""

import json
from http import HTTPStatus
from typing import Any, Final

from botocore import exceptions

from chalicelib.aws.http1 import Response


class Exceptions:
    """A client's `exceptions`, by boto3's names: those of @connections, and what conditions raise in DynamoDB."""

    ClientError = exceptions.ClientError

    class GoneException(exceptions.ClientError):
        """The connection is not there any more."""

    class LimitExceededException(exceptions.ClientError):
        """Too many requests, or the receiver does not read."""

    class PayloadTooLargeException(exceptions.ClientError):
        """The data is larger than a frame may be."""

    class ForbiddenException(exceptions.ClientError):
        """The caller lacks permission, or the signature is wrong."""

    class ConditionalCheckFailedException(exceptions.ClientError):
        """The item does not meet the condition."""

    class TransactionCanceledException(exceptions.ClientError):
        """No part of the transaction took place."""


_CLASSES: Final[dict[str, Any]] = {
    name: kind for name, kind in vars(Exceptions).items() if name != "ClientError" and isinstance(kind, type)
}
# What DynamoDB says beside code and message: the item that is in the way.
_DETAILS: Final = frozenset({"Item", "CancellationReasons"})
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


def refusal(response: Response, operation: str) -> exceptions.ClientError | exceptions.HTTPClientError:
    """Return the exception that the response means.

    Args:
        response: one with a status of 300 or more.
        operation: the operation's name in the API: PostToConnection.
    """
    try:
        code, message, details = _read(response)
    except (ValueError, AttributeError, TypeError) as error:
        return exceptions.HTTPClientError(error=error)
    content: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": response_metadata(response)}
    refused: exceptions.ClientError = _CLASSES.get(code, exceptions.ClientError)(content | details, operation)
    return refused


def response_metadata(response: Response) -> dict[str, Any]:
    """Return what boto3 says about a response beside its content."""
    metadata: dict[str, Any] = {"HTTPStatusCode": response.status, "HTTPHeaders": response.headers}
    if "x-amzn-requestid" in response.headers:
        metadata["RequestId"] = response.headers["x-amzn-requestid"]
    return metadata


def _read(response: Response) -> tuple[str, str, dict[str, Any]]:
    text = response.body.strip()
    if response.status >= 500 and (not text or text.startswith(b"<html>")):
        return str(response.status), _REASONS.get(response.status, ""), {}
    body = _json(response.body)
    headers = response.headers
    code = headers.get("x-amzn-errortype")
    if code is None:
        code = body.get("code", body.get("Code", body.get("__type", str(response.status))))
    code = code.split(":", 1)[0].rsplit("#", 1)[-1]
    # SQS's code in its older protocol, which boto3 still uses.
    older, *fault = headers.get("x-amzn-query-error", "").split(";")
    details = {name: body[name] for name in _DETAILS & body.keys()}
    return older if older and len(fault) == 1 else code, body.get("message", body.get("Message", "")), details


def _json(body: bytes) -> Any:
    text = body.decode() or "{}"
    try:
        return json.loads(text)
    except ValueError:
        return {"message": text}
