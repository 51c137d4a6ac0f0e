"""docs/peal.d.ts: the wire protocol as TypeScript types, made from docs/asyncapi.json."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
HEAD = """\
// The wire protocol as types, made by `make documents` from docs/asyncapi.json: change documents/ and run it again.
// docs/PROTOCOL.md explains each frame. Import it as `import type { ClientFrame, ServerFrame } from "./peal";`.

/** Any JSON. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

"""
PRIMITIVES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def build(document: Mapping[str, Any]) -> str:
    """Return the types of all schemas of the AsyncAPI document, and of the frames by sender."""
    schemas: Mapping[str, Schema] = document["components"]["schemas"]
    operations: Mapping[str, Any] = document["operations"]
    types = [HEAD]
    for name, schema in schemas.items():
        types.append(f"{_comment(schema)}export type {name} = {to_type(schema)};\n\n")
    actions = [name for name, operation in operations.items() if operation["action"] == "receive"]
    pushes = [_frame(operation["messages"][0]) for operation in operations.values() if operation["action"] == "send"]
    own_pushes = [name for name in pushes if name.endswith("Push")]
    replies = [_frame(operations[name]["reply"]["messages"][0]) for name in actions]
    frames = [_frame(operations[name]["messages"][0]) for name in actions]
    types += [
        "/** What a client may send. */\n" + _union("ClientFrame", frames),
        "/** What a server sends unasked. */\n" + _union("Push", own_pushes),
        "/** What answers a frame that has an id. */\n" + _union("Reply", replies),
        "/** What a client receives. API Gateway's own errors have no `type`. */\n"
        + _union("ServerFrame", ["Reply", "ErrorFrame", "Push", *(name for name in pushes if name not in own_pushes)]),
        "/** What each action takes and is replied. */\nexport interface Actions {\n",
        *(
            f'  {name}: {{ frame: {frame}; data: {reply}["data"] }};\n'
            for name, frame, reply in zip(actions, frames, replies, strict=True)
        ),
        "}\n",
    ]
    return "".join(types)


def to_type(schema: Schema, indent: str = "") -> str:
    """Return the type of what the schema accepts, as far as TypeScript can express that."""
    parts = list(_parts(schema, indent))
    return " & ".join(f"({part})" if " | " in part and len(parts) > 1 else part for part in parts) or "Json"


def _parts(schema: Schema, indent: str) -> Iterator[str]:
    if "$ref" in schema:
        yield str(schema["$ref"]).rpartition("/")[2]
    if schema.get("not") == {}:
        yield "never"
    if "const" in schema:
        yield json.dumps(schema["const"])
    if "enum" in schema:
        yield " | ".join(json.dumps(value) for value in schema["enum"])
    if "type" in schema:
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        yield " | ".join(_of_kind(kind, schema, indent) for kind in kinds)
    for part in schema.get("allOf", ()):
        yield to_type(part, indent)
    for word in ("oneOf", "anyOf"):
        if word in schema:
            yield " | ".join(dict.fromkeys(to_type(part, indent) for part in schema[word]))


def _of_kind(kind: str, schema: Schema, indent: str) -> str:
    if kind == "array":
        items = to_type(schema.get("items", {}), indent)
        return f"({items})[]" if " " in items and "{" not in items else f"{items}[]"
    if kind == "object":
        return _object(schema, indent)
    return PRIMITIVES[kind]


def _object(schema: Schema, indent: str) -> str:
    members: Mapping[str, Schema] = schema.get("properties", {})
    if not members:
        return f"{{ [name: string]: {to_type(schema.get('additionalProperties', {}), indent)} }}"
    required = schema.get("required", ())
    deeper = indent + "  "
    lines = [
        f"{_comment(member, deeper)}{deeper}{name}{'' if name in required else '?'}: {to_type(member, deeper)};\n"
        for name, member in members.items()
    ]
    return "{\n" + "".join(lines) + indent + "}"


def _comment(schema: Schema, indent: str = "") -> str:
    sentences = [str(schema["description"])] if "description" in schema else []
    for word, meaning in (("minimum", "At least"), ("maximum", "At most"), ("default", "By default")):
        if schema.get(word, 0):
            sentences.append(f"{meaning} {json.dumps(schema[word])}.")
    if "maxLength" in schema:
        sentences.append(f"At most {schema['maxLength']} characters.")
    if "pattern" in schema:
        sentences.append(f"Like {schema['pattern']}")
    return f"{indent}/** {' '.join(sentences)} */\n" if sentences else ""


def _frame(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


def _union(name: str, members: list[str]) -> str:
    return f"export type {name} =\n" + "".join(f"  | {member}\n" for member in members).rstrip("\n") + ";\n\n"
