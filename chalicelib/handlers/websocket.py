"""The three WebSocket routes: a raw event in, the status for API Gateway out.

Invariants: a refused $connect leaves no row; a $disconnect always returns 200; the client learns what became of a
message from a frame only, because API Gateway drops what a Lambda returns for it.
"""

from collections.abc import Mapping
from typing import Any

from chalicelib import telemetry
from chalicelib.auth.authentication import choose_subprotocol
from chalicelib.errors import ClientError, Conflict, Forbidden, TokenExpired, Unauthenticated
from chalicelib.handlers import router
from chalicelib.handlers.actions import ACTIONS
from chalicelib.handlers.commands import COMMANDS
from chalicelib.handlers.router import Action
from chalicelib.peal import Peal
from chalicelib.protocol.centrifuge import Command
from chalicelib.protocol.codec import read
from chalicelib.protocol.events import parse_connect, parse_disconnect, parse_message
from chalicelib.protocol.frame import Frame
from chalicelib.telemetry import Metric

_REFUSALS: Mapping[type[ClientError], int] = {Unauthenticated: 401, TokenExpired: 401, Forbidden: 403, Conflict: 409}

Response = Mapping[str, Any]


def connect(peal: Peal, event: Mapping[str, Any]) -> Response:
    """Register the connection and return 200, or refuse it with 400, 401, 403, 409 or 500: the handshake's status."""
    try:
        handshake = parse_connect(event)
        connection = peal.arrivals.register(handshake)
    except ClientError as refusal:
        telemetry.count(Metric.REFUSALS)
        telemetry.refuse(refusal.code, refusal.reason if isinstance(refusal, Unauthenticated) else str(refusal))
        return {"statusCode": _REFUSALS.get(type(refusal), 400)}
    except Exception as failure:
        telemetry.fail(failure)
        return {"statusCode": 500}
    telemetry.count(Metric.CONNECTS)
    telemetry.note("userId", connection.user_id)
    # The only header that API Gateway passes on.
    chosen = choose_subprotocol(handshake.headers)
    return {"statusCode": 200} | ({"headers": {"Sec-WebSocket-Protocol": chosen}} if chosen else {})


def message(peal: Peal, event: Mapping[str, Any], actions: Mapping[str, Action] = ACTIONS) -> Response:
    """Route a frame to its action, or to its commands."""
    message = parse_message(event)
    try:
        frame: Frame | list[Command] | ClientError = read(message.body)
    except ClientError as error:
        # It is routed too: the sender is looked up before it learns what is wrong.
        frame = error
    if isinstance(frame, list):
        router.route_commands(peal, message, frame, COMMANDS)
    else:
        router.route(peal, message, frame, actions)
    return {"statusCode": 200}


def disconnect(peal: Peal, event: Mapping[str, Any]) -> Response:
    """Forget the connection; if that fails, its row expires. Nothing waits for the status, so it is always 200."""
    try:
        peal.departures.forget(parse_disconnect(event).context.connection_id)
    except Exception as failure:
        telemetry.fail(failure)
    return {"statusCode": 200}
