"""The @connections side of API Gateway: POST to, GET about, and DELETE of a connection.

SDKs read every answer: boto3 recognizes a closed connection only by the `x-amzn-ErrorType` header of the 410.
A request must carry a SigV4 Authorization header; its signature is not verified.
"""

import json
import re
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from localgateway.api.api import Api
from localgateway.wire.http import Request, Response
from localgateway.wire.websocket import Connection

# As `events.to_id` writes it, and AWS too.
CONNECTION_ID = re.compile(r"[A-Za-z0-9_-]{15}=")


def connection_path(path: str) -> tuple[str, str] | None:
    """Split `/{stage}/@connections/{id}` into stage and id, decoded once; None is any other path.

    A path without a stage has the empty stage, which is answered like any wrong stage.
    """
    match [unquote(part) if "%" in part else part for part in path.split("/")]:
        case ["", stage, "@connections", connection_id]:
            return stage, connection_id
        case ["", "@connections", connection_id]:
            return "", connection_id
    return None


def handle(api: Api, request: Request, stage: str, connection_id: str) -> Response:
    """Answer one call at once: the connection is open or it is not."""
    if stage != api.stage:
        return refuse(HTTPStatus.FORBIDDEN, "ForbiddenException", "Forbidden")
    authorization = request.header("authorization") or ""
    if not authorization.startswith("AWS4-") or request.method not in ACTIONS:
        return refuse(HTTPStatus.FORBIDDEN, "MissingAuthenticationTokenException", "Missing Authentication Token")
    if not CONNECTION_ID.fullmatch(connection_id):
        return refuse(HTTPStatus.BAD_REQUEST, "BadRequestException", f"Invalid connectionId: {connection_id}")
    connection = api.connections.get(connection_id)
    if connection is None or api.faults.take("false-gone", connection_id):
        return refuse(HTTPStatus.GONE, "GoneException")
    if api.faults.take("throttle", connection_id):
        return refuse(HTTPStatus.TOO_MANY_REQUESTS, "LimitExceededException", "Too Many Requests")
    if request.method == "POST" and api.faults.take("drop-post", connection_id):
        return respond(HTTPStatus.OK)
    return ACTIONS[request.method](connection, request, api.limits.message_bytes)


def post(connection: Connection, request: Request, max_bytes: int) -> Response:
    if len(request.body) > max_bytes:
        return refuse(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "PayloadTooLargeException",
            f"Message is longer than {max_bytes} bytes",
        )
    if connection.is_full:
        return refuse(HTTPStatus.TOO_MANY_REQUESTS, "LimitExceededException", "Too Many Requests")
    # A text frame must be UTF-8, or the client closes the socket; what AWS does with other bytes is not known.
    connection.send(request.body.decode(errors="replace").encode())
    return respond(HTTPStatus.OK)


def get(connection: Connection, request: Request, max_bytes: int) -> Response:
    context = connection.context
    return respond(
        HTTPStatus.OK,
        {
            "connectedAt": to_iso(context.connected_at_ms),
            "identity": {"sourceIp": context.source_ip, "userAgent": context.user_agent},
            "lastActiveAt": to_iso(connection.last_active_ms),
        },
    )


def delete(connection: Connection, request: Request, max_bytes: int) -> Response:
    connection.close(1000, "Connection Closed Normally")
    return respond(HTTPStatus.NO_CONTENT)


ACTIONS = {"POST": post, "GET": get, "DELETE": delete}


def refuse(status: HTTPStatus, error_type: str, message: str | None = None) -> Response:
    """Build an error as the SDKs read it; without a message the body is empty."""
    return respond(status, message and {"message": message}, ("x-amzn-ErrorType", error_type))


def respond(status: HTTPStatus, body: Any = None, *headers: tuple[str, str]) -> Response:
    request_id = ("x-amzn-RequestId", str(uuid.uuid4()))
    if body is None:
        return Response(status, [request_id, *headers])
    content_type = ("Content-Type", "application/json")
    return Response(status, [request_id, content_type, *headers], json.dumps(body, separators=(",", ":")).encode())


def to_iso(epoch_ms: int) -> str:
    """Write epoch milliseconds as `2020-04-30T20:10:33.236Z`."""
    moment = datetime.fromtimestamp(epoch_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{epoch_ms % 1000:03d}Z"
