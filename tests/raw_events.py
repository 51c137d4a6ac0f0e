"""API Gateway's three WebSocket events as a Lambda gets them, as short as a test wants them."""

from typing import Any

DOMAIN = "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"
CONNECTED_AT_MS = 1_795_426_200_125


def context(connection_id: object, **overrides: Any) -> dict[str, Any]:
    return {
        "routeKey": "$default",
        "requestId": "R1knPH17NjMFftw=",
        "domainName": DOMAIN,
        "apiId": "a1b2c3d4e5",
        "stage": "api",
        "connectionId": connection_id,
        "connectedAt": CONNECTED_AT_MS,
        "identity": {"sourceIp": "192.0.2.7", "userAgent": "tests/1"},
    } | overrides


def connect(connection_id: object = "L0SM9cOFvHcCIhw=", query: dict[str, str] | None = None, **overrides: Any) -> Any:
    event: dict[str, Any] = {
        "headers": {"Host": DOMAIN, "X-Forwarded-Proto": "https"},
        "requestContext": context(connection_id, routeKey="$connect", eventType="CONNECT", **overrides),
        "isBase64Encoded": False,
    }
    return event | {"queryStringParameters": query} if query else event


def message(body: str, connection_id: object = "L0SM9cOFvHcCIhw=", **overrides: Any) -> Any:
    return {
        "requestContext": context(connection_id, eventType="MESSAGE", messageId="M=", **overrides),
        "body": body,
        "isBase64Encoded": False,
    }


def disconnect(connection_id: object = "L0SM9cOFvHcCIhw=", **overrides: Any) -> Any:
    return {
        "headers": {"Host": DOMAIN, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""},
        "requestContext": context(connection_id, routeKey="$disconnect", eventType="DISCONNECT", **overrides),
        "isBase64Encoded": False,
    }
