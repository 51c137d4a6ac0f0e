"""What tests of channels share: a channel of each kind, and how to read publications."""

from collections.abc import Callable
from typing import Any

from chalicelib.errors import TableError
from tests.support.clients import Client

ROOM, MAP, FEED = "chat:lobby", "live:map", "feed:news"
Connect = Callable[..., Client]


def texts(publications: list[dict[str, Any]]) -> list[Any]:
    return [publication["data"] for publication in publications]


def failing(operation: str) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise TableError(operation, "ProvisionedThroughputExceededException")

    return fail
