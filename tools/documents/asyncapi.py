"""docs/asyncapi.json: the wire protocol as an AsyncAPI 3 document, from the server's side."""

from typing import Any

from chalicelib.protocol.frame import MAX_FRAME_BYTES
from tools.documents import VERSION, examples
from tools.documents.frames import ACTIONS, PUSHES, component_schemas, title
from tools.documents.schemas import NAME as NAME_SCHEMA
from tools.documents.schemas import SHARED, Schema, described, ref

DESCRIPTION = (
    f"WebSocket text frames, each one JSON object; one that a client sends has at most {MAX_FRAME_BYTES:,} bytes. "
    "A frame with an `id` gets exactly one reply or error that carries it; one without hears of errors only. Members "
    "that are not described here are to be ignored; `null` counts as not given.\n\n"
    "docs/PROTOCOL.md is the contract and explains what no schema can: order, recovery, what to do when. A client of "
    "Centrifugo's protocol may use the same URL where the server speaks that too; it is not described here."
)
CHANNEL = {"$ref": "#/channels/socket"}


def build() -> dict[str, Any]:
    """Return the document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Peal",
            "version": VERSION,
            "description": DESCRIPTION,
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {"socket": _channel()},
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "schemas": {**SHARED, **component_schemas()},
            "securitySchemes": {
                "ticket": {
                    "type": "httpApiKey",
                    "name": "ticket",
                    "in": "query",
                    "description": "From `POST /tickets`: lets one connection in, once, soon.",
                },
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Or in the sub-protocols `peal, bearer.<token>`, or as `?token=`: one of the three.",
                },
            },
        },
    }


def _servers() -> dict[str, Any]:
    credentials = [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("ticket", "token")]
    return {
        "aws": {
            "host": "{api}.execute-api.{region}.amazonaws.com",
            "pathname": "/{stage}",
            "protocol": "wss",
            "description": "`make deploy` prints it.",
            "variables": {
                "api": {"description": "API Gateway's id of the API.", "examples": ["a1b2c3d4e5"]},
                "region": {"default": "eu-central-1"},
                "stage": {"default": "api"},
            },
            "security": credentials,
        },
        "local": {
            "host": "127.0.0.1:8001",
            "pathname": "/api",
            "protocol": "ws",
            "description": "`make dev`. There `?userId=` is believed of clients without a credential.",
        },
    }


def _channel() -> dict[str, Any]:
    return {
        # Everything goes over the one socket that the server's URL opens.
        "address": "/",
        "description": "The socket. Which of Peal's own channels a frame is about, it says itself.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _messages()},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {
                    "type": "object",
                    "properties": {
                        "userId": described(NAME_SCHEMA, "Believed only where the server admits anonymous clients."),
                        "deviceId": described(NAME_SCHEMA, "What a token or ticket says of it wins."),
                        "attributes": {
                            "type": "string",
                            "description": "A JSON object of what others may know of this connection, as Attributes.",
                        },
                        "token": {"type": "string", "description": "Instead of the header or sub-protocol."},
                        "ticket": {"type": "string", "maxLength": 128},
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
    }


def _operations() -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for name, action in ACTIONS.items():
        operations[name] = {
            "action": "receive",
            "channel": CHANNEL,
            "summary": action.summary,
            "messages": [_in_channel(f"{title(name)}Frame")],
            "reply": {
                "channel": CHANNEL,
                "messages": [_in_channel(f"{title(name)}Reply"), _in_channel("ErrorFrame")],
            },
        } | ({"description": f"Others may get: {', '.join(action.pushes)}."} if action.pushes else {})
    for name, push in PUSHES.items():
        operations[f"push{title(name)}"] = {
            "action": "send",
            "channel": CHANNEL,
            "summary": push.summary,
            "messages": [_in_channel(f"{title(name)}Push")],
        }
    operations["tellOfFailure"] = {
        "action": "send",
        "channel": CHANNEL,
        "summary": "API Gateway itself says that a function failed or took more than 29 seconds.",
        "messages": [_in_channel("GatewayError")],
    }
    return operations


def _messages() -> dict[str, Any]:
    messages: dict[str, Any] = {}
    for name, action in ACTIONS.items():
        messages[f"{title(name)}Frame"] = _message(f"{title(name)}Frame", action.summary, examples.of_client(name))
        messages[f"{title(name)}Reply"] = _message(
            f"{title(name)}Reply", f"Replies to {name}.", examples.replies(name)
        ) | {"correlationId": {"location": "$message.payload#/id"}}
    for name, push in PUSHES.items():
        messages[f"{title(name)}Push"] = _message(f"{title(name)}Push", push.summary, examples.pushes(name))
    messages["ErrorFrame"] = _message(
        "ErrorFrame",
        "A frame was not acted upon; its id is null where that could not be read.",
        examples.pushes("error"),
    )
    shown = {"message": "Internal server error", "connectionId": "L0SM9cOFvHcCIhw=", "requestId": "VNRXVFJOywMF3-Q="}
    messages["GatewayError"] = _message("GatewayError", "API Gateway's own error.", [shown])
    return messages


def _message(name: str, summary: str, shown: list[dict[str, Any]]) -> Schema:
    message: Schema = {"name": name, "summary": summary, "payload": ref(name)}
    return message | ({"examples": [{"payload": frame} for frame in shown]} if shown else {})


def _in_channel(name: str) -> dict[str, str]:
    return {"$ref": f"#/channels/socket/messages/{name}"}
