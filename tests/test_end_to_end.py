"""The main job on real input: real sockets, the local gateway, a real table, a REST call, a second process."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote, urlencode

import boto3
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from localgateway import LocalGateway
from tests.conftest import PROJECT

TABLE = "peal-local-connections"
SECONDS = 10


@pytest.fixture
def gateway(dynamodb: Any) -> Iterator[LocalGateway]:
    """Peal as `make dev` runs it, over an empty table."""
    with LocalGateway(PROJECT, stage="local") as gateway:
        yield gateway
    dynamodb.delete_table(TableName=TABLE)


class Client:
    """A client on a real socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.id = self.asks({"action": "whoami", "id": "who"})["connectionId"]

    def sends(self, frame: object) -> None:
        self.socket.send(frame if isinstance(frame, str) else json.dumps(frame))

    def receives(self) -> dict[str, Any]:
        frame = json.loads(self.socket.recv(timeout=SECONDS))
        assert isinstance(frame, dict)
        return frame

    def asks(self, frame: dict[str, Any]) -> Any:
        self.sends(frame)
        reply = self.receives()
        assert (reply["type"], reply["id"]) == ("reply", frame["id"])
        return reply["data"]

    def receives_nothing(self) -> None:
        """Nothing has come: what was sent before this ping would be here before its reply."""
        assert self.asks({"action": "ping", "id": "nothing before me"}) == {}


@pytest.fixture
def join(gateway: LocalGateway) -> Iterator[Callable[..., Client]]:
    with ExitStack() as sockets:

        def join(user: str | None = None, **query: str) -> Client:
            query |= {"userId": user} if user else {}
            return Client(sockets.enter_context(connect(f"{gateway.url}?{urlencode(query)}", open_timeout=SECONDS)))

        yield join


