"""Tests of a Chalice WebSocket app on real sockets: a pytest plugin, and builders of events for chalice.test.Client.

A conftest.py says `pytest_plugins = ["localgateway.testing"]`; docs/TESTING.md has the rest. Importing this changes
nothing. PYTEST_DONT_REWRITE: failures are written here in words, and a conftest.py may import from here as well.
"""

from localgateway.testing.client import Client, Refused
from localgateway.testing.events import connect_event, disconnect_event, message_event
from localgateway.testing.gateway import Answer, Gateway
from localgateway.testing.plugin import gateway, gateway_options, gateway_process, pytest_addoption

__all__ = [
    "Answer",
    "Client",
    "Gateway",
    "Refused",
    "connect_event",
    "disconnect_event",
    "gateway",
    "gateway_options",
    "gateway_process",
    "message_event",
    "pytest_addoption",
]
