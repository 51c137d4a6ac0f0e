"""A service that is built once for each Lambda, and a member of its channel."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.limits import LIMITS
from chalicelib.peal import Peal
from chalicelib.peal import build as build_peal
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.settings import Settings
from tests.conftest import Clock
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi
from tests.support.lambdas import CHANNEL, ROOM, Build


@pytest.fixture
def ticking(clock: Clock) -> Callable[[], float]:
    """Return a clock that starts at the time of the fixed one and runs."""
    start, base = time.monotonic(), clock.now
    return lambda: base + time.monotonic() - start


@pytest.fixture
def build(table_name: str, api: FakeWebsocketApi, session: Any, jobs: FakeJobs) -> Build:
    """Build the service as another Lambda instance would, over the same table."""

    def build(clock: Callable[[], float], namespaces: Any = ROOM, **limits: float) -> Peal:
        settings = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING)
        # A wait for a clock that does not move would never end.
        bounds = LIMITS._replace(**{"publication_seconds": 0, **limits})
        return build_peal(settings, api, session, clock, namespaces=namespaces, jobs=jobs, limits=bounds)

    return build


@pytest.fixture
def peal(build: Build, clock: Clock) -> Peal:
    return build(clock)


@pytest.fixture
def alice(peal: Peal, api: FakeWebsocketApi) -> Client:
    alice = Client(peal, api, "alice=", userId="alice")
    alice.asks("subscribe", channel=CHANNEL)
    return alice
