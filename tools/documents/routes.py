"""Every route of the REST API: what it takes and what it answers. docs/REST.md explains them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chalicelib.connections import listing
from chalicelib.handlers import rest
from chalicelib.protocol import identity
from tools.documents.schemas import (
    ANY,
    BOOLEAN,
    CHANNEL,
    COUNT,
    EPOCH_SECONDS,
    GRANTS,
    LIMIT,
    NAME,
    NULL,
    PAGE,
    PRESENCE,
    REASON,
    RIGHTS,
    STRING,
    TIME,
    Schema,
    array,
    channel_where,
    described,
    nullable,
    record,
    ref,
)


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Attributes:
        door: the function in app.py, and in rest.py.
        summary: what holds afterwards.
        answers: the bodies by status; None has none.
        body: what to send; None: nothing.
        query: its parameters, none of them required.
        body_is_required: whether it must be sent.
        example: a body.
        channel: the schema of the path's channel.
    """

    door: str
    summary: str
    answers: Mapping[int, Schema | None]
    body: Schema | None = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    body_is_required: bool = True
    example: Any = None
    channel: Schema = field(default_factory=channel_where)


_VIEW: Final = ref("Connection")
_CONTENT: Final[Schema] = {
    "allOf": [
        record({}, {"text": nullable(STRING), "data": ANY}),
        {"anyOf": [record({"text": STRING}), record({"data": {"not": NULL}})]},
    ],
}
_MESSAGE: Final = record({"data": ANY}, {"messageId": nullable(NAME)})
_ALONE: Final = record({"data": ANY}, {"messageId": nullable(NAME), "messages": NULL})
_STANDS: Final[Schema] = {
    "allOf": [
        record({"epoch": nullable(STRING), "offset": nullable(COUNT)}),
        {"oneOf": [ref("Outcome"), ref("Queued")]},
    ]
}
_CLOSED: Final = record({"closed": COUNT, "failed": COUNT})
_OPTIONS: Final = record(
    {
        "historySize": COUNT,
        "historyTtlSeconds": COUNT,
        "presence": BOOLEAN,
        "joinLeave": BOOLEAN,
        "clientsPublish": BOOLEAN,
        "echo": BOOLEAN,
    }
)
_GOODBYE: Final[Mapping[str, Schema]] = {
    "code": described(NAME, "A word for programs, in the goodbye; `closed` if none is given."),
    "reason": described(REASON, "A sentence for people, in the goodbye."),
}

_END: Final[Schema] = {
    "type": "number",
    "minimum": 0,
    "maximum": identity.MAX_TIME,
    "description": "When the connection ends, in epoch seconds.",
}

