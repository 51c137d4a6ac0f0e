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

    class GoneException(exceptions.ClientError): ...

    class LimitExceededException(exceptions.ClientError): ...

    class PayloadTooLargeException(exceptions.ClientError): ...

    class ForbiddenException(exceptions.ClientError): ...

    class ConditionalCheckFailedException(exceptions.ClientError): ...

    class TransactionCanceledException(exceptions.ClientError): ...


_CLASSES: Final[dict[str, Any]] = {name: kind for name, kind in vars(Exceptions).items() if isinstance(kind, type)}
# What DynamoDB says besides code and message: the item that is in the way.
_DETAILS: Final = frozenset({"Item", "CancellationReasons"})
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


def refusal(response: Response, operation: str) -> exceptions.ClientError | exceptions.HTTPClientError:
    """Return the exception that a response with a status of 300 or more means; `operation` is its name in the API."""
    try:
        code, message, details = _read(response)
    except (ValueError, AttributeError, TypeError) as error:
        return exceptions.HTTPClientError(error=error)
    content: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": response_metadata(response)}
    refused: exceptions.ClientError = _CLASSES.get(code, exceptions.ClientError)(content | details, operation)
    return refused


def response_metadata(response: Response) -> dict[str, Any]:
    """Return what boto3 says about a response besides its content."""
    metadata: dict[str, Any] = {"HTTPStatusCode": response.status, "HTTPHeaders": response.headers}
    if "x-amzn-requestid" in response.headers:
        metadata["RequestId"] = response.headers["x-amzn-requestid"]
    return metadata


def _read(response: Response) -> tuple[str, str, dict[str, Any]]:
    stripped = response.body.strip()
    if response.status >= 500 and (not stripped or stripped.startswith(b"<html>")):
        return str(response.status), _REASONS.get(response.status, ""), {}
    text, headers = response.body.decode() or "{}", response.headers
    try:
        body = json.loads(text)
    except ValueError:
        body = {"message": text}
    code = headers.get("x-amzn-errortype")
    if code is None:
        code = body.get("code", body.get("Code", body.get("__type", str(response.status))))
    code = code.split(":", 1)[0].rsplit("#", 1)[-1]
    # SQS's code in its older protocol, which boto3 still uses.
    older, *fault = headers.get("x-amzn-query-error", "").split(";")
    details = {name: body[name] for name in _DETAILS & body.keys()}
    return older if older and len(fault) == 1 else code, body.get("message", body.get("Message", "")), details
