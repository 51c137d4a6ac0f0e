"""The documents say what the code does: every example in docs/PROTOCOL.md is sent or compared."""

import json
import re
from typing import Any

import pytest

from chalicelib import errors
from chalicelib.handlers import actions, commands, router, websocket
from chalicelib.peal import Peal
from chalicelib.protocol import action_frames, centrifuge
from chalicelib.protocol import frame as protocol
from pealctl.commands import COMMANDS
from tests.conftest import PROJECT
from tests.support import raw_events
from tests.support.fakes import FakeWebsocketApi

PROTOCOL = (PROJECT / "docs" / "PROTOCOL.md").read_text()
EXAMPLES = [
    (speaker, json.loads(text))
    for speaker, text in re.findall(r"^(Client|Server)[^\n]*:\n```json\n(.*?)```", PROTOCOL, re.M | re.S)
]
FROM_CLIENT = [frame for speaker, frame in EXAMPLES if speaker == "Client"]
FROM_SERVER = [frame for speaker, frame in EXAMPLES if speaker == "Server"]
ID, OTHER = "JC1dgf9yoAMCK-g=", "L0SM9cOFvHcCIhw="


SDK_EXAMPLES = [
    (speaker, json.loads(text))
    for speaker, text in re.findall(r"^(SDK|Peal)[^\n]*:\n```json\n(.*?)```", PROTOCOL, re.M | re.S)
]


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PROTOCOL, re.M | re.S)
    assert found
    return found[1]


@pytest.fixture
def frames(peal: Peal, api: FakeWebsocketApi) -> list[dict[str, Any]]:
    """All that two clients are sent when one of them sends every example in turn."""
    websocket.connect(peal, raw_events.connect(ID, {"userId": "u_123", "deviceId": "phone"}))
    websocket.connect(peal, raw_events.connect(OTHER, {"userId": "u_456"}))
    websocket.message(peal, raw_events.message('{"action":"subscribe","id":0,"channel":"chat:lobby"}', OTHER))
    (subscribed,) = api.frames(OTHER)
    for frame in FROM_CLIENT:
        text = json.dumps(frame).replace("QPE6b7_G", subscribed["data"]["epoch"])
        websocket.message(peal, raw_events.message(text, ID))
    return api.frames(ID) + api.frames(OTHER)


def shape(value: Any) -> Any:
    """The keys of a frame in their order, down to the reply's data."""
    return {name: shape(inner) for name, inner in value.items()} if isinstance(value, dict) else None


def test_every_example_of_a_client_is_understood(frames: list[dict[str, Any]]) -> None:
    assert len(FROM_CLIENT) >= 6
    assert [frame for frame in frames if frame["type"] == "error"] == []


@pytest.mark.slow
@pytest.mark.parametrize("example", FROM_SERVER, ids=lambda example: json.dumps(example)[:40])
def test_every_example_of_the_server_is_what_it_sends(example: dict[str, Any], frames: list[dict[str, Any]]) -> None:
    example["data"] = example["data"] if example["type"] == "reply" else None
    sent = [frame | {"data": frame["data"] if frame["type"] == "reply" else None} for frame in frames]
    assert json.dumps(shape(example)) in [json.dumps(shape(frame)) for frame in sent]


def test_every_example_of_an_sdk_is_answered_as_the_document_says(peal: Peal, api: FakeWebsocketApi) -> None:
    assert len(SDK_EXAMPLES) >= 12
    websocket.connect(peal, raw_events.connect(ID))
    websocket.connect(peal, raw_events.connect(OTHER, {"userId": "u_456"}))
    epoch = peal.history("chat:lobby").epoch
    for speaker, example in SDK_EXAMPLES:
        text = json.dumps(example).replace("QPE6b7_G", epoch)
        if speaker == "SDK":
            websocket.message(peal, raw_events.message(text, ID))
        else:
            receiver, sent = api.inbox.pop(0)
            assert (receiver, json.loads(sent)) == (ID, json.loads(text))
        api.inbox = [(receiver, sent) for receiver, sent in api.inbox if receiver == ID]
    assert (api.inbox, api.closed) == ([], [ID])


