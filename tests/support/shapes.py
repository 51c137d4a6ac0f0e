"""A pytest plugin: whatever any test sees Peal send or answer looks as documents/ says, and has nothing more.

Frames are seen where they are sent in tests without sockets and where they come in in tests with them; answers of the
REST API at its doors. A test in which something looks otherwise fails, whatever it is about.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, wraps
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chalicelib.handlers import rest, websocket
from localgateway.testing import Client
from tests.support.fakes import FakeWebsocketApi
from tools.documents import frames, openapi
from tools.documents.routes import ROUTES
from tools.documents.schemas import SHARED, Schema

PARTS: Mapping[str, Schema] = {**SHARED, **openapi.build()["components"]["schemas"]}
DOORS = {route.door: route for route in ROUTES.values()}
KINDS: Mapping[str, Schema] = {name: push.frame(name) for name, push in frames.PUSHES.items()} | {"error": frames.ERROR}


class Shapes:
    """What was seen that looks otherwise, and what connections have asked for."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.asked: dict[tuple[Any, str], str] = {}

    def ask(self, connection: Any, text: object) -> None:
        """The connection has sent a text; if it has an id, a reply will carry that."""
        try:
            frame = json.loads(text) if isinstance(text, str | bytes) else text
        except ValueError:
            return
        if isinstance(frame, dict) and isinstance(frame.get("action"), str) and "id" in frame:
            self.asked[connection, json.dumps(frame["id"])] = frame["action"]

    def see(self, connection: Any, frame: object) -> None:
        """The connection was sent a frame. Those of another protocol have no `type`."""
        if not isinstance(frame, dict) or "type" not in frame:
            return
        kind = str(frame["type"])
        if kind == "reply":
            kind = self.asked.get((connection, json.dumps(frame.get("id"))), kind)
        self.check(kind, frame)

    def answer(self, door: str, answer: tuple[int, Any]) -> None:
        """A door of the REST API has answered."""
        status, body = answer
        schema = DOORS[door].answers.get(status, openapi.build()["components"]["schemas"]["Error"])
        if schema is None:
            self.faults += [] if body is None else [f"{door} {status} has a body"]
        else:
            self.check(f"{door} {status}", body, schema)

    def check(self, what: str, value: Any, schema: Schema | None = None) -> None:
        """Note what is wrong with the value."""
        validator = compiled(what) if schema is None else _exact(json.dumps(schema))
        if validator is None:
            self.faults.append(f"no document knows {what}: {value!r:.200}")
            return
        for error in validator.iter_errors(value):
            self.faults.append(f"{what} at {error.json_path}: {error.message:.200} in {value!r:.300}")


@cache
def compiled(kind: str) -> Draft202012Validator | None:
    """What a frame must look like: a push or error of that type, or the reply to that action."""
    if action := frames.ACTIONS.get(kind):
        return _exact(json.dumps(frames.reply(action)))
    return _exact(json.dumps(KINDS[kind])) if kind in KINDS else None


@cache
def _exact(schema: str) -> Draft202012Validator:
    return Draft202012Validator(closed(inlined(json.loads(schema))))


def inlined(schema: Any) -> Any:
    """The same without references."""
    if isinstance(schema, list):
        return [inlined(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return inlined(PARTS[schema["$ref"].rpartition("/")[2]])
    return {name: inlined(part) for name, part in schema.items()}


def closed(schema: Any, *, is_part: bool = False) -> Any:
    """The same, where no object has members that it does not name. What is part of an object is closed with that."""
    if isinstance(schema, list):
        return [closed(part, is_part=is_part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    has_parts = is_part or "allOf" in schema
    found = {
        word: {name: closed(member) for name, member in inner.items()}
        if word == "properties"
        else closed(inner, is_part=has_parts and word in ("allOf", "oneOf", "anyOf"))
        for word, inner in schema.items()
    }
    is_whole = not is_part and {"properties", "allOf"} & schema.keys() and "additionalProperties" not in schema
    return found | {"unevaluatedProperties": False} if is_whole else found


_shapes = Shapes()


@pytest.fixture(autouse=True)
def shapes(request: pytest.FixtureRequest) -> Iterator[Shapes]:
    """What this test sees looks as documents/ says."""
    _shapes.faults.clear()
    _shapes.asked.clear()
    yield _shapes
    # Other projects' frames are their own.
    if "localgateway" not in request.node.nodeid and not request.node.get_closest_marker("any_frames"):
        assert not _shapes.faults, "\n".join(_shapes.faults[:5])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "any_frames: sends what is no frame of docs/PROTOCOL.md, on purpose")

    def before(owner: Any, name: str, note: Callable[..., None]) -> None:
        call = getattr(owner, name)

        @wraps(call)
        def noting(*arguments: Any, **named: Any) -> Any:
            note(*arguments)
            return call(*arguments, **named)

        setattr(owner, name, noting)

    def after(owner: Any, name: str, note: Callable[..., None]) -> None:
        call = getattr(owner, name)

        @wraps(call)
        def noting(*arguments: Any, **named: Any) -> Any:
            result = call(*arguments, **named)
            note(result, *arguments)
            return result

        setattr(owner, name, noting)

    before(
        websocket,
        "message",
        lambda _, event, *__: _shapes.ask(event.get("requestContext", {}).get("connectionId"), event.get("body")),
    )
    before(FakeWebsocketApi, "send", lambda _, connection_id, text: _shapes.see(connection_id, _parsed(text)))
    before(Client, "sends", lambda client, *sent: [_shapes.ask(client, frame) for frame in sent])
    after(Client, "_next", lambda frame, client, *_: _shapes.see(client, frame))
    after(
        rest,
        "answer",
        lambda answer, door, *_: _shapes.answer(door.__name__, answer) if door.__name__ in DOORS else None,
    )


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