# By method and path, whose parameters are written as in the answers.
ROUTES: Final[Mapping[tuple[str, str], Route]] = {
    ("POST", "/connections/{connectionId}/messages"): Route(
        "post_to_connection",
        "The connection was sent a message.",
        {200: ref("Outcome")},
        _CONTENT,
        example={"text": "hi"},
    ),
    ("POST", "/users/{userId}/messages"): Route(
        "post_to_user",
        "All connections of the user were sent a message; all counts are zero for one who is not here.",
        {200: ref("Outcome")},
        _CONTENT,
        example={"text": "hi", "data": {"x": 1}},
    ),
    ("POST", "/broadcast"): Route(
        "post_broadcast",
        "Everyone was sent a broadcast, or will be soon.",
        {200: {"oneOf": [ref("Outcome"), ref("Queued")]}},
        record({}, {"note": nullable(STRING), "data": ANY}),
        body_is_required=False,
        example={"note": "back in five minutes"},
    ),
    ("POST", "/tickets"): Route(
        "post_ticket",
        "There is a ticket with which one client can connect once, soon.",
        {201: record({"ticket": STRING, "expiresAt": described(EPOCH_SECONDS, "When the ticket runs out.")})},
        record(
            {"userId": NAME},
            {
                "deviceId": nullable(NAME),
                "expiresAt": nullable(_END),
                **GRANTS,
            },
        ),
        example={"userId": "u_123", "channels": {"chat:*": ["subscribe"]}},
    ),
    ("GET", "/connections"): Route(
        "get_roll",
        "A page of all who are connected; a short one need not be the last.",
        {
            200: record(
                {
                    "connections": array(record({"connectionId": NAME, "userId": nullable(NAME)})),
                    "next": described(nullable(STRING), "What `after` says to read on; null: that was all."),
                }
            )
        },
        query={
            "limit": {"type": "integer", "minimum": 1, "maximum": listing.MAX_PAGE, "default": listing.DEFAULT_PAGE},
            "after": described(STRING, "The `next` of the page before."),
        },
    ),
    ("GET", "/connections/{connectionId}"): Route("get_connection", "What is known of the connection.", {200: _VIEW}),
    ("DELETE", "/connections/{connectionId}"): Route(
        "delete_connection", "The connection was sent goodbye, closed and forgotten.", {204: None}, query=_GOODBYE
    ),
    ("GET", "/users/{userId}/connections"): Route(
        "get_connections",
        "What is known of the user's connections; none where the user is not here.",
        {200: record({"connections": array(_VIEW)})},
    ),
    ("DELETE", "/users/{userId}/connections"): Route(
        "delete_connections",
        "The user's connections were sent goodbye, closed and forgotten.",
        {200: _CLOSED},
        query={"deviceId": described(NAME, "Those of this device only."), **_GOODBYE},
    ),
    ("POST", "/channels/{channel}/messages"): Route(
        "post_to_channel",
        "The channel's members are sent the messages, in their order; where it has history, they are kept. "
        f"At most {rest.MAX_BATCH_BYTES:,} bytes.",
        {
            200: {
                "oneOf": [
                    {"allOf": [record({"channel": CHANNEL}), _STANDS]},
                    record({"channel": CHANNEL, "messages": array(_STANDS)}),
                ]
            }
        },
        {"anyOf": [_ALONE, record({"messages": array(_MESSAGE, minItems=1, maxItems=rest.MAX_BATCH)})]},
        example={"data": {"text": "hi"}, "messageId": "m-1"},
    ),
    ("GET", "/channels/{channel}"): Route(
        "get_channel",
        "Where the channel stands, how many are here and what it can do; null is what it has not.",
        {
            200: record(
                {
                    "channel": CHANNEL,
                    "epoch": nullable(STRING),
                    "offset": nullable(COUNT),
                    "count": nullable(COUNT),
                    "connections": nullable(COUNT),
                    "options": _OPTIONS,
                }
            )
        },
    ),
    ("GET", "/channels/{channel}/members"): Route(
        "get_members",
        "Who is in the channel.",
        {200: record({"channel": CHANNEL, **PRESENCE})},
        channel=channel_where("presence"),
    ),
    ("DELETE", "/channels/{channel}/members/{userId}"): Route(
        "delete_member",
        "None of the user's connections is a member of the channel; each that was is notified.",
        {200: record({"channel": CHANNEL, "userId": NAME, "connections": COUNT})},
    ),
    ("GET", "/channels/{channel}/history"): Route(
        "get_history",
        "A page of what was published in the channel; an empty one is the last.",
        {200: record(PAGE)},
        query={
            "epoch": described(STRING, "With `offset`: the position to read on from."),
            "offset": COUNT,
            "limit": LIMIT,
            "reverse": described({"type": "boolean", "default": False}, "Newest first."),
        },
        channel=channel_where("history_size"),
    ),
}

CONNECTION: Final = record(
    {
        "connectionId": NAME,
        "connectedAt": TIME,
        "ttl": described(EPOCH_SECONDS, "When its row does not count any more, in epoch seconds."),
        "endpoint": described(nullable(STRING), "The management endpoint through which it connected."),
        "userId": nullable(NAME),
        "deviceId": nullable(NAME),
        "sourceIp": nullable(STRING),
        "userAgent": nullable(STRING),
        "attributes": ref("Attributes"),
        "channels": array(CHANNEL),
        "expiresAt": nullable(EPOCH_SECONDS),
        "grants": nullable({**record({}, {**RIGHTS, "deny": record({}, RIGHTS)}), "description": "What it may do."}),
        "isSignedIn": BOOLEAN,
        "codec": {"enum": ["peal", "centrifuge"]},
    }
)
