"""What tests share: a real DynamoDB engine over HTTP, a fresh table per test, a clock that moves when told.

The engine is the embedded one, or whatever AWS_ENDPOINT_URL_DYNAMODB names: the same tests run on any.
"""

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

from chalicelib import logs, telemetry, wiring
from chalicelib.dynamodb import LeanDynamoDB, connect
from chalicelib.permission import EVERYTHING
from chalicelib.service import Service
from chalicelib.settings import Settings
from chalicelib.table import Table
from localgateway.aws import DUMMY_CREDENTIALS, Engine
from localgateway.resources import fit
from localgateway.template import read_resources
from tests.fakes import FakeJobs, FakeWebsocketApi
from tests.signing import NEW

# How long an example takes is the machine's business, not a property of the code.
hypothesis.settings.register_profile("peal", deadline=None)
hypothesis.settings.load_profile("peal")
pytest_plugins = ["localgateway.testing", "tests.permissions", "tests.shapes"]
PROJECT = Path(__file__).parent.parent
_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here and not in localgateway/: pytest knows the options of this file only, before it looks for tests.
    parser.addoption("--presumed", action="store_true", help="test too what AWS is only presumed to do")


@pytest.fixture(scope="session", autouse=True)
def aws() -> Iterator[None]:
    """The AWS variables of this process: an engine of its own, dummy credentials, never the real thing."""
    engine = None if "AWS_ENDPOINT_URL_DYNAMODB" in os.environ else Engine()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_ENDPOINT_URL_DYNAMODB"]:
            patch.delenv(name)
        variables = {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"} | DUMMY_CREDENTIALS
        for name, value in (variables | (engine.environment if engine else {})).items():
            patch.setenv(name, value)
        if engine is None:
            yield
            return
        engine.start()
        try:
            yield
        finally:
            engine.stop()


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
    lead(LeanDynamoDB, "call")


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
def lean_dynamodb(session: boto3.session.Session) -> Iterator[LeanDynamoDB]:
    """Our own client of the engine."""
    client = connect(session, "lean", {})
    assert isinstance(client, LeanDynamoDB)
    yield client
    client.close()


@pytest.fixture
def rows(lean_dynamodb: LeanDynamoDB, table_name: str, clock: Clock) -> Table:
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
def peal(
    table_name: str, api: FakeWebsocketApi, session: boto3.session.Session, clock: Clock, jobs: FakeJobs
) -> Service:
    """The whole service over a fresh table, where everyone may connect."""
    settings = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING, jwt_secrets=NEW)
    return wiring.build(settings, api, session, clock, jobs=jobs)
