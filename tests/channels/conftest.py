"""Connected clients."""

import pytest

from chalicelib.peal import Peal
from tests.support.channels import Connect
from tests.support.clients import Client
from tests.support.fakes import FakeWebsocketApi


@pytest.fixture
def connect(peal: Peal, api: FakeWebsocketApi) -> Connect:
    """Connect a user; a second connection of the same user needs its own `name`."""

    def connect(user: str, name: str | None = None) -> Client:
        return Client(peal, api, f"{name or user}=", userId=user)

    return connect


@pytest.fixture
def alice(connect: Connect) -> Client:
    return connect("alice")


@pytest.fixture
def bob(connect: Connect) -> Client:
    return connect("bob")
