"""The three WebSocket doors: a raw event in, the status for API Gateway out.

Invariants: a refused $connect leaves no row; a $disconnect always answers 200; a message's outcome reaches the
client as a frame only, because what a Lambda returns for it goes nowhere.
"""

from collections.abc import Mapping
from typing import Any

from chalicelib import telemetry
from chalicelib.auth.authentication import choose_subprotocol
from chalicelib.errors import ClientError, Conflict, Forbidden, TokenExpired, Unauthenticated
from chalicelib.handlers import router
from chalicelib.handlers.actions import ACTIONS
from chalicelib.handlers.commands import COMMANDS
from chalicelib.peal import Peal
from chalicelib.protocol import centrifuge
from chalicelib.protocol.events import parse_connect, parse_disconnect, parse_message
from chalicelib.telemetry import Metric

_REFUSALS: Mapping[type[ClientError], int] = {Unauthenticated: 401, TokenExpired: 401, Forbidden: 403, Conflict: 409}

Answer = Mapping[str, Any]


def connect(peal: Peal, event: Mapping[str, Any]) -> Answer:
    """The handshake is answered: 200 once the connection is registered, else 400, 401, 403, 409 or 500.

    API Gateway refuses the socket with that status, and nothing of it is registered. Of the answer's headers it
    hands on the chosen sub-protocol alone.
    """
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
    subprotocol = choose_subprotocol(handshake.headers)
    headers = {"headers": {"Sec-WebSocket-Protocol": subprotocol}} if subprotocol else {}
    return {"statusCode": 200} | headers


def message(peal: Peal, event: Mapping[str, Any]) -> Answer:
    """The frame was routed to its action, or its commands, and answered."""
    message = parse_message(event)
    asked = centrifuge.parse(message.body)
    if asked is None:
        router.route(peal, message, ACTIONS)
    else:
        router.route_commands(peal, message, asked, COMMANDS)
    return {"statusCode": 200}


def disconnect(peal: Peal, event: Mapping[str, Any]) -> Answer:
    """The connection is forgotten; if that fails, TTL reaps it. Nobody waits for the answer, so it is 200."""
    try:
        peal.departures.forget(parse_disconnect(event).context.connection_id)
    except Exception as failure:
        telemetry.fail(failure)
    return {"statusCode": 200}
