"""What the tests of this room share: our clients and boto3's, side by side, against a server that a test scripts."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.endpoint
import pytest
import trustme

from chalicelib.aws.client import JsonClient
from chalicelib.aws.management import ManagementClient
from chalicelib.aws.session import boto3_client, credentials_of
from tests.support.management_server import ManagementServer, serving

REGION = "eu-central-1"
# Long enough for a busy machine to answer, short enough to wait for.
PATIENCE_SECONDS = 0.5
# Returns a client of @connections for an endpoint; options are those of ours.
Connect = Callable[..., Any]


@pytest.fixture(autouse=True)
def boto3_does_not_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's clients do not wait before they retry."""
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture(params=["lean", "boto3"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Which client is tested."""
    return request.param


@pytest.fixture
def patience() -> float | None:
    """How many seconds both clients wait; None: as long as on AWS."""
    return None


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_CA_BUNDLE names the authority of the server's certificate."""
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))


@pytest.fixture
def server(authority: trustme.CA, trusted: None) -> Iterator[ManagementServer]:
    """Serves as @connections, over TLS."""
    with serving(authority) as server:
        yield server


@pytest.fixture
def json_server() -> Iterator[ManagementServer]:
    """Serves as DynamoDB or SQS, without TLS."""
    with serving(None, path="") as server:
        yield server


@pytest.fixture
def connect_ours(session: boto3.session.Session, patience: float | None) -> Iterator[Connect]:
    """Connects our client of @connections."""
    with ExitStack() as stack:

        def connect(endpoint: str, **options: Any) -> ManagementClient:
            limits = ManagementClient.limits
            if patience is not None:
                limits = limits._replace(connect_seconds=patience, answer_seconds=patience)
            options = {"limits": limits, **options}
            client = ManagementClient(endpoint, REGION, credentials_of(session), **options)
            stack.callback(client.close)
            return client

        yield connect


@pytest.fixture
def connect(
    kind: Any, session: boto3.session.Session, connect_ours: Connect, patience: float | None
) -> Iterator[Connect]:
    """Connects our client of @connections, or boto3's."""
    with ExitStack() as stack:

        def connect(endpoint: str) -> Any:
            if kind == "lean":
                return connect_ours(endpoint)
            options: dict[str, Any] = {"tries": 2}
            if patience is not None:
                # Ours does not retry after a timeout either.
                options = {"tries": 1, "connect_seconds": patience, "answer_seconds": patience}
            client = boto3_client(session, "apigatewaymanagementapi", **options, endpoint_url=endpoint)
            stack.callback(client.close)
            return client

        yield connect


@pytest.fixture
def client(connect: Connect, server: ManagementServer) -> Any:
    """A client of @connections: ours, or boto3's."""
    return connect(server.endpoint)


@pytest.fixture
def ours(connect_ours: Connect, server: ManagementServer) -> Any:
    """Our client of @connections."""
    return connect_ours(server.endpoint)


@pytest.fixture
def connect_json(
    kind: Any, session: boto3.session.Session, json_server: ManagementServer, patience: float | None
) -> Iterator[Callable[[type[JsonClient]], Any]]:
    """Connects to the server that speaks JSON, with our client of a service or with boto3's; neither pauses."""
    with ExitStack() as stack:

        def connect(ours: type[JsonClient]) -> Any:
            client: Any
            endpoint, answer_seconds = json_server.endpoint, patience or 3
            if kind == "boto3":
                client = boto3_client(session, ours.service, 3, 1, answer_seconds, endpoint_url=endpoint)
            else:
                limits = ours.limits._replace(answer_seconds=answer_seconds)
                credentials = credentials_of(session)
                client = ours(endpoint, REGION, credentials, limits=limits, sleep=lambda _: None)
            stack.callback(client.close)
            return client

        yield connect
