"""The smoke test, against the local gateway: what it takes for well, and what it says where something is not."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import boto3
import pytest
from websockets.sync.server import ServerConnection, serve

from localgateway.testing import Gateway
from pealctl.deploy import smoke
from pealctl.deploy.aws import Aws
from pealctl.deploy.smoke import smoke_test
from pealctl.errors import SmokeTestFailed
from tests.conftest import PROJECT


@pytest.fixture
def account() -> Aws:
    return Aws(boto3.session.Session(), "eu-central-1", "000000000000", None)


def sentence(account: Aws, websocket_url: str, rest_url: str) -> str:
    with pytest.raises(SmokeTestFailed) as failed:
        smoke_test(account, websocket_url, rest_url, patience_seconds=-1)
    return str(failed.value)


def test_a_client_comes_through(gateway: Gateway, account: Aws) -> None:
    smoke_test(account, gateway.url, gateway.rest_url)
    gateway.settle()


class TestWhatIsSaid:
    def test_where_the_deployer_may_not_ask_for_a_ticket(self, gateway: Gateway, account: Aws) -> None:
        url = f"{gateway.rest_url}/nowhere"
        assert sentence(account, gateway.url, url) == (
            f"Everything is deployed, but POST {url}/tickets is answered 403. "
            "Your own permissions need execute-api:Invoke."
        )

    def test_where_a_function_fails(self, account: Aws) -> None:
        with Gateway(PROJECT, environment={"CONNECTIONS_TABLE": "no-such-table"}) as broken:
            assert sentence(account, broken.url, broken.rest_url) == (
                f"Everything is deployed, but POST {broken.rest_url}/tickets is answered 500. See `chalice logs`."
            )

    def test_where_nobody_answers(self, gateway: Gateway, account: Aws) -> None:
        assert sentence(account, gateway.url, "http://127.0.0.1:9").startswith(
            "Everything is deployed, but POST http://127.0.0.1:9/tickets is not answered: "
        )

    def test_where_sockets_are_refused(self, gateway: Gateway, account: Aws) -> None:
        url = f"{gateway.url}-not"
        assert sentence(account, url, gateway.rest_url) == (
            f"Everything is deployed, but {url} refuses a client with 403. See `chalice logs --name websocket_connect`."
        )

    def test_where_there_are_no_sockets(self, gateway: Gateway, account: Aws) -> None:
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
    def test_where_a_frame_is_answered_by_an_error(
        self, gateway: Gateway, account: Aws, answer: str, code: str
    ) -> None:
        with sockets(lambda socket: socket.send(answer)) as url:
            assert sentence(account, url, gateway.rest_url) == (
                f"Everything is deployed, but {url} answers a ping with {code}. "
                "See `chalice logs --name websocket_message`."
            )

    def test_where_a_frame_is_not_answered(
        self, gateway: Gateway, account: Aws, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(smoke, "ANSWER_SECONDS", 0.5)
        with sockets(lambda socket: None) as url:
            assert sentence(account, url, gateway.rest_url) == (
                f"Everything is deployed, but {url} does not answer a frame. "
                "See `chalice logs --name websocket_message`."
            )


@contextmanager
def sockets(answers: Callable[[ServerConnection], object]) -> Iterator[str]:
    """Sockets that answer a frame so, instead of as the app does."""

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
            thread.join()
