"""Several Lambdas over one table: how to build them, kill them and let one act in the middle of another."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.errors import TableError
from chalicelib.peal import Peal
from chalicelib.protocol.namespaces import Namespace
from tests.conftest import Clock
from tests.support.clients import Client
from tests.support.fakes import FakeWebsocketApi

CHANNEL = "room:1"
ROOM = {"room": Namespace(history_size=1_000, history_ttl_seconds=3_600)}
SHARDED = {"room": Namespace(history_size=1_000, history_ttl_seconds=3_600, shards=4)}
Build = Callable[..., Peal]


class Killed(BaseException):
    """The Lambda ends here and runs nothing more."""


def offsets(client: Client) -> list[int]:
    """Return the offsets that the client was pushed, in the order they arrived."""
    return [frame["offset"] for frame in client.api.frames(client.id) if frame["type"] == "publication"]


def epoch_of(peal: Peal) -> str:
    return peal.history(CHANNEL, limit=0).epoch


def late(peal: Peal, api: FakeWebsocketApi, clock: Clock, connection_id: str) -> Client:
    """Return a client that connects at the time of the clock."""
    return Client(peal, api, connection_id, connected_at_ms=int(clock.now * 1000), userId="u")


def kill_in(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    """Make the next call of that method the last of its Lambda; later calls work again."""
    original = getattr(owner, name)

    def die(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(owner, name, original)
        raise Killed

    monkeypatch.setattr(owner, name, die)


def before(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, act: Callable[[], Any]) -> list[Any]:
    """Run `act` right before the next call of that method.

    Returns:
        A list to which the result of `act` is added.
    """
    original, given = getattr(owner, name), []

    def call(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(owner, name, original)
        given.append(act())
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, call)
    return given


def fail(*_: object, **__: object) -> Any:
    raise TableError("Query", "InternalServerError")
