"""The session behind app.websocket_api: one client per endpoint, for the resolved endpoint and no other."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import boto3
import pytest
from botocore.exceptions import NoCredentialsError, NoRegionError
from chalice.app import WebsocketAPI

from chalicelib.aws.management import WORKERS, ManagementClient, ManagementSession, prepare
from tests.support.management_server import serving

ENDPOINT = "http://127.0.0.1:8001/api"
AWS = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api"


@pytest.fixture
def websocket_api(session: boto3.session.Session) -> Iterator[WebsocketAPI]:
    with serving(None) as server:
        api = WebsocketAPI(env={"AWS_REGION": "eu-central-1"})
        api.session = ManagementSession(session, lambda: server.endpoint, "lean")
        api.requests = server.requests
        yield api
        if api._client:
            api._client.close()


def test_chalice_sends_to_the_resolved_endpoint(websocket_api: WebsocketAPI) -> None:
    websocket_api.configure_from_api_id("a1b2c3d4e5", "api")
    websocket_api.send("c", "hi")
    assert [request.body for request in websocket_api.requests] == [b"hi"]


def test_a_lambda_without_a_websocket_event_can_send_too(websocket_api: WebsocketAPI) -> None:
    with pytest.raises(ValueError, match="configure must be called"):
        websocket_api.send("c", "hi")
    prepare(websocket_api, ENDPOINT)
    websocket_api.send("c", "hi")
    assert [request.body for request in websocket_api.requests] == [b"hi"]


def test_threads_that_send_at_once_for_the_first_time_share_a_client(websocket_api: WebsocketAPI) -> None:
    prepare(websocket_api, ENDPOINT)
    start = Barrier(16, timeout=30)

    def client(_: int) -> object:
        start.wait()
        return websocket_api._get_client()

    with ThreadPoolExecutor(16) as threads:
        assert len(set(map(id, threads.map(client, range(16))))) == 1


def test_each_call_returns_the_same_client(session: boto3.session.Session) -> None:
    management = ManagementSession(session, lambda: AWS, "lean")
    assert management.client("apigatewaymanagementapi") is management.client("apigatewaymanagementapi")


def test_the_setting_decides_which_client_it_is(session: boto3.session.Session) -> None:
    assert isinstance(made(session, "lean"), ManagementClient)
    assert made(session, "boto3").meta.service_model.service_name == "apigatewaymanagementapi"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_through_a_proxy_boto3_sends_and_a_log_line_says_so(
    session: boto3.session.Session,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv(variable, "http://proxy.example.com:3128")
    assert not isinstance(made(session, "lean"), ManagementClient)
    assert caplog.messages == ["A proxy leads to the connections, so boto3 sends: it needs far more CPU."]
    monkeypatch.setenv("NO_PROXY", "amazonaws.com")
    assert isinstance(made(session, "lean"), ManagementClient)


def test_without_a_region_there_is_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for kind in ("lean", "boto3"):
        with pytest.raises(NoRegionError):
            made(boto3.session.Session(), kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lean", "boto3"])
def test_without_credentials_nothing_is_sent(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = made(boto3.session.Session(), kind)
    with pytest.raises(NoCredentialsError):
        client.post_to_connection(ConnectionId="c", Data="hi")
    client.close()


def test_two_tries_of_boto3_take_at_most_ten_seconds(session: boto3.session.Session) -> None:
    config = made(session, "boto3").meta.config
    tries = config.retries["total_max_attempts"]
    longest_pause = 1 * (tries - 1)
    assert tries * (config.connect_timeout + config.read_timeout) + longest_pause <= 10


def test_the_pool_of_boto3_is_as_wide_as_there_are_workers(session: boto3.session.Session) -> None:
    assert made(session, "boto3").meta.config.max_pool_connections >= max(WORKERS.values())


def test_chalice_finds_the_region_in_the_session(session: boto3.session.Session) -> None:
    api = WebsocketAPI(env={})
    api.session = ManagementSession(session, lambda: ENDPOINT, "lean")
    api.configure_from_api_id("a1b2c3d4e5", "api")
    assert api._endpoint == AWS


def made(session: boto3.session.Session, kind: Any) -> Any:
    return ManagementSession(session, lambda: AWS, kind).client("apigatewaymanagementapi")
