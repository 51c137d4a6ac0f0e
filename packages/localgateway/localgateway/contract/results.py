"""What API Gateway reads in the result of a Lambda proxy integration; what it cannot use is a failure.

Pure, and the same for every route: a status for all of them, one header on $connect, a body where a route responds.
"""

from collections.abc import Mapping
from typing import Any

from localgateway.contract.invoke import Result


class IntegrationFailure(Exception):
    """A function failed, or returned what API Gateway cannot use."""


def read_status(result: Result) -> int:
    """Return the status code of a Lambda proxy result.

    Raises:
        IntegrationFailure: the result has no status, or not a final one.
    """
    status = result.payload.get("statusCode") if isinstance(result.payload, dict) else None
    if isinstance(status, str) and status.isdecimal():
        status = int(status)
    if result.outcome != "ok" or not isinstance(status, int) or not 200 <= status <= 599:
        raise IntegrationFailure
    return status


def read_subprotocol(payload: Mapping[str, Any]) -> str | None:
    """Return the one header of a $connect result that reaches the client: Sec-WebSocket-Protocol.

    Raises:
        IntegrationFailure: if an HTTP response cannot carry it.
    """
    for headers in (payload.get("multiValueHeaders"), payload.get("headers")):
        if headers is not None and not isinstance(headers, dict):
            raise IntegrationFailure
        for name, value in (headers or {}).items():
            if name.lower() == "sec-websocket-protocol":
                text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                if not text.isascii() or not text.isprintable():
                    raise IntegrationFailure
                return text
    return None


def read_body(payload: Mapping[str, Any], max_bytes: int) -> bytes | None:
    """Return the body that a route response sends to the client, whatever the status, or None.

    Raises:
        IntegrationFailure: if it is not text, or longer than a message may be.
    """
    body = payload.get("body")
    if body is None:
        return None
    if not isinstance(body, str) or len(text := body.encode(errors="replace")) > max_bytes:
        raise IntegrationFailure
    return text


def describe(result: Result) -> str:
    """Describe for the log how an invocation ended: its status, or why it has none."""
    try:
        return str(read_status(result))
    except IntegrationFailure:
        return "malformed result" if result.outcome == "ok" else result.outcome
