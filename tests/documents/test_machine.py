"""The documents that machines read say what the code does: nothing is missing in them, and nothing is made up."""

import copy
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from chalicelib.errors import ClientError
from chalicelib.handlers import actions, rest, websocket
from chalicelib.peal import Peal
from chalicelib.protocol.namespaces import NAMESPACES
from tests.conftest import PROJECT
from tests.support import raw_events
from tests.support.fakes import FakeWebsocketApi
from tests.support.shapes import Shapes, closed, compiled, inlined
from tools.documents import asyncapi, examples, frames
from tools.documents.__main__ import render
from tools.documents.routes import ROUTES
from tools.documents.schemas import CODES

ID, OTHER = "L0SM9cOFvHcCIhw=", "JC1dgf9yoAMCK-g="
DOCUMENTS = render()


class TestNothingIsMissing:
    @pytest.mark.parametrize("name", DOCUMENTS)
    def test_what_is_committed_is_what_the_tables_and_the_code_say(self, name: str) -> None:
        assert (PROJECT / "docs" / name).read_text() == DOCUMENTS[name], "run `make documents`"

    def test_every_action(self) -> None:
        assert list(frames.ACTIONS) == list(actions.ACTIONS)

    def test_every_push(self) -> None:
        """What the code calls a type of frame stands in it as a word: `"type": "message"`."""
        code = "".join(path.read_text() for path in (PROJECT / "chalicelib").rglob("*.py"))
        types = set(re.findall(r'"type": "(\w+)"', code)) | set(re.findall(r'\bannounce\("(\w+)"', code))
        assert types == {"reply", "error", *frames.PUSHES}

    def test_every_error_code(self) -> None:
        every = {kind.code for kind in ClientError.__subclasses__()} | {"internal_error"}
        assert set(CODES) == every
        assert set(frames.ERROR["properties"]["error"]["properties"]["code"]["enum"]) == every - {"conflict"}

    def test_every_namespace(self) -> None:
        for name, options in NAMESPACES.items():
            channel = f"{name}:x"
            assert accepts("subscribe", {"action": "subscribe", "channel": channel})
            publish = {"action": "publish", "channel": channel, "data": 1}
            assert accepts("publish", publish) is options.clients_publish
            assert accepts("presence", {"action": "presence", "channel": channel}) is options.presence
            assert accepts("history", {"action": "history", "channel": channel}) is bool(options.history_size)

    def test_every_route_has_a_door(self) -> None:
        """That they are those of app.py, tests/handlers/test_app.py sees."""
        assert all(callable(getattr(rest, route.door)) for route in ROUTES.values())

    def test_every_frame_has_its_example(self) -> None:
        messages = asyncapi.build()["components"]["messages"]
        # Its reply is that of sendMessage.
        assert {name for name, message in messages.items() if "examples" not in message} == {"BroadcastAllReply"}


@cache
def asking(action: str) -> Draft202012Validator:
    return Draft202012Validator(inlined(frames.ACTIONS[action].frame(action)))


def accepts(action: str, frame: Mapping[str, Any]) -> bool:
    return asking(action).is_valid(frame)


class TestNothingIsWrong:
    @pytest.mark.slow
    def test_the_official_validator_takes_the_openapi_document(self) -> None:
        OpenAPIV31SpecValidator(json.loads(DOCUMENTS["openapi.json"])).validate()

    @pytest.mark.slow
    def test_the_validator_refuses_a_broken_document(self) -> None:
        broken = json.loads(DOCUMENTS["openapi.json"])
        del broken["paths"]["/users/{userId}/messages"]["post"]["parameters"]
        assert list(OpenAPIV31SpecValidator(broken).iter_errors())

    @pytest.mark.parametrize("name", ["asyncapi.json", "openapi.json"])
    def test_every_schema_is_one_and_refers_to_what_is_there(self, name: str) -> None:
        schemas = json.loads(DOCUMENTS[name])["components"]["schemas"]
        for schema in schemas.values():
            Draft202012Validator.check_schema(schema)
        for reference in re.findall(r'"#/components/schemas/(\w+)"', DOCUMENTS[name]):
            assert reference in schemas

    @pytest.mark.parametrize("frame", examples.read_frames(), ids=lambda frame: json.dumps(frame)[:40])
    def test_every_example_is_as_the_schemas_say(self, frame: dict[str, Any]) -> None:
        if "action" in frame:
            assert accepts(frame["action"], frame)
        elif frame["type"] == "reply":
            kinds = [name for name in frames.ACTIONS if frame in examples.replies(name)]
            assert kinds
            assert all(is_exact(kind, frame) for kind in kinds)
        else:
            assert is_exact(frame["type"], frame)

    def test_bodies_in_the_openapi_document_are_as_it_says(self) -> None:
        for route in ROUTES.values():
            if route.body:
                assert Draft202012Validator(inlined(route.body)).is_valid(route.example)


