"""The frames that docs/PROTOCOL.md shows: they are the examples of every other document too."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
_FENCE = re.compile(r"```json\n(.*?)```", re.S)


def read_frames() -> list[dict[str, Any]]:
    """All frames of the page, in their order: those of clients have an `action`, the server's a `type`."""
    page = (PROJECT / "docs" / "PROTOCOL.md").read_text()
    return [frame for text in _FENCE.findall(page) if "action" in (frame := json.loads(text)) or "type" in frame]


def of_client(action: str) -> list[dict[str, Any]]:
    """What a client sends that asks for the action."""
    return [frame for frame in read_frames() if frame.get("action") == action]


def replies(action: str) -> list[dict[str, Any]]:
    """What it is replied: a reply follows the frame whose id it has."""
    return [answer for asked, answer in _exchanges() if asked["action"] == action]


def pushes(kind: str) -> list[dict[str, Any]]:
    """What a client is pushed, or told as an error."""
    return [frame for frame in read_frames() if frame.get("type") == kind]


def _exchanges() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    asked: dict[Any, dict[str, Any]] = {}
    for frame in read_frames():
        if "action" in frame and "id" in frame:
            asked[frame["id"]] = frame
        elif frame.get("type") == "reply":
            yield asked[frame["id"]], frame
