"""API Gateway's WebSocket events as frozen records, checked once at the border.

Shields the rest from the raw dict and from Chalice's event class (which knows neither headers nor query, and
turns a missing body into the text 'None'). Source: docs.aws.amazon.com, "Set up a WebSocket API integration
request", input format for proxy integrations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import Invalid
from chalicelib.protocol.names import check_name


@dataclass(frozen=True)
class Context:
    """What every event of a connection says: who, where, when."""

    connection_id: str
    request_id: str
    domain_name: str
    api_id: str
    stage: str
    connected_at_ms: int | None
    source_ip: str | None
    user_agent: str | None


@dataclass(frozen=True)
class Connect:
    """A client asks to connect. `query` holds the last value of each name; header names are lower-case."""

    context: Context
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Message:
    """A client sent a text frame; `body` is its text."""

    context: Context
    body: str


@dataclass(frozen=True)
class Disconnect:
    """A socket closed. Best effort: API Gateway may deliver it late or never."""

    context: Context


def parse_connect(event: Mapping[str, Any]) -> Connect:
    """Raises Invalid where the event has no usable connectionId."""
    headers = {name.lower(): value for name, value in _texts(event.get("headers")).items()}
    return Connect(_context(event), _texts(event.get("queryStringParameters")), headers)


def parse_message(event: Mapping[str, Any]) -> Message:
    """Raises Invalid where the event has no usable connectionId. A missing body is an empty one."""
    body = event.get("body")
    return Message(_context(event), body if isinstance(body, str) else "")


def parse_disconnect(event: Mapping[str, Any]) -> Disconnect:
    """Raises Invalid where the event has no usable connectionId."""
    return Disconnect(_context(event))


def _context(event: Mapping[str, Any]) -> Context:
    context = event.get("requestContext")
    if not isinstance(context, Mapping):
        raise Invalid("requestContext", "is missing from the event")
    identity = context.get("identity")
    identity = identity if isinstance(identity, Mapping) else {}
    connected_at = context.get("connectedAt")
    return Context(
        connection_id=check_name(context.get("connectionId"), "connectionId"),
        request_id=_text(context, "requestId") or "",
        domain_name=_text(context, "domainName") or "",
        api_id=_text(context, "apiId") or "",
        stage=_text(context, "stage") or "",
        connected_at_ms=connected_at if type(connected_at) is int and connected_at > 0 else None,
        source_ip=_text(identity, "sourceIp"),
        user_agent=_text(identity, "userAgent"),
    )


def _text(mapping: Mapping[str, Any], key: str) -> str | None:
    value = mapping.get(key)
    return value if isinstance(value, str) else None


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {name: text for name, text in value.items() if isinstance(text, str)}