def is_exact(kind: str, frame: Any) -> bool:
    validator = compiled(kind)
    return validator is not None and validator.is_valid(frame)


class TestWhatTestsSee:
    """The plugin that holds whatever any test sees against the documents does find what is wrong."""

    GOODBYE = {"type": "goodbye", "code": "closed", "reason": None}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("frame", "fault"),
        [
            (GOODBYE, None),
            (GOODBYE | {"more": 1}, "goodbye at $: Unevaluated properties"),
            (GOODBYE | {"code": "#"}, "goodbye at $.code: "),
            ({"type": "goodbye", "code": "closed"}, "goodbye at $: 'reason' is a required property"),
            ({"type": "farewell"}, "no document knows farewell"),
            ({"type": "reply", "id": 1, "data": {}}, "no document knows reply"),
            ({"id": 1, "connect": {}}, None),
        ],
        ids=str,
    )
    def test_frames(self, frame: Any, fault: str | None) -> None:
        shapes = Shapes()
        shapes.see("c", frame)
        assert [found[: len(fault or "")] for found in shapes.faults] == ([fault] if fault else [])

    @pytest.mark.parametrize(
        ("data", "is_right"),
        [
            ({"channel": "c:d", "epoch": None, "offset": None, "queued": True}, True),
            ({"channel": "c:d", "epoch": None, "offset": None, "sent": 1, "gone": 0, "failed": 0}, True),
            ({"channel": "c:d", "epoch": None, "offset": None, "sent": 1, "gone": 0, "failed": 0, "more": 1}, False),
            ({"channel": "c:d", "epoch": None, "offset": None}, False),
        ],
    )
    def test_replies_to_what_was_asked(self, data: Any, is_right: bool) -> None:
        shapes = Shapes()
        shapes.ask("c", '{"action":"publish","id":7}')
        shapes.see("c", {"type": "reply", "id": 7, "data": data})
        assert (shapes.faults == []) is is_right

    def test_answers(self) -> None:
        shapes = Shapes()
        shapes.answer("get_members", (200, {"channel": "c:d"}))
        shapes.answer("delete_connection", (204, {}))
        shapes.answer("post_broadcast", (400, {"error": {"code": "teapot", "message": "", "retryable": False}}))
        assert [fault.partition(" ")[0] for fault in shapes.faults[-2:]] == ["delete_connection", "post_broadcast"]
        assert len(shapes.faults) == 6

    def test_what_is_part_of_an_object_is_closed_with_it(self) -> None:
        schema = {"allOf": [{"type": "object", "properties": {"a": {}}}, {"oneOf": [{"properties": {"b": {}}}]}]}
        validator = Draft202012Validator(closed(copy.deepcopy(schema)))
        assert [validator.is_valid({"a": 1, "b": 1, **more}) for more in ({}, {"c": 1})] == [True, False]


# Values that are right for some field and wrong for another, or nearly right.
VALUES: list[Any] = [
    None, "", "x", "u_456", "a#b", "x" * 128, "x" * 129, "é", ID, "chat:lobby", "feed:news", "live:x", "user:u_123",
    "chat:", ":x", "nowhere:x", "chat:" + "x" * 123, "chat:" + "x" * 124, True, False, 0, 1, -1, 1_000, 1_001, 1.5,
    2**53 - 1, 2**53, [], {}, [1], {"x": 1}, {"epoch": "e", "offset": 0}, {"epoch": "", "offset": 1}, {"epoch": 1},
    {"epoch": "e", "offset": -1}, {"epoch": "e", "offset": True}, {"epoch": "e", "offset": 2**53}, {"offset": 1},
    ["*"], ["chat:*", "u"], ["a:b:*"], {"chat:*": ["subscribe"]}, {"chat:*": ["fly"]}, {"#": []}, {"a": "subscribe"},
    {"channels": {"chat:*": ["history"]}}, {"more": 1}, {"data": 1}, [{"data": 1}], [{"data": None, "messageId": "#"}],
    [{}], 10**11, 10**11 + 1,
]  # fmt: skip
# What depends on more than the frame: the channel's epoch, and what a ticket's grants have together.
BEYOND_SCHEMAS = ("since is of an epoch that is over.",)