@pytest.fixture
def table(dynamodb: Any) -> Callable[[], dict[str, Any]]:
    """The connection rows that stand in the table now, by connection id."""

    def scan() -> dict[str, Any]:
        items = dynamodb.scan(TableName=TABLE, ConsistentRead=True)["Items"]
        return {
            item["connectionId"]["S"]: {name: next(iter(typed.values())) for name, typed in item.items()}
            for item in items
            if item["SK"]["S"] == "CONN"
        }

    return scan


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def call(method: str, url: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.loads(refusal.read())


Join = Callable[..., Client]
Rows = Callable[[], dict[str, Any]]


class TestTheMainJob:
    def test_one_pushes_to_the_other_and_the_table_tells_the_truth(self, join: Join, table: Rows) -> None:
        assert table() == {}
        alice, bob = join("u_123", deviceId="phone", attributes='{"room":"a"}'), join("u_456")
        assert {i: row.get("userId") for i, row in table().items()} == {alice.id: "u_123", bob.id: "u_456"}
        assert table()[alice.id]["attributes"] == '{"room":"a"}'

        alice.sends('{"action":"sendMessage","targetUserId":"u_456","text":"hi"}')
        message = bob.receives()
        assert (message["type"], message["text"]) == ("message", "hi")
        assert message["from"] == {"userId": "u_123", "connectionId": alice.id}
        alice.receives_nothing()

        bob.socket.close()
        eventually(lambda: set(table()) == {alice.id})

    def test_everyone_gets_a_broadcast(self, join: Join) -> None:
        clients = [join("u_1"), join("u_2"), join()]
        clients[0].sends('{"action":"broadcastAll"}')
        frames = [client.receives() for client in clients]
        assert [frame["type"] for frame in frames] == ["broadcast"] * 3
        assert frames[0] == frames[1] == frames[2]

    def test_the_sender_learns_the_outcome(self, join: Join) -> None:
        alice, _, _ = join("u_1"), join("u_2"), join("u_2")
        send = {"action": "sendMessage", "id": 1, "targetUserId": "u_2", "text": "hi"}
        assert alice.asks(send) == {"sent": 2, "gone": 0, "failed": 0}

    def test_a_bad_frame_leaves_the_socket_open(self, join: Join) -> None:
        alice = join("u_1")
        for text, code in [("hi", "bad_frame"), ("[]", "bad_frame"), ('{"action":"dance"}', "unknown_action")]:
            alice.sends(text)
            assert alice.receives()["error"]["code"] == code
        alice.socket.send(["x" * 30_000, "x" * 2_001])
        assert alice.receives()["error"]["code"] == "too_large"
        alice.receives_nothing()

    @pytest.mark.parametrize("query", ["userId=a%23b", "attributes=nonsense", "deviceId="])
    def test_a_bad_handshake_is_refused_and_leaves_nothing(
        self, gateway: LocalGateway, table: Rows, query: str
    ) -> None:
        with pytest.raises(InvalidStatus) as refused, connect(f"{gateway.url}?{query}"):
            pass
        assert refused.value.response.status_code == 400
        assert table() == {}


class TestPushFromAnywhere:
    def test_over_rest(self, gateway: LocalGateway, join: Join, table: Rows) -> None:
        bob = join("u_456")
        connection = f"{gateway.rest_url}/connections/{quote(bob.id, safe='')}"
        assert call("POST", f"{gateway.rest_url}/users/u_456/messages", {"text": "1"})[1]["sent"] == 1
        assert call("POST", f"{connection}/messages", {"text": "2"})[1]["sent"] == 1
        assert call("POST", f"{gateway.rest_url}/broadcast", {"note": "3"})[1]["sent"] == 1
        frames = [bob.receives() for _ in range(3)]
        assert [frame.get("text") or frame["note"] for frame in frames] == ["1", "2", "3"]
        assert call("GET", connection)[1]["userId"] == "u_456"

        assert call("DELETE", connection) == (204, None)
        with pytest.raises(ConnectionClosed) as closed:
            bob.socket.recv(timeout=SECONDS)
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1000
        assert table() == {}
        status, body = call("GET", connection)
        assert (status, body["error"]["code"]) == (404, "not_found")

    def test_over_rest_before_anyone_has_connected(self, gateway: LocalGateway) -> None:
        assert call("POST", f"{gateway.rest_url}/broadcast", {}) == (200, {"sent": 0, "gone": 0, "failed": 0})

    def test_what_is_wrong_is_400_with_a_message(self, gateway: LocalGateway) -> None:
        status, body = call("POST", f"{gateway.rest_url}/users/u_456/messages", {})
        assert (status, body["error"]["message"]) == (400, "text or data must be given.")

    def test_from_a_second_process_with_the_apps_own_verbs(self, gateway: LocalGateway, join: Join) -> None:
        bob = join("u_456")
        code = "from app import peal; print(peal.send_to_user('u_456', text='from afar').as_dict())"
        pushed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            env=os.environ | gateway.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (pushed.stderr, pushed.stdout) == ("", "{'sent': 1, 'gone': 0, 'failed': 0}\n")
        assert bob.receives()["text"] == "from afar"

    def test_with_a_plain_boto3_client(self, gateway: LocalGateway, join: Join) -> None:
        bob = join("u_456")
        management = boto3.client("apigatewaymanagementapi", endpoint_url=gateway.management_endpoint)
        management.post_to_connection(ConnectionId=bob.id, Data=b'{"type":"anything"}')
        assert bob.receives() == {"type": "anything"}
        management.close()


class TestStaleConnections:
    def test_a_connection_that_died_unheard_is_pruned_and_the_others_get_their_frame(
        self, join: Join, dynamodb: Any, table: Rows
    ) -> None:
        alice, bob = join("u_1"), join("u_2")
        ghost = dict(dynamodb.get_item(TableName=TABLE, Key=key(bob.id))["Item"])
        ghost |= key("Zm9yZ290dGVuIQE=") | {"GSI1SK": {"S": "CONN#Zm9yZ290dGVuIQE="}}
        ghost |= {"connectionId": {"S": "Zm9yZ290dGVuIQE="}, "connectedAt": {"S": "2026-11-23T09:00:00.000Z"}}
        dynamodb.put_item(TableName=TABLE, Item=ghost)
        send = {"action": "sendMessage", "id": 1, "targetUserId": "u_2", "text": "hi"}
        assert alice.asks(send) == {"sent": 1, "gone": 1, "failed": 0}
        assert bob.receives()["text"] == "hi"
        assert set(table()) == {alice.id, bob.id}

    def test_disconnecting_in_the_middle_of_a_broadcast_hurts_nobody(self, join: Join, table: Rows) -> None:
        clients = [join(f"u_{n}") for n in range(12)]
        leaver = threading.Thread(target=lambda: [client.socket.close() for client in clients[6:]])
        leaver.start()
        for n in range(5):
            clients[0].sends({"action": "broadcastAll", "note": str(n)})
        leaver.join()
        for client in clients[:6]:
            assert sorted(client.receives()["note"] for _ in range(5)) == ["0", "1", "2", "3", "4"]
        eventually(lambda: set(table()) == {client.id for client in clients[:6]})


def key(connection_id: str) -> dict[str, Any]:
    return {"PK": {"S": f"CONN#{connection_id}"}, "SK": {"S": "CONN"}}


class TestSettings:
    def test_where_nobody_may_be_anonymous_the_handshake_is_401(self, dynamodb: Any) -> None:
        with LocalGateway(PROJECT, environment={"ALLOW_ANONYMOUS": "false"}) as gateway:
            with pytest.raises(InvalidStatus) as refused, connect(f"{gateway.url}?userId=u_1"):
                pass
            assert refused.value.response.status_code == 401
        dynamodb.delete_table(TableName=TABLE)

    def test_a_table_that_is_not_there_refuses_the_socket_with_500(self) -> None:
        with LocalGateway(PROJECT, environment={"CONNECTIONS_TABLE": "no-such-table"}) as gateway:
            with pytest.raises(InvalidStatus) as refused, connect(gateway.url):
                pass
            assert refused.value.response.status_code == 500
