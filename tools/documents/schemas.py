"""The JSON Schemas of frames and REST bodies, in the part of the language that AsyncAPI's and OpenAPI's dialects share.

Limits and alphabets are the code's own. What JSON Schema cannot express (sizes in bytes, the total of all grants) is in
the descriptions.
"""

from collections.abc import Mapping
from typing import Any, Final

from chalicelib import errors
from chalicelib.channels import recovery
from chalicelib.handlers import rest
from chalicelib.protocol import frame, names
from chalicelib.protocol.namespaces import NAMESPACES

Schema = dict[str, Any]

# The characters of names, as a class of a regular expression.
_ALPHABET: Final = names.NAME[: names.NAME.index("{")]

ANY: Final[Schema] = {}
BOOLEAN: Final[Schema] = {"type": "boolean"}
STRING: Final[Schema] = {"type": "string"}
NULL: Final[Schema] = {"type": "null"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
EPOCH_SECONDS: Final[Schema] = {"type": "integer", "minimum": 0, "description": "Epoch seconds."}
TIME: Final[Schema] = {"$ref": "#/components/schemas/Time"}
NAME: Final[Schema] = {"$ref": "#/components/schemas/Name"}
CHANNEL: Final[Schema] = {"$ref": "#/components/schemas/Channel"}
TEXT: Final[Schema] = {"type": "string", "minLength": 1}


def ref(name: str) -> Schema:
    """Return a reference to a part of SHARED."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **bounds: int) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": items, **bounds}


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with all of these members, and maybe those. Later versions may add others."""
    schema: Schema = {"type": "object", "properties": {**required, **(optional or {})}}
    return schema | ({"required": list(required)} if required else {})


def nullable(schema: Schema) -> Schema:
    """Return the schema of that, or null."""
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"oneOf": [schema, NULL]}


def described(schema: Schema, description: str) -> Schema:
    """Return the schema with a description. Not every dialect allows one beside a reference."""
    return (
        {"allOf": [schema], "description": description} if "$ref" in schema else {**schema, "description": description}
    )


def channel_where(ability: str | None = None) -> Schema:
    """Return the schema of a channel whose namespace exists and has that ability, an attribute of `Namespace`."""
    fitting = sorted(name for name, options in NAMESPACES.items() if ability is None or getattr(options, ability))
    return {
        "type": "string",
        "pattern": f"^({'|'.join(fitting)}):{_ALPHABET}+$",
        "maxLength": names.MAX_NAME_CHARS,
        "examples": [f"{fitting[0]}:lobby"],
    }


OUTCOME: Final = record({"sent": COUNT, "gone": COUNT, "failed": COUNT})
QUEUED: Final = record({"queued": {"const": True}})
PUBLICATION: Final[Mapping[str, Schema]] = {
    "data": ANY,
    "from": nullable(ref("Sender")),
    "time": TIME,
    "messageId": nullable(NAME),
}
PRESENCE: Final[Mapping[str, Schema]] = {
    "members": nullable(array(ref("Member"))),
    "count": COUNT,
    "connections": COUNT,
    "complete": described(BOOLEAN, "False where counting stopped."),
}
PAGE: Final[Mapping[str, Schema]] = {
    "channel": CHANNEL,
    "epoch": STRING,
    "offset": described(COUNT, "Where the channel stands."),
    "publications": array(ref("Publication")),
}
RIGHTS: Final[Mapping[str, Schema]] = {
    "channels": {
        "type": "object",
        "description": "Patterns of channels, and what may be done there.",
        "propertyNames": ref("Pattern"),
        "additionalProperties": array({"enum": ["subscribe", "publish", "presence", "history"]}),
    },
    "users": described(array(ref("Pattern")), "Patterns of users that may be sent messages."),
    "broadcast": described(BOOLEAN, "Whether everyone may be addressed."),
}
GRANTS: Final[Mapping[str, Schema]] = {
    **RIGHTS,
    "deny": {**record({}, RIGHTS), "additionalProperties": False, "description": "Wins over whatever is granted."},
}
CODES: Final = sorted({kind.code for kind in errors.ClientError.__subclasses__()} | {"internal_error"})


def error_codes(*, http: bool) -> list[str]:
    """Return the codes of error frames, or of answers over HTTP."""
    only_http, only_frames = {"conflict"}, {"unknown_action", "not_subscribed", "rate_limited"}
    return [code for code in CODES if code not in (only_frames | only_http if http else only_http)]


def error_body(*, http: bool) -> Schema:
    """Return the schema of an error, for programs and for people."""
    return record({"code": {"enum": error_codes(http=http)}, "message": STRING, "retryable": BOOLEAN})


# What several frames have in common, by its name in documents and TypeScript.
SHARED: Final[Mapping[str, Schema]] = {
    "Id": {
        "description": "Of the client's choice; the reply or error carries it.",
        "oneOf": [
            {"type": "string", "maxLength": frame.MAX_ID_CHARS},
            {"type": "integer", "minimum": -frame.MAX_SAFE_INTEGER, "maximum": frame.MAX_SAFE_INTEGER},
        ],
    },
    "Name": {
        "type": "string",
        "description": "The name of a user, device, connection or message.",
        "pattern": f"^{names.NAME}$",
        "examples": ["u_456"],
    },
    "Channel": {
        "type": "string",
        "description": "A channel's full name, namespace:name.",
        "pattern": f"^{_ALPHABET}+$",
        "maxLength": names.MAX_NAME_CHARS,
        "examples": ["chat:lobby"],
    },
    "Pattern": {
        "type": "string",
        "description": "A name, namespace:* or * for everything.",
        "pattern": rf"^(\*|{names.NAME}|{_ALPHABET.replace(':', '')}{{1,{names.MAX_NAME_CHARS}}}:\*)$",
        "examples": ["chat:*"],
    },
    "Time": {
        "type": "string",
        "description": "RFC 3339 in UTC with milliseconds.",
        "format": "date-time",
        "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        "examples": ["2026-11-23T09:30:00.125Z"],
    },
    "Attributes": {
        "type": "object",
        "description": f"What a client says of itself, in at most {frame.MAX_ATTRIBUTES_BYTES:,} bytes.",
        "maxProperties": frame.MAX_ATTRIBUTES,
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    },
    "Position": {
        **record({"epoch": STRING, "offset": COUNT | {"maximum": frame.MAX_SAFE_INTEGER}}),
        "description": "The last place in a channel that one knows.",
    },
    "Sender": {
        **record({"userId": nullable(NAME), "connectionId": NAME}),
        "description": "Who sent it; userId is null for someone anonymous.",
    },
    "Publication": {
        **record({"offset": COUNT | {"minimum": 1}, **PUBLICATION}),
        "description": "As it is kept; from is null when a server published.",
    },
    "Member": {
        **record({"userId": nullable(NAME), "connections": COUNT, "attributes": ref("Attributes")}),
        "description": "A user who is here; all who are anonymous share one, whose userId is null.",
    },
    "Outcome": {**OUTCOME, "description": "What became of each receiver; together they are the audience."},
    "Queued": {**QUEUED, "description": "Another invocation sends it, or has sent it."},
}

REASON: Final[Schema] = {"type": "string", "maxLength": rest.MAX_REASON_CHARS}
LIMIT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": recovery.MAX_PAGE, "default": recovery.DEFAULT_PAGE}
