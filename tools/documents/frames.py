"""Every frame of the wire protocol: what clients may send, what they are answered, what they are pushed.

docs/PROTOCOL.md explains them, and has the examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tools.documents.schemas import (
    ANY,
    BOOLEAN,
    CHANNEL,
    COUNT,
    EPOCH_SECONDS,
    LIMIT,
    NAME,
    NULL,
    PAGE,
    PRESENCE,
    PUBLICATION,
    STRING,
    TEXT,
    TIME,
    Schema,
    array,
    channel_where,
    error_body,
    nullable,
    record,
    ref,
)


@dataclass(frozen=True)
class Action:
    """An action that a client may ask for.

    Attributes:
        summary: what is true afterwards.
        fields: those that must be there; `optional` ones may be missing or null.
        reply: the reply's data.
        choices: what else must hold of the fields, each a schema with alternatives.
        pushes: the types of frames that others may get because of it.
    """

    summary: str
    fields: Mapping[str, Schema]
    reply: Schema
    optional: Mapping[str, Schema]
    choices: tuple[Schema, ...] = ()
    pushes: tuple[str, ...] = ()

    def frame(self, name: str) -> Schema:
        """Return the frame that asks for it."""
        members = {"action": {"const": name}, **self.fields}
        optional = {name: nullable(schema) if schema else schema for name, schema in self.optional.items()}
        frame = record(members, {"id": nullable(ref("Id")), **optional})
        return {"allOf": [frame, *self.choices]} if self.choices else frame


SENT: Final = ref("Outcome")
_TARGETS: Final[Schema] = {
    "oneOf": [
        record({"targetUserId": NAME}, {"targetConnectionId": NULL}),
        record({"targetConnectionId": NAME}, {"targetUserId": NULL}),
    ]
}
_CONTENT: Final[Schema] = {
    "anyOf": [record({"text": STRING}), record({"data": {"type": ["object", "array", "string", "number", "boolean"]}})]
}

ACTIONS: Final[Mapping[str, Action]] = {
    "ping": Action("Nothing happens; the connection is not idle.", {}, record({}), {}),
    "whoami": Action(
        "The sender knows what the server knows of it.",
        {},
        record(
            {
                "connectionId": NAME,
                "userId": nullable(NAME),
                "deviceId": nullable(NAME),
                "connectedAt": TIME,
                "expiresAt": nullable(EPOCH_SECONDS),
                "attributes": ref("Attributes"),
                "channels": array(CHANNEL),
            }
        ),
        {},
    ),
    "authenticate": Action(
        "The sender is signed in, or stays so for longer.",
        {"token": TEXT},
        record({"userId": NAME, "expiresAt": EPOCH_SECONDS}),
        {},
    ),
    "sendMessage": Action(
        "All connections of a user, or one connection, are sent a message.",
        {},
        SENT,
        {"targetUserId": NAME, "targetConnectionId": NAME, "text": STRING, "data": ANY},
        (_TARGETS, _CONTENT),
        ("message",),
    ),
    "broadcastAll": Action(
        "Everyone who is connected is sent a broadcast, or will be soon.",
        {},
        {"oneOf": [ref("Outcome"), ref("Queued")]},
        {"note": STRING, "data": ANY},
        (),
        ("broadcast",),
    ),
    "subscribe": Action(
        "The sender is a member of the channel, and has what it missed since `recover`.",
        {"channel": channel_where()},
        record(
            {"channel": CHANNEL, "epoch": nullable(STRING), "offset": nullable(COUNT)},
            {"recovered": BOOLEAN, "publications": array(ref("Publication"))},
        ),
        {"recover": ref("Position")},
        (),
        ("join", "recovery"),
    ),
    "unsubscribe": Action(
        "The sender is no member of the channel.",
        {"channel": channel_where()},
        record({"channel": CHANNEL}),
        {},
        (),
        ("leave",),
    ),
    "publish": Action(
        "The members of the channel are sent the data; where it has history, it is kept.",
        {"channel": channel_where("clients_publish"), "data": ANY},
        {
            "allOf": [
                record({"channel": CHANNEL, "epoch": nullable(STRING), "offset": nullable(COUNT)}),
                {"oneOf": [ref("Outcome"), ref("Queued")]},
            ]
        },
        {"messageId": NAME, "exclude": BOOLEAN},
        (),
        ("publication",),
    ),
    "presence": Action(
        "The sender knows who is in the channel.",
        {"channel": channel_where("presence")},
        record({"channel": CHANNEL, **PRESENCE}),
        {},
    ),
    "history": Action(
        "The sender has a page of what was published in the channel.",
        {"channel": channel_where("history_size")},
        record(PAGE),
        {"since": ref("Position"), "limit": LIMIT, "reverse": BOOLEAN},
    ),
}


@dataclass(frozen=True)
class Push:
    """A frame that a client receives unasked: when, and its members besides `type`."""

    summary: str
    members: Mapping[str, Schema]

    def frame(self, name: str) -> Schema:
        """Return the whole frame."""
        return record({"type": {"const": name}, **self.members})


_PRESENCE_CHANGE: Final[Mapping[str, Schema]] = {"channel": CHANNEL, "user": NAME}

PUSHES: Final[Mapping[str, Push]] = {
    "message": Push(
        "Somebody sent a message to this user or connection; from is null when a server did.",
        {"from": nullable(ref("Sender")), "text": nullable(STRING), "data": ANY, "time": TIME},
    ),
    "broadcast": Push("Somebody addressed everyone.", {"time": TIME, "note": nullable(STRING), "data": ANY}),
    "publication": Push(
        "Something was published in a channel; epoch and offset are null where it has no history.",
        {"channel": CHANNEL, "epoch": nullable(STRING), "offset": nullable(COUNT), **PUBLICATION},
    ),
    "recovery": Push(
        "A part of what a subscriber missed; the reply to its subscribe has the last.",
        {"channel": CHANNEL, "epoch": STRING, "publications": array(ref("Publication"))},
    ),
    "join": Push("A user has come to a channel.", _PRESENCE_CHANGE),
    "leave": Push("A user has left a channel.", _PRESENCE_CHANGE),
    "unsubscribed": Push("A server has taken this connection out of a channel.", {"channel": CHANNEL}),
    "goodbye": Push(
        "The last frame before the server closes the socket. A server may use codes of its own beside "
        "`unauthenticated` and `closed`.",
        {"code": NAME, "reason": nullable(STRING)},
    ),
}

ERROR: Final = record({"type": {"const": "error"}, "id": nullable(ref("Id")), "error": error_body(http=False)})
# API Gateway's own, when a function fails or takes too long.
GATEWAY_ERROR: Final = record(
    {"message": STRING, "connectionId": STRING, "requestId": STRING},
    {"type": {"not": {}, "description": "Never there."}},
)


def reply(action: Action) -> Schema:
    """Return the reply to an action's frame, which is sent if that has an id."""
    return record({"type": {"const": "reply"}, "id": ref("Id"), "data": action.reply})


def title(name: str) -> str:
    """Return a frame's name as a type: SendMessage for `sendMessage`."""
    return name[0].upper() + name[1:]


def component_schemas() -> dict[str, Any]:
    """Return all frames, by their names in documents and TypeScript."""
    frames: dict[str, Any] = {}
    for name, action in ACTIONS.items():
        frames[f"{title(name)}Frame"] = {**action.frame(name), "description": action.summary}
        frames[f"{title(name)}Reply"] = reply(action)
    for name, push in PUSHES.items():
        frames[f"{title(name)}Push"] = {**push.frame(name), "description": push.summary}
    return frames | {"ErrorFrame": ERROR, "GatewayError": GATEWAY_ERROR}
