"""What tests share: a fresh table per test on a real DynamoDB engine, a clock that moves when told."""

import io
import itertools
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import hypothesis
import pytest
from botocore.client import BaseClient

from chalicelib import logs, telemetry
from chalicelib.aws.client import connect
from chalicelib.aws.dynamodb import DynamoDBClient
from chalicelib.limits import LIMITS, Limits
from chalicelib.peal import Peal, build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.settings import Settings
from chalicelib.store.table import Table
from localgateway.aws.resources import fit
from localgateway.aws.template import read_resources
from tests.support.fakes import FakeJobs, FakeWebsocketApi
from tests.support.signing import NEW

# How long an example takes is the machine's business, not a property of the code.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=40)
hypothesis.settings.register_profile("thorough", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
pytest_plugins = ["gatewayaws", "tests.support.permissions", "tests.support.shapes"]
PROJECT = Path(__file__).parent.parent
_numbers = itertools.count()


class Clock:
    """Epoch seconds that stand still until a test moves them."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Starts at 2026-11-23T09:30:10Z, ten seconds after the raw events' connections."""
    return Clock(1_795_426_210.0)


@pytest.fixture(scope="session")
def dynamodb(aws: None) -> Iterator[Any]:
    """A low-level boto3 client of the engine."""
    client = boto3.client("dynamodb")
    yield client
    client.close()


@pytest.fixture
def table_name(dynamodb: Any) -> str:
    """A fresh table."""
    return create_table(dynamodb)


def create_table(dynamodb: Any) -> str:
    """A table of its own name, made from the definition in resources.json."""
    resources = read_resources(PROJECT / "resources.json", stage="test", region="eu-central-1")
    (definition,) = resources.tables.values()
    shape = dynamodb.meta.service_model.operation_model("CreateTable").input_shape
    name = f"test-{os.getpid()}-{next(_numbers)}-{uuid.uuid4().hex[:8]}"
    dynamodb.create_table(**fit(definition, shape) | {"TableName": name})
    return name


@pytest.fixture
def dynamodb_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the DynamoDB operations that any client of this process has called so far."""
    calls: list[str] = []

    def note(_: Any, call: Call, operation: str, asked: Any) -> Any:
        calls.append(operation)
        return call(operation, asked)

    go_through(note, monkeypatch)
    return calls


# Asks DynamoDB for an operation with these parameters.
Call = Callable[[str, Any], Any]


def go_through(way: Callable[[Any, Call, str, Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What either kind of client asks DynamoDB is left to `way`, which is given the client and how it would ask."""

    def lead(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def led(client: Any, operation: str, asked: Any) -> Any:
            if isinstance(client, BaseClient) and client.meta.service_model.service_name != "dynamodb":
                return call(client, operation, asked)
            return way(client, partial(call, client), operation, asked)

        monkeypatch.setattr(owner, name, led)

    lead(BaseClient, "_make_api_call")
    lead(DynamoDBClient, "call")


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Whatever a test does to the process's logging is undone."""
    root = logging.getLogger()
    levels = {
        log: log.level for log in (root, logging.getLogger("chalicelib"), telemetry.log, logging.getLogger("peal"))
    }
    handlers = root.handlers[:]
    yield
    root.handlers[:] = handlers
    for log, level in levels.items():
        log.setLevel(level)


# Everything logged so far, as on AWS: one JSON object a line. Taken out as it is read.
LogLines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def log_lines(logging_as_it_was: None) -> LogLines:
    """The process logs JSON for the stage `test`, from DEBUG on."""
    stream = io.StringIO()
    logs.configure(Settings("t", stage="test", log_level="DEBUG"), own=["peal"], stream=stream)

    def take() -> list[dict[str, Any]]:
        text = stream.getvalue()
        stream.seek(stream.truncate(0))
        return [json.loads(line) for line in text.splitlines()]

    return take


@pytest.fixture(scope="session")
def lean_dynamodb(session: boto3.session.Session) -> Iterator[DynamoDBClient]:
    """Our own client of the engine."""
    client = connect(DynamoDBClient, session, "lean")
    assert isinstance(client, DynamoDBClient)
    yield client
    client.close()


@pytest.fixture
def rows(lean_dynamodb: DynamoDBClient, table_name: str, clock: Clock) -> Table:
    return Table(lean_dynamodb, table_name, clock)


@pytest.fixture
def api() -> FakeWebsocketApi:
    """Chalice's websocket_api with an inbox per connection instead of sockets."""
    return FakeWebsocketApi()


@pytest.fixture(scope="session")
def session(aws: None) -> boto3.session.Session:
    return boto3.session.Session()


@pytest.fixture
def jobs() -> FakeJobs:
    """A queue that the test empties."""
    return FakeJobs()


@pytest.fixture
def limits() -> Limits:
    """What `peal` is built with; a test or class that needs other limits overrides this."""
    return LIMITS


@pytest.fixture
def peal(
    table_name: str,
    api: FakeWebsocketApi,
    session: boto3.session.Session,
    clock: Clock,
    jobs: FakeJobs,
    limits: Limits,
) -> Peal:
    """The whole service over a fresh table, where everyone may connect."""
    settings = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING, jwt_secrets=NEW)
    return build(settings, api, session, clock, jobs=jobs, limits=limits)
