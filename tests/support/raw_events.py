"""API Gateway's WebSocket events at one moment in time; a test says what its own event has otherwise in its context."""

from typing import Any

from localgateway.testing import connect_event, disconnect_event, message_event

ID = "L0SM9cOFvHcCIhw="
CONNECTED_AT_MS = 1_795_426_200_125
ABOUT = {
    "domain_name": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
    "connected_at_ms": CONNECTED_AT_MS,
    "now_ms": CONNECTED_AT_MS,
}


def connect(connection_id: Any = ID, query: dict[str, str] | None = None, **overrides: Any) -> Any:
    return override(connect_event(connection_id, query, **ABOUT), overrides)


def message(body: str, connection_id: Any = ID, **overrides: Any) -> Any:
    return override(message_event(body, connection_id, **ABOUT), overrides)


def disconnect(connection_id: Any = ID, **overrides: Any) -> Any:
    return override(disconnect_event(connection_id, **ABOUT), overrides)


def override(event: Any, overrides: dict[str, Any]) -> Any:
    event["requestContext"] |= {"requestId": "R1knPH17NjMFftw="} | overrides
    return event
