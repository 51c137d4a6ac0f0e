"""The smoke test, against the local gateway: when it passes, and what it says when it fails."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import boto3
import pytest
from websockets.sync.server import ServerConnection, serve

from localgateway.testing import Gateway
from pealctl.deploy.aws import Aws
from pealctl.deploy.smoke import smoke_test
from pealctl.errors import SmokeTestFailed
from tests.conftest import PROJECT


@pytest.fixture
def account() -> Aws:
    return Aws(boto3.session.Session(), "eu-central-1", "000000000000", None)


def sentence(account: Aws, websocket_url: str, rest_url: str, answer_seconds: float = 30) -> str:
    with pytest.raises(SmokeTestFailed) as failed:
        smoke_test(account, websocket_url, rest_url, patience_seconds=-1, answer_seconds=answer_seconds)
    return str(failed.value)


@pytest.mark.slow
def test_it_passes_when_a_client_is_answered(gateway: Gateway, account: Aws) -> None:
    smoke_test(account, gateway.url, gateway.rest_url)
    gateway.settle()


@pytest.mark.slow
class TestSentences:
    def test_a_refused_ticket(self, gateway: Gateway, account: Aws) -> None:
        url = f"{gateway.rest_url}/nowhere"
        assert sentence(account, gateway.url, url) == (
            f"Everything is deployed, but POST {url}/tickets is answered 403. "
            "Your own permissions need execute-api:Invoke."
        )

    def test_a_function_that_fails(self, account: Aws) -> None:
        with Gateway(PROJECT, environment={"CONNECTIONS_TABLE": "no-such-table"}) as broken:
            assert sentence(account, broken.url, broken.rest_url) == (
                f"Everything is deployed, but POST {broken.rest_url}/tickets is answered 500. See `chalice logs`."
            )

    def test_a_rest_api_that_does_not_answer(self, gateway: Gateway, account: Aws) -> None:
        assert sentence(account, gateway.url, "http://127.0.0.1:9").startswith(
            "Everything is deployed, but POST http://127.0.0.1:9/tickets is not answered: "
        )

    def test_a_refused_socket(self, gateway: Gateway, account: Aws) -> None:
        url = f"{gateway.url}-not"
        assert sentence(account, url, gateway.rest_url) == (
            f"Everything is deployed, but {url} refuses a client with 403. See `chalice logs --name websocket_connect`."
        )

    def test_a_websocket_api_that_does_not_answer(self, gateway: Gateway, account: Aws) -> None:
        assert sentence(account, "ws://127.0.0.1:9", gateway.rest_url).startswith(
            "Everything is deployed, but ws://127.0.0.1:9 does not work as a WebSocket: "
        )

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            ('{"message":"Internal server error","connectionId":"x","requestId":"y"}', "Internal server error"),
            ('{"type":"error","id":1,"error":{"code":"internal_error"}}', "internal_error"),
        ],
    )
    def test_a_frame_answered_with_an_error(self, gateway: Gateway, account: Aws, answer: str, code: str) -> None:
        with sockets(lambda socket: socket.send(answer)) as url:
            assert sentence(account, url, gateway.rest_url) == (
                f"Everything is deployed, but {url} answers a ping with {code}. "
                "See `chalice logs --name websocket_message`."
            )

    def test_a_frame_without_an_answer(self, gateway: Gateway, account: Aws) -> None:
        with sockets(lambda socket: None) as url:
            assert sentence(account, url, gateway.rest_url, answer_seconds=0.5) == (
                f"Everything is deployed, but {url} does not answer a frame. "
                "See `chalice logs --name websocket_message`."
            )


@contextmanager
def sockets(answers: Callable[[ServerConnection], object]) -> Iterator[str]:
    """Serve sockets that answer each frame with `answers`, instead of the app."""

    def converse(socket: ServerConnection) -> None:
        for _ in socket:
            answers(socket)

    with serve(converse, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join(10)