def test_every_command_is_listed() -> None:
    listed = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section("Official SDKs").split("| push |")[0], re.M)
    assert set(re.findall(r"\w+", " ".join(listed))) == set(commands.COMMANDS)


def test_every_code_of_an_sdks_error_is_listed_with_ours() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.*) \|$", section("Official SDKs"), re.M)
    listed = {(int(code), ours) for code, names in rows for ours in re.findall(r"`(\w+_?\w*)`(?:,|:| \||$)", names)}
    told = {(code, kind.code) for kind, code in centrifuge.ERROR_CODES.items()}
    told |= {(centrifuge.BAD_REQUEST, kind.code) for kind in (errors.Invalid, errors.TooLarge, errors.BadFrame)}
    assert listed == told | {(centrifuge.INTERNAL_ERROR, "internal_error")}


def test_every_code_of_a_disconnect_is_listed() -> None:
    listed = set(map(int, re.findall(r"^\| (\d{4}) \|", section("Official SDKs"), re.M)))
    assert listed == {centrifuge.EXPIRED, centrifuge.INSUFFICIENT_STATE, centrifuge.BAD_FRAME, centrifuge.FORCED}
    assert router.BAD_REQUEST[0] == str(centrifuge.BAD_FRAME)


def test_the_sdks_of_the_document_are_those_of_the_tests() -> None:
    wanted = json.loads((PROJECT / "tests" / "sdk" / "package.json").read_text())["dependencies"]["centrifuge"]
    example = json.loads((PROJECT / "examples" / "chat" / "package.json").read_text())["dependencies"]
    assert example == {"centrifuge": wanted}
    assert f"`centrifuge` on npm | tested: {wanted} |" in PROTOCOL
    (pinned,) = re.findall(r"^centrifuge-python==(.*)$", (PROJECT / "tools/requirements/test.txt").read_text(), re.M)
    assert f"`centrifuge-python` on PyPI | tested: {pinned} |" in PROTOCOL


def test_the_error_example_is_what_the_server_sends() -> None:
    example = json.loads(re.search(r"```json\n(\{\"type\": \"error\".*?)```", PROTOCOL, re.S)[1])  # type: ignore[index]
    assert example == action_frames.error(4, errors.Invalid("text", "must be a string"))


def test_every_error_code_is_listed_with_its_meaning() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", section("Errors"), re.M))
    raised = {kind.code: "yes" if kind.retryable else "no" for kind in errors.ClientError.__subclasses__()}
    raised["internal_error"] = "yes"
    # Only ever an HTTP status, never a frame.
    del raised["conflict"]
    assert listed == raised


def test_every_action_is_listed() -> None:
    assert set(re.findall(r"^\| \[`(\w+)`\]", section("Actions"), re.M)) == set(actions.ACTIONS)


def test_the_limits_are_the_ones_in_force() -> None:
    for limit in (protocol.MAX_FRAME_BYTES, protocol.MAX_ATTRIBUTES_BYTES):
        assert f"{limit:,} bytes" in PROTOCOL
    assert f"{protocol.MAX_ATTRIBUTES} names" in PROTOCOL
    assert protocol.MAX_SAFE_INTEGER == 2**53 - 1


def test_every_test_of_a_fault_is_there() -> None:
    text = (PROJECT / "docs/ARCHITECTURE.md").read_text()
    named = re.findall(r"`(test_\w+)`", text.partition("## What breaks")[2])
    sources = [path.read_text() for path in (PROJECT / "tests/faults").glob("test_*.py")]
    assert len(named) > 20
    assert [name for name in named if not any(f"def {name}(" in source for source in sources)] == []


def test_every_command_is_in_the_operators_table() -> None:
    page = (PROJECT / "docs" / "OPERATIONS.md").read_text()
    for command in COMMANDS:
        assert re.search(rf"^\|.*`{command}[ `]", page, re.M), command