def bodies(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have some of these members, or others, each with any of the values."""
    return st.dictionaries(st.sampled_from([*names, "other"]), st.sampled_from(VALUES))


def fields_of(schema: Mapping[str, Any]) -> list[str]:
    """The names of all members that the schema knows, in whichever of its parts."""
    found = list(schema.get("properties", {}))
    for word in ("allOf", "anyOf", "oneOf"):
        found += [name for part in schema.get(word, ()) for name in fields_of(part)]
    return list(dict.fromkeys(found))


NO_RESET = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestWhatIsAccepted:
    """What the schemas take is never refused for its shape, and what they do not take always is."""

    @pytest.mark.slow
    @pytest.mark.parametrize("action", [name for name in frames.ACTIONS if name != "authenticate"])
    def test_frames(self, action: str, peal: Peal, api: FakeWebsocketApi) -> None:
        for connection_id in (ID, OTHER):
            websocket.connect(peal, raw_events.connect(connection_id, {"userId": "u_123"}))
        schema = frames.ACTIONS[action].frame(action)
        names = [name for name in fields_of(schema) if name != "action"]

        @NO_RESET
        @given(bodies(*names))
        def check(body: dict[str, Any]) -> None:
            frame = {**body, "action": action}
            websocket.message(peal, raw_events.message(json.dumps(frame), ID))
            # Forbidden is only to publish where servers alone do: nothing else is denied to these two.
            refusals = [
                told["error"]["message"]
                for told in api.frames(ID)
                if told["type"] == "error" and told["error"]["code"] in ("invalid", "forbidden")
            ]
            api.frames(OTHER)
            if not set(refusals) & set(BEYOND_SCHEMAS):
                assert accepts(action, frame) is (refusals == []), (frame, refusals)

        check()

    @pytest.mark.slow
    @pytest.mark.parametrize("place", [place for place, route in ROUTES.items() if route.body], ids=" ".join)
    def test_bodies(self, place: tuple[str, str], peal: Peal) -> None:
        route = ROUTES[place]
        assert route.body is not None
        path = {"connectionId": [ID], "userId": ["u_123"], "channel": ["chat:lobby"]}
        arguments = [path[name][0] for name in re.findall(r"\{(\w+)\}", place[1])]
        validator = Draft202012Validator(inlined(route.body))
        names = fields_of(inlined(route.body))

        @NO_RESET
        @given(bodies(*names))
        def check(body: dict[str, Any]) -> None:
            status, answer = rest.answer(getattr(rest, route.door), peal, *arguments, json.dumps(body).encode())
            assert validator.is_valid(body) is (status != 400), (body, answer)

        check()

    @pytest.mark.slow
    @pytest.mark.parametrize("place", [place for place, route in ROUTES.items() if route.query], ids=" ".join)
    def test_queries(self, place: tuple[str, str], peal: Peal) -> None:
        route = ROUTES[place]
        path = {"connectionId": ID, "userId": "u_123", "channel": "chat:lobby"}
        arguments = [path[name] for name in re.findall(r"\{(\w+)\}", place[1])]
        texts = [
            "",
            "x",
            "u_456",
            "a#b",
            "x" * 128,
            "x" * 129,
            "x" * 513,
            "0",
            "1",
            "1000",
            "1001",
            "-1",
            "1.5",
            "true",
        ]

        @NO_RESET
        @given(st.dictionaries(st.sampled_from([*route.query, "other"]), st.sampled_from(texts), max_size=2))
        def check(query: dict[str, str]) -> None:
            status, answer = rest.answer(getattr(rest, route.door), peal, *arguments, query)
            fits = all(
                Draft202012Validator(inlined(schema)).is_valid(as_typed(query[name], schema))
                for name, schema in route.query.items()
                if name in query
            )
            # A position is a place that somebody was told of, and has both its halves.
            if not query.keys() & {"after", "epoch", "offset"}:
                assert fits is (status != 400), (query, answer)

        check()


def as_typed(text: str, schema: Mapping[str, Any]) -> Any:
    """A query parameter as whoever reads the document would read it."""
    if schema.get("type") in ("integer", "boolean"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
