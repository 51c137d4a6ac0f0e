"""Events as API Gateway sends them, for handlers that are called without it: by `chalice.test.Client` or as functions.

They are built like the gateway's own, so they have exactly the keys that AWS sends.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from localgateway.contract import events
from localgateway.contract.events import ConnectionContext, Event
from localgateway.wire.websocket import NO_CODE_REASON

CONNECTION_ID = "L0SM9cOFvHcCIhw="
CONTEXT = ConnectionContext(
    connection_id=CONNECTION_ID,
    connected_at_ms=0,
    api_id="a1b2c3d4e5",
    stage="api",
    domain_name="a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
    source_ip="192.0.2.7",
    user_agent="tests/1",
)


def connect_event(
    connection_id: str = CONNECTION_ID,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    **about: Any,
) -> Event:
    """Build a $connect event with the present time.

    Args:
        query: the query of the URL; a list repeats its name.
        headers: headers beside those that every client sends.
        about: other fields of ConnectionContext, such as source_ip, stage or authorizer; also `now_ms`.
    """
    context, now_ms = read_about(connection_id, about)
    sent = {
        "Host": context.domain_name,
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-WebSocket-Version": "13",
        **({"User-Agent": context.user_agent} if context.user_agent else {}),
        **(headers or {}),
        "X-Amzn-Trace-Id": events.to_trace_header(now_ms, os.urandom(12)),
        "X-Forwarded-For": context.source_ip,
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    }
    encoded = urlencode(query or {}, doseq=True)
    return events.connect_event(context, headers=sent.items(), query=encoded, request_id=make_id(), now_ms=now_ms)


def message_event(body: Any, connection_id: str = CONNECTION_ID, *, route_key: str = "$default", **about: Any) -> Event:
    """Build the event of one message.

    Args:
        body: the text; anything else is written as JSON.
        about: as for `connect_event`.
    """
    context, now_ms = read_about(connection_id, about)
    return events.message_event(
        context, route_key=route_key, body=to_text(body), message_id=make_id(), request_id=make_id(), now_ms=now_ms
    )


def disconnect_event(
    connection_id: str = CONNECTION_ID, *, code: int = 1005, reason: str | None = None, **about: Any
) -> Event:
    """Build a $disconnect event; by default of a client that closed without a code.

    Args:
        about: as for `connect_event`.
    """
    context, now_ms = read_about(connection_id, about)
    if reason is None:
        reason = NO_CODE_REASON if code == 1005 else ""
    return events.disconnect_event(context, code=code, reason=reason, request_id=make_id(), now_ms=now_ms)


def read_about(connection_id: str, about: dict[str, Any]) -> tuple[ConnectionContext, int]:
    now_ms = about.pop("now_ms", time.time_ns() // 1_000_000)
    return replace(CONTEXT, **{"connection_id": connection_id, "connected_at_ms": now_ms} | about), now_ms


def make_id() -> str:
    return events.to_id(os.urandom(events.ID_BYTES))


def to_text(frame: Any) -> str:
    """Write a frame: text as it is, anything else as JSON."""
    return frame if isinstance(frame, str) else json.dumps(frame)
