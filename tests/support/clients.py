"""A connected client without sockets: raw events in, the frames of the fake websocket_api out."""

import json
from typing import Any

from chalicelib.handlers import websocket
from chalicelib.peal import Peal
from tests.support import raw_events
from tests.support.fakes import FakeWebsocketApi

GOODBYE = {"type": "goodbye", "code": "unauthenticated", "reason": "Not signed in any more: connect again."}


class Client:
    """A connected client, as its frames and the service see it."""

    def __init__(
        self,
        peal: Peal,
        api: FakeWebsocketApi,
        connection_id: str,
        connected_at_ms: int = raw_events.CONNECTED_AT_MS,
        **query: str,
    ) -> None:
        self.peal, self.api, self.id = peal, api, connection_id
        event = raw_events.connect(connection_id, query, connectedAt=connected_at_ms)
        assert websocket.connect(peal, event) == {"statusCode": 200}

    def sends(self, frame: object) -> None:
        text = frame if isinstance(frame, str) else json.dumps(frame)
        assert websocket.message(self.peal, raw_events.message(text, self.id)) == {"statusCode": 200}

    def receives(self, *frames: dict[str, Any]) -> None:
        assert self.api.frames(self.id) == list(frames)

    def receives_nothing(self) -> None:
        self.receives()

    def gets_error(
        self, code: str, message: str, frame_id: object = None, retryable: bool = False, then_closed: bool = False
    ) -> None:
        error = {"code": code, "message": message, "retryable": retryable}
        self.receives({"type": "error", "id": frame_id, "error": error}, *([GOODBYE] if then_closed else []))
        assert (self.id in self.api.closed) is then_closed

    def asks(self, action: str, **fields: Any) -> dict[str, Any]:
        """Send a frame and return the data of its reply; pushes stay to be received."""
        self.sends({"action": action, "id": "ask", **fields})
        frames = self.api.frames(self.id)
        (answer,) = [frame for frame in frames if frame.get("id") == "ask"]
        assert answer["type"] == "reply", answer
        self.api.inbox += [(self.id, json.dumps(frame)) for frame in frames if frame is not answer]
        return dict(answer["data"])

    def is_refused(self, action: str, **fields: Any) -> str:
        """Send a frame and return the code of its error; nothing else may be received."""
        self.sends({"action": action, "id": "ask", **fields})
        (answer,) = self.api.frames(self.id)
        return str(answer["error"]["code"])

    def receives_in(self, channel: str) -> list[Any]:
        """Return the data of the channel's publications, in order of arrival; other frames stay."""
        frames = self.api.frames(self.id)
        of_channel = [frame for frame in frames if frame["type"] == "publication" and frame["channel"] == channel]
        self.api.inbox += [(self.id, json.dumps(frame)) for frame in frames if frame not in of_channel]
        return [frame["data"] for frame in of_channel]

    def disconnects(self) -> None:
        assert websocket.disconnect(self.peal, raw_events.disconnect(self.id)) == {"statusCode": 200}


class Sdk(Client):
    """A connected client that speaks Centrifugo's protocol, as an SDK does."""

    def __init__(self, *arguments: Any, connect: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._last_id = 0
        self.connected = self.calls("connect", **(connect or {}))

    def sends_commands(self, *commands: tuple[str, dict[str, Any]]) -> list[int]:
        """Send commands in one frame and return their ids."""
        ids = [self._last_id + index for index in range(1, len(commands) + 1)]
        self._last_id = ids[-1]
        lines = [{"id": id, name: fields} for id, (name, fields) in zip(ids, commands, strict=True)]
        self.sends("\n".join(map(json.dumps, lines)))
        return ids

    def calls(self, name: str, **fields: Any) -> dict[str, Any]:
        """Return the result of a command, or its error; pushes stay to be received."""
        (command_id,) = self.sends_commands((name, fields))
        frames = self.api.frames(self.id)
        (answer,) = [frame for frame in frames if frame.get("id") == command_id]
        self.api.inbox += [(self.id, json.dumps(frame)) for frame in frames if frame is not answer]
        return dict(answer[name] if name in answer else answer["error"])

    def receives_pushes(self) -> list[dict[str, Any]]:
        """Return all pushes so far."""
        return [frame["push"] for frame in self.api.frames(self.id)]
