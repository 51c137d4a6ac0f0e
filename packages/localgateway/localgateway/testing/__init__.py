"""Tests of a Chalice WebSocket app on real sockets: a client, a gateway, and events for chalice.test.Client.

Where the package is installed, pytest finds the fixtures by itself; `pytest_plugins = ["localgateway.testing"]` in a
conftest.py asks for them where pytest does not look. Importing this changes nothing. PYTEST_DONT_REWRITE: failures are
written here in words, and a conftest.py may import from here as well.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localgateway.testing.client import Client, Refused
    from localgateway.testing.events import connect_event, disconnect_event, message_event
    from localgateway.testing.gateway import Answer, Gateway

__all__ = ["Answer", "Client", "Gateway", "Refused", "connect_event", "disconnect_event", "message_event"]

# The entry point has this name too, so pytest registers the fixtures once.
pytest_plugins = ["localgateway.testing.plugin"]

HOMES = {
    "Answer": "gateway",
    "Client": "client",
    "Gateway": "gateway",
    "Refused": "client",
    "connect_event": "events",
    "disconnect_event": "events",
    "message_event": "events",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: pytest imports this package wherever it is installed."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
