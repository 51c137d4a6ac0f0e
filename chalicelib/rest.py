"""The REST doors: path and body in, (status, body) out. Knows nothing of Chalice.

Invariant: the caller's fault is 400 or 404 with a message, ours is 500 without one.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote

from chalicelib import protocol
from chalicelib.errors import ClientError, NotFound
from chalicelib.names import check_name
from chalicelib.service import Service

log = logging.getLogger(__name__)

Answer = tuple[int, Mapping[str, Any] | None]


def answer(door: Callable[..., Answer], *arguments: Any) -> Answer:
    """The door's answer to those arguments, or what its error means over HTTP."""
    try:
        return door(*arguments)
    except ClientError as refusal:
        return (404 if isinstance(refusal, NotFound) else 400), {"error": protocol.error_body(refusal)}
    except Exception as failure:
        log.exception("%s failed", door.__name__)
        return 500, {"error": protocol.error_body(failure)}


def post_to_connection(service: Service, connection_id: str, body: bytes) -> Answer:
    """`POST /connections/{id}/messages` {text and/or data}: 200 with the outcome, 404 if it is gone."""
    text, data = protocol.parse(body).content()
    outcome = service.send_to_connection(_name(connection_id, "connectionId"), text, data)
    if outcome.gone:
        raise NotFound
    return 200, outcome.as_dict()


def post_to_user(service: Service, user_id: str, body: bytes) -> Answer:
    """`POST /users/{id}/messages` {text and/or data}: 200 with the outcome, all zero if the user is not here."""
    text, data = protocol.parse(body).content()
    return 200, service.send_to_user(_name(user_id, "userId"), text, data).as_dict()


def post_broadcast(service: Service, body: bytes) -> Answer:
    """`POST /broadcast` {note and/or data, or nothing}: 200 with the outcome."""
    frame = protocol.parse(body or b"{}")
    return 200, service.broadcast(frame.optional_string("note"), frame.fields.get("data")).as_dict()


def post_ticket(service: Service, body: bytes) -> Answer:
    """`POST /tickets` {userId, deviceId?, expiresAt?, grants}: 201 with the ticket and when it runs out."""
    ticket = service.issue_ticket(protocol.parse(body).fields)
    return 201, {"ticket": ticket.ticket, "expiresAt": ticket.expires_at}


def get_connection(service: Service, connection_id: str) -> Answer:
    """`GET /connections/{id}`: 200 with what the registry knows, or 404."""
    connection = service.connection(_name(connection_id, "connectionId"))
    known = {_camel(name): value for name, value in asdict(connection).items()}
    grants = connection.grants.as_claims() if connection.grants else None
    return 200, known | {"channels": sorted(connection.channels), "grants": grants}


def delete_connection(service: Service, connection_id: str) -> Answer:
    """`DELETE /connections/{id}`: 204 once it is closed and forgotten, or 404."""
    service.close(_name(connection_id, "connectionId"))
    return 204, None


def _name(segment: str, field: str) -> str:
    # API Gateway hands path segments on as the caller encoded them; no name has a `%`, so this is safe to repeat.
    return check_name(unquote(segment), field)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
