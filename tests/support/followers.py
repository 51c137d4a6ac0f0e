"""A client that follows a channel as README's does, without a socket, and survives as that does."""

import itertools
import json
from typing import Any

from chalicelib.handlers import websocket
from chalicelib.peal import Peal
from tests.support import raw_events
from tests.support.fakes import FakeWebsocketApi, gone

CHANNEL = "chat:a"
MAX_COMES = 5
_numbers = itertools.count()


class Follower:
    """Follows one channel.

    Attributes:
        since: the offset at which it was first admitted, or admitted afresh.
        shown: what it shows, by offset, in the order in which it came to know of it.
        is_in: whether it has a reply to its last subscribe.
        repeats: how many publications came again; they are dropped.
        afresh: how often it was not given what it had missed.
        comes: how often it has connected.
        told: the error codes that it was answered.
    """

    def __init__(self, peal: Peal, api: FakeWebsocketApi, user: str, channel: str = CHANNEL) -> None:
        self.peal, self.api, self.user, self.channel = peal, api, user, channel
        self.id = ""
        self.position: dict[str, Any] | None = None
        self.shown: dict[int, Any] = {}
        self.since = 0
        self.repeats = self.afresh = self.comes = 0
        self.told: list[str] = []
        self.is_in = False
        self._missed: list[Any] = []

    def follow(self) -> None:
        """It connects, and subscribes with the last position it knows; then it reads."""
        self.connect()
        self.subscribe()
        self.read()

    def connect(self) -> None:
        """Connect until it is admitted."""
        while True:
            self.comes += 1
            assert self.comes < MAX_COMES, self.told
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
        """It takes what has come; where it was closed, or told to try again, it comes back."""
        for frame in self.api.frames(self.id):
            self._take(frame)
            if frame["type"] == "error":
                # An SDK takes the first answer to a request and does not look at a second one.
                assert not self.is_in, "an error after the reply"
                self.told.append(frame["error"]["code"])
                assert frame["error"]["message"] == "Something went wrong on our side."
                return self.come_back()
        if self.id in self.api.closed:
            self.come_back()

    def come_back(self) -> None:
        """Its socket ends, and it follows again."""
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
