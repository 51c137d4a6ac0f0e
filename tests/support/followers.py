"""A client that follows a channel and reconnects as README's does, without a socket."""

import itertools
import json
from typing import Any

from chalicelib.handlers import websocket
from chalicelib.peal import Peal
from tests.support import raw_events
from tests.support.fakes import FakeWebsocketApi, gone

CHANNEL = "chat:a"
MAX_CONNECTS = 5
_numbers = itertools.count()


class Follower:
    """Follows one channel.

    Attributes:
        since: the offset at which it was first admitted, or admitted afresh.
        shown: the publications that it shows, by offset, in order of arrival.
        is_in: whether it has a reply to its last subscribe.
        repeats: how many publications were repeated; they are dropped.
        afresh: how often it could not recover what it had missed.
        connects: how often it has connected.
        errors: the codes of the errors that it got.
    """

    def __init__(self, peal: Peal, api: FakeWebsocketApi, user: str, channel: str = CHANNEL) -> None:
        self.peal, self.api, self.user, self.channel = peal, api, user, channel
        self.id = ""
        self.position: dict[str, Any] | None = None
        self.shown: dict[int, Any] = {}
        self.since = 0
        self.repeats = self.afresh = self.connects = 0
        self.errors: list[str] = []
        self.is_in = False
        self._missed: list[Any] = []

    def follow(self) -> None:
        """Connect, subscribe with the last known position, and read."""
        self.connect()
        self.subscribe()
        self.read()

    def connect(self) -> None:
        """Connect until it is admitted."""
        while True:
            self.connects += 1
            assert self.connects < MAX_CONNECTS, self.errors
            self.id = f"{self.user}-{next(_numbers)}="
            event = raw_events.connect(self.id, {"userId": self.user})
            if websocket.connect(self.peal, event) == {"statusCode": 200}:
                break

    def subscribe(self) -> None:
        """Ask to be admitted without reading yet."""
        self._missed, self.is_in = [], False
        frame = {"action": "subscribe", "id": 1, "channel": self.channel, "recover": self.position}
        websocket.message(self.peal, raw_events.message(json.dumps(frame), self.id))

    def read(self) -> None:
        """Take the frames that have arrived; reconnect after an error or a close."""
        for frame in self.api.frames(self.id):
            self._take(frame)
            if frame["type"] == "error":
                # An SDK takes the first answer to a request and does not look at a second one.
                assert not self.is_in, "an error after the reply"
                self.errors.append(frame["error"]["code"])
                assert frame["error"]["message"] == "Something went wrong on our side."
                return self.reconnect()
        if self.id in self.api.closed:
            self.reconnect()

    def reconnect(self) -> None:
        """Disconnect and follow again."""
        websocket.disconnect(self.peal, raw_events.disconnect(self.id))
        self.follow()

    def _take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "publication":
                assert self.is_in, "a publication before the reply"
                self._show(frame)
            case "recovery":
                self._missed += frame["publications"]
            case "reply":
                self.is_in = True
                data = frame["data"]
                if data.get("recovered"):
                    for publication in [*self._missed, *data["publications"]]:
                        self._show(publication)
                    assert self.position is not None
                    self.position["offset"] = max(self.position["offset"], data["offset"])
                else:
                    self.afresh += self.position is not None
                    self.position = {"epoch": data["epoch"], "offset": data["offset"]}
                    self.since, self.shown = data["offset"], {}

    def _show(self, publication: dict[str, Any]) -> None:
        assert self.position is not None
        if publication["offset"] <= self.position["offset"]:
            self.repeats += 1
            return
        self.position["offset"] = publication["offset"]
        self.shown[publication["offset"]] = publication["data"]


class Sockets(FakeWebsocketApi):
    """Receivers that are gone once they were closed, or have ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: set[str] = set()

    def send(self, connection_id: str, message: str) -> None:
        self._look_for(connection_id)
        super().send(connection_id, message)

    def close(self, connection_id: str) -> None:
        self._look_for(connection_id)
        super().close(connection_id)
        self.ended.add(connection_id)

    def info(self, connection_id: str) -> dict[str, Any]:
        self._look_for(connection_id)
        return super().info(connection_id)

    def _look_for(self, connection_id: str) -> None:
        if connection_id in self.ended:
            raise gone()
