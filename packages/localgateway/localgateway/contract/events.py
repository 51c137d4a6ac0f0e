"""The events API Gateway sends to the Lambda functions of a WebSocket API, and the ids in them.

Pure: no clock, no randomness, no I/O. A key that AWS leaves out is left out here too, never null or empty:
handlers that work locally must not rely on a key that production does not send.

Source: "Set up a WebSocket API integration request" of the API Gateway developer guide, and recorded events.
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

Event = dict[str, Any]

ID_BYTES = 11
"""How many random bytes make an id: 15 base64url characters and one `=`."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# What the handshake needs and the $connect event never shows.
HIDDEN_HEADERS = frozenset({"connection", "upgrade"})


@dataclass(frozen=True, slots=True)
class ConnectionContext:
    """What every event of a connection says about it.

    Attributes:
        connected_at_ms: in epoch milliseconds.
        authorizer: what the authorizer returned about the client, None without an authorizer.
    """

    connection_id: str
    connected_at_ms: int
    api_id: str
    stage: str
    domain_name: str
    source_ip: str
    user_agent: str | None
    authorizer: Mapping[str, str] | None = None


def to_id(random_bytes: bytes) -> str:
    """Write `ID_BYTES` bytes in the shape of AWS's connection, request and message ids: `L0SM9cOFvHcCIhw=`."""
    return urlsafe_b64encode(random_bytes).decode()


def to_trace_header(now_ms: int, random_bytes: bytes) -> str:
    """Write the X-Ray header of a new trace; 12 random bytes make its 24 hex digits."""
    return f"Root=1-{now_ms // 1000:08x}-{random_bytes.hex()}"


def connect_event(
    context: ConnectionContext,
    *,
    headers: Iterable[tuple[str, str]],
    query: str,
    request_id: str,
    now_ms: int,
) -> Event:
    """Build the $connect event: the only one that carries the client's headers and query.

    Args:
        headers: in the order and case they were sent, repeated names included.
        query: what follows the `?` of the URL, still encoded; empty if there was none.
    """
    shown = [(name, value) for name, value in headers if name.lower() not in HIDDEN_HEADERS]
    event: Event = {"headers": dict(shown), "multiValueHeaders": gather(shown)}
    pairs = parse_qsl(query, keep_blank_values=True)
    if pairs:
        event["queryStringParameters"] = dict(pairs)
        event["multiValueQueryStringParameters"] = gather(pairs)
    event["requestContext"] = request_context(context, "$connect", "CONNECT", request_id=request_id, now_ms=now_ms)
    event["isBase64Encoded"] = False
    return event


def authorizer_event(
    context: ConnectionContext,
    *,
    arn: str,
    headers: Iterable[tuple[str, str]],
    query: str,
    request_id: str,
    now_ms: int,
) -> Event:
    """Build the event of a REQUEST authorizer: all of the handshake, with maps that are present even if empty.

    Source: "Control access to WebSocket APIs with AWS Lambda REQUEST authorizers" of the developer guide.
    """
    shown = [*headers, ("content-length", "0")]
    pairs = parse_qsl(query, keep_blank_values=True)
    return {
        "type": "REQUEST",
        "methodArn": arn,
        "headers": dict(shown),
        "multiValueHeaders": gather(shown),
        "queryStringParameters": dict(pairs),
        "multiValueQueryStringParameters": gather(pairs),
        "stageVariables": {},
        "requestContext": request_context(context, "$connect", "CONNECT", request_id=request_id, now_ms=now_ms),
    }


def to_method_arn(context: ConnectionContext, *, region: str, account_id: str) -> str:
    """Write the ARN of this API's $connect route, which an authorizer decides on."""
    return f"arn:aws:execute-api:{region}:{account_id}:{context.api_id}/{context.stage}/$connect"


def message_event(
    context: ConnectionContext, *, route_key: str, body: str, message_id: str, request_id: str, now_ms: int
) -> Event:
    """Build the event of one text message: its context and its body, no headers and no query."""
    return {
        "requestContext": request_context(
            context, route_key, "MESSAGE", messageId=message_id, request_id=request_id, now_ms=now_ms
        ),
        "body": body,
        "isBase64Encoded": False,
    }


def disconnect_event(context: ConnectionContext, *, code: int, reason: str, request_id: str, now_ms: int) -> Event:
    """Build the $disconnect event: how the connection closed, and four headers that are always the same."""
    headers = {"Host": context.domain_name, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
    return {
        "headers": headers,
        "multiValueHeaders": gather(headers.items()),
        "requestContext": request_context(
            context,
            "$disconnect",
            "DISCONNECT",
            disconnectStatusCode=code,
            disconnectReason=reason,
            request_id=request_id,
            now_ms=now_ms,
        ),
        "isBase64Encoded": False,
    }


def request_context(
    context: ConnectionContext,
    route_key: str,
    event_type: str,
    *,
    request_id: str,
    now_ms: int,
    **particular: object,
) -> dict[str, object]:
    """Build the `requestContext` that all three events share; `particular` is what this one adds."""
    identity = {"sourceIp": context.source_ip}
    authorizer = {} if context.authorizer is None else {"authorizer": dict(context.authorizer)}
    if context.user_agent is not None:
        identity["userAgent"] = context.user_agent
    return {
        "routeKey": route_key,
        **particular,
        **authorizer,
        "eventType": event_type,
        "extendedRequestId": request_id,
        "requestTime": to_request_time(now_ms),
        "messageDirection": "IN",
        "stage": context.stage,
        "connectedAt": context.connected_at_ms,
        "requestTimeEpoch": now_ms,
        "identity": identity,
        "requestId": request_id,
        "domainName": context.domain_name,
        "connectionId": context.connection_id,
        "apiId": context.api_id,
    }


def to_request_time(now_ms: int) -> str:
    """Write epoch milliseconds as `20/Jan/2024:11:55:00 +0000`, whatever the locale calls January."""
    moment = datetime.fromtimestamp(now_ms // 1000, UTC)
    return f"{moment:%d}/{MONTHS[moment.month - 1]}/{moment:%Y:%H:%M:%S} +0000"


def gather(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Collect all values of each name, in order."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values
