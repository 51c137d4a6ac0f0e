"""The client behind app.websocket_api: one per endpoint, for the endpoint that is resolved and no other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import boto3
import pytest
from chalice.app import WebsocketAPI

from chalicelib.management import CONFIG, ManagementSession, prepare

ENDPOINT = "http://127.0.0.1:8001/api"


@pytest.fixture
def websocket_api(session: boto3.session.Session) -> Iterator[WebsocketAPI]:
    api = WebsocketAPI(env={"AWS_REGION": "eu-central-1"})
    api.session = ManagementSession(session, lambda: ENDPOINT)
    yield api
    if api._client:
        api._client.close()


def test_chalice_sends_to_the_resolved_endpoint_and_not_to_the_one_it_guessed(websocket_api: WebsocketAPI) -> None:
    websocket_api.configure_from_api_id("a1b2c3d4e5", "api")
    assert websocket_api._get_client().meta.endpoint_url == ENDPOINT


def test_a_lambda_without_a_websocket_event_can_send_too(websocket_api: WebsocketAPI) -> None:
    with pytest.raises(ValueError, match="configure must be called"):
        websocket_api._get_client()
    prepare(websocket_api, ENDPOINT)
    assert websocket_api._get_client().meta.endpoint_url == ENDPOINT


def test_threads_that_send_for_the_first_time_together_share_one_client(websocket_api: WebsocketAPI) -> None:
    prepare(websocket_api, ENDPOINT)
    start = Barrier(16)

    def client(_: int) -> object:
        start.wait()
        return websocket_api._get_client()

    with ThreadPoolExecutor(16) as threads:
        assert len(set(map(id, threads.map(client, range(16))))) == 1


def test_a_post_waits_at_most_ten_seconds_its_second_try_included() -> None:
    tries = CONFIG.retries["total_max_attempts"]
    longest_pause = 1 * (tries - 1)
    assert tries * (CONFIG.connect_timeout + CONFIG.read_timeout) + longest_pause <= 10


def test_chalice_finds_the_region_where_the_environment_has_none(session: boto3.session.Session) -> None:
    api = WebsocketAPI(env={})
    api.session = ManagementSession(session, lambda: ENDPOINT)
    api.configure_from_api_id("a1b2c3d4e5", "api")
    assert api._endpoint == "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api"
