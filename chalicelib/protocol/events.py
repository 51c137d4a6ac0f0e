"""API Gateway's WebSocket events as frozen records, checked once on arrival.

No other module sees the raw dict, or Chalice's event class, which has neither headers nor query and turns a missing
body into the text 'None'. Source: docs.aws.amazon.com, "Set up a WebSocket API integration request", input format for
proxy integrations.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from chalicelib.errors import Invalid
from chalicelib.protocol.names import check_name


class Context(NamedTuple):
    """What every event of a connection has."""

    connection_id: str
    request_id: str
    domain_name: str
    api_id: str
    stage: str
    connected_at_ms: int | None
    source_ip: str | None
    user_agent: str | None


class ConnectEvent(NamedTuple):
    """A client wants to connect. `query` has the last value of each name; the names of headers are lower-case."""

    context: Context
    query: Mapping[str, str]
    headers: Mapping[str, str]


class MessageEvent(NamedTuple):
    """A client sent a text frame, `body`."""

    context: Context
    body: str


class DisconnectEvent(NamedTuple):
    """A socket closed. Best effort: API Gateway may deliver it late or never."""

    context: Context


def parse_connect(event: Mapping[str, Any]) -> ConnectEvent:
    """Read a $connect event. Raises Invalid if it has no usable connectionId."""
    headers = {name.lower(): value for name, value in _texts(event.get("headers")).items()}
    return ConnectEvent(_context(event), _texts(event.get("queryStringParameters")), headers)


def parse_message(event: Mapping[str, Any]) -> MessageEvent:
    """Read an event of a client's frame; a missing body is an empty one. Raises Invalid if it has no connectionId."""
    body = event.get("body")
    return MessageEvent(_context(event), body if isinstance(body, str) else "")


def parse_disconnect(event: Mapping[str, Any]) -> DisconnectEvent:
    """Read a $disconnect event. Raises Invalid if it has no usable connectionId."""
    return DisconnectEvent(_context(event))


def _context(event: Mapping[str, Any]) -> Context:
    context = event.get("requestContext")
    if not isinstance(context, Mapping):
        raise Invalid("requestContext", "is missing from the event")
    texts, identity = _texts(context), _texts(context.get("identity"))
    connected_at = context.get("connectedAt")
    return Context(
        connection_id=check_name(context.get("connectionId"), "connectionId"),
        request_id=texts.get("requestId", ""),
        domain_name=texts.get("domainName", ""),
        api_id=texts.get("apiId", ""),
        stage=texts.get("stage", ""),
        connected_at_ms=connected_at if type(connected_at) is int and connected_at > 0 else None,
        source_ip=identity.get("sourceIp"),
        user_agent=identity.get("userAgent"),
    )


def _texts(value: object) -> dict[str, str]:
    fields = value if isinstance(value, Mapping) else {}
    return {name: text for name, text in fields.items() if isinstance(text, str)}
