"""The frames that docs/PROTOCOL.md shows, which are the examples of all other documents too."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
_FENCE = re.compile(r"```json\n(.*?)```", re.S)


def read_frames() -> list[dict[str, Any]]:
    """Return all frames of the page, in order: a client's has an `action`, the server's a `type`."""
    page = (PROJECT / "docs" / "PROTOCOL.md").read_text()
    return [frame for text in _FENCE.findall(page) if "action" in (frame := json.loads(text)) or "type" in frame]


def of_client(action: str) -> list[dict[str, Any]]:
    """Return the frame of a client that asks for the action."""
    return [frame for frame in read_frames() if frame.get("action") == action]


def replies(action: str) -> list[dict[str, Any]]:
    """Return its reply, which follows the frame with the same id."""
    return [answer for asked, answer in _exchanges() if asked["action"] == action]


def pushes(kind: str) -> list[dict[str, Any]]:
    """Return a push of that type, or an error."""
    return [frame for frame in read_frames() if frame.get("type") == kind]


def _exchanges() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    asked: dict[Any, dict[str, Any]] = {}
    for frame in read_frames():
        if "action" in frame and "id" in frame:
            asked[frame["id"]] = frame
        elif frame.get("type") == "reply":
            yield asked[frame["id"]], frame
