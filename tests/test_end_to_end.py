"""The main job on real input: real sockets, the local gateway, a real table, a REST call, a second process."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import jwt
import pytest

from localgateway.testing import Client, Gateway, Refused
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

TABLE = "peal-local-connections"
Rows = Callable[[], dict[str, Any]]


@pytest.fixture
def table(dynamodb: Any) -> Rows:
    """The connection rows that stand in the table now, by connection id."""

    def scan() -> dict[str, Any]:
        items = dynamodb.scan(TableName=TABLE, ConsistentRead=True)["Items"]
        return {
            item["connectionId"]["S"]: {name: next(iter(typed.values())) for name, typed in item.items()}
            for item in items
            if item["SK"]["S"] == "CONN"
        }

    return scan


@pytest.fixture
def cold_gateway(dynamodb: Any) -> Iterator[Gateway]:
    """Peal as it has just been deployed: it has learnt nothing yet."""
    with Gateway(PROJECT) as gateway:
        yield gateway
        gateway.reset()


def ask(client: Client, frame: dict[str, Any]) -> Any:
    client.sends(frame)
    return client.receives({"type": "reply", "id": frame["id"]})["data"]


class TestTheMainJob:
    def test_one_client_pushes_to_another_and_the_table_lists_both(self, gateway: Gateway, table: Rows) -> None:
        assert table() == {}
        alice = gateway.connect("u_123", device="phone", query={"attributes": '{"room":"a"}'})
        bob = gateway.connect("u_456")
        users = {connection_id: row.get("userId") for connection_id, row in table().items()}
        assert users == {alice.connection_id: "u_123", bob.connection_id: "u_456"}
        assert table()[alice.connection_id]["attributes"] == '{"room":"a"}'

        alice.sends('{"action":"sendMessage","targetUserId":"u_456","text":"hi"}')
        message = bob.receives({"type": "message", "text": "hi"})
        assert message["from"] == {"userId": "u_123", "connectionId": alice.connection_id}
        alice.receives_nothing()

        bob.closes()
        gateway.settle()
        assert set(table()) == {alice.connection_id}

    def test_everyone_gets_a_broadcast(self, gateway: Gateway) -> None:
        clients = [gateway.connect("u_1"), gateway.connect("u_2"), gateway.connect()]
        clients[0].sends('{"action":"broadcastAll"}')
        frames = [client.receives({"type": "broadcast"}) for client in clients]
        assert frames[0] == frames[1] == frames[2]

    def test_the_sender_learns_the_outcome(self, gateway: Gateway) -> None:
        alice, _, _ = gateway.connect("u_1"), gateway.connect("u_2"), gateway.connect("u_2")
        send = {"action": "sendMessage", "id": 1, "targetUserId": "u_2", "text": "hi"}
        assert ask(alice, send) == {"sent": 2, "gone": 0, "failed": 0}

    def test_a_bad_frame_leaves_the_socket_open(self, gateway: Gateway) -> None:
        alice = gateway.connect("u_1")
        for text, code in [("hi", "bad_frame"), ("[]", "bad_frame"), ('{"action":"dance"}', "unknown_action")]:
            alice.sends(text)
            alice.receives({"error": {"code": code}})
        alice.socket.send(["x" * 30_000, "x" * 2_001])
        alice.receives({"error": {"code": "too_large"}})
        alice.receives_nothing()

    @pytest.mark.parametrize("query", [{"userId": "a#b"}, {"attributes": "nonsense"}, {"deviceId": ""}])
    def test_a_bad_handshake_is_refused_and_leaves_nothing(
        self, gateway: Gateway, table: Rows, query: dict[str, str]
    ) -> None:
        with pytest.raises(Refused) as refused:
            gateway.connect(query=query)
        assert refused.value.status == 400
        assert table() == {}


class TestPushFromAnywhere:
    def test_over_rest(self, gateway: Gateway, table: Rows) -> None:
        bob = gateway.connect("u_456")
        connection = f"/connections/{quote(bob.connection_id, safe='')}"
        for path, body in [
            ("/users/u_456/messages", {"text": "1"}),
            (f"{connection}/messages", {"text": "2"}),
            ("/broadcast", {"note": "3"}),
        ]:
            assert gateway.call("POST", path, body).body["sent"] == 1
        bob.receives({"text": "1"})
        bob.receives({"text": "2"})
        bob.receives({"note": "3"})
        assert gateway.call("GET", connection).body["userId"] == "u_456"

        assert gateway.call("DELETE", connection) == (204, None)
        bob.receives({"type": "goodbye", "code": "closed"})
        bob.is_closed_with(1000)
        assert table() == {}
        status, body = gateway.call("GET", connection)
        assert (status, body["error"]["code"]) == (404, "not_found")

    def test_over_rest_before_anyone_has_connected(self, cold_gateway: Gateway) -> None:
        assert cold_gateway.call("POST", "/broadcast", {}) == (200, {"sent": 0, "gone": 0, "failed": 0})

    def test_what_is_wrong_is_400_with_a_message(self, gateway: Gateway) -> None:
        status, body = gateway.call("POST", "/users/u_456/messages", {})
        assert (status, body["error"]["message"]) == (400, "text or data must be given.")

    def test_from_a_second_process_with_the_apps_own_verbs(self, cold_gateway: Gateway) -> None:
        bob = cold_gateway.connect("u_456")
        code = "from app import peal; print(peal.send_to_user('u_456', text='from afar').as_dict())"
        pushed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            env=os.environ | cold_gateway.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (pushed.stderr, pushed.stdout) == ("", "{'sent': 1, 'gone': 0, 'failed': 0}\n")
        bob.receives({"text": "from afar"})

    @pytest.mark.any_frames
    def test_with_a_plain_boto3_client(self, gateway: Gateway) -> None:
        bob = gateway.connect("u_456")
        gateway.management().post_to_connection(ConnectionId=bob.connection_id, Data=b'{"type":"anything"}')
        assert bob.receives() == {"type": "anything"}


class TestStaleConnections:
    def test_a_dead_connection_is_pruned_and_the_others_get_their_frame(
        self, gateway: Gateway, dynamodb: Any, table: Rows
    ) -> None:
        alice, bob = gateway.connect("u_1"), gateway.connect("u_2")
        ghost = gateway.connect("u_2")
        gateway.faults.lose_disconnect(connection_id=ghost.connection_id)
        ghost.closes()
        make_old(dynamodb, ghost.connection_id)
        send = {"action": "sendMessage", "id": 1, "targetUserId": "u_2", "text": "hi"}
        assert ask(alice, send) == {"sent": 1, "gone": 1, "failed": 0}
        bob.receives({"text": "hi"})
        assert set(table()) == {alice.connection_id, bob.connection_id}

    def test_a_false_410_costs_nothing(self, gateway: Gateway, dynamodb: Any, table: Rows) -> None:
        alice, bob = gateway.connect("u_1"), gateway.connect("u_2")
        make_old(dynamodb, bob.connection_id)
        gateway.faults.false_gone(connection_id=bob.connection_id)
        send = {"action": "sendMessage", "id": 1, "targetUserId": "u_2", "text": "hi"}
        assert ask(alice, send) == {"sent": 1, "gone": 0, "failed": 0}
        bob.receives({"text": "hi"})
        assert set(table()) == {alice.connection_id, bob.connection_id}

    def test_disconnecting_in_the_middle_of_a_broadcast_hurts_nobody(self, gateway: Gateway, table: Rows) -> None:
        clients = [gateway.connect(f"u_{n}") for n in range(12)]
        leaver = threading.Thread(target=lambda: [client.closes() for client in clients[6:]])
        leaver.start()
        for n in range(5):
            clients[0].sends({"action": "broadcastAll", "note": str(n)})
        leaver.join()
        for client in clients[:6]:
            assert sorted(client.receives()["note"] for _ in range(5)) == ["0", "1", "2", "3", "4"]
        gateway.settle()
        assert set(table()) == {client.connection_id for client in clients[:6]}


def make_old(dynamodb: Any, connection_id: str) -> None:
    """Have a connection be old enough to be believed gone."""
    dynamodb.update_item(
        TableName=TABLE,
        Key={"PK": {"S": f"CONN#{connection_id}"}, "SK": {"S": "CONN"}},
        UpdateExpression="SET connectedAt = :then",
        ExpressionAttributeValues={":then": {"S": "2026-11-23T09:00:00.000Z"}},
    )


class TestTime:
    def test_a_client_that_is_silent_too_long_is_closed_and_forgotten(self, gateway: Gateway, table: Rows) -> None:
        alice, bob = gateway.connect("u_1"), gateway.connect("u_2")
        gateway.advance(599)
        alice.sends({"action": "ping", "id": 1})
        alice.receives({"type": "reply"})
        gateway.advance(2)
        assert bob.is_closed_with(1001) == (1001, "Going away")
        assert set(table()) == {alice.connection_id}


SECRET = "the-secret-of-the-end-to-end-tests"


@pytest.fixture(scope="class")
def strict(aws: None) -> Iterator[Gateway]:
    """Peal as on AWS: a client without a credential is refused, unless it sends one as its first frame."""
    environment = {
        "ALLOW_ANONYMOUS": "false",
        "ALLOW_LATE_AUTHENTICATION": "true",
        "ALLOWED_ORIGINS": "https://app.example.com",
        "JWT_SECRETS": SECRET,
    }
    with Gateway(PROJECT, environment=environment) as gateway:
        yield gateway


class TestSigningIn:
    def token(self, seconds: float = 60, **claims: Any) -> str:
        return jwt.encode({"sub": "u_123", "exp": time.time() + seconds} | claims, SECRET)

    def test_by_header(self, strict: Gateway) -> None:
        alice = strict.connect(headers={"Authorization": f"Bearer {self.token(deviceId='phone')}"})
        me = ask(alice, {"action": "whoami", "id": 1})
        assert (me["userId"], me["deviceId"]) == ("u_123", "phone")

    def test_by_sub_protocol_as_a_browser_does(self, strict: Gateway) -> None:
        page = {"Origin": "https://app.example.com"}
        alice = strict.connect(headers=page, subprotocols=["peal", f"bearer.{self.token()}"])
        assert alice.subprotocol == "peal"
        assert ask(alice, {"action": "whoami", "id": 1})["userId"] == "u_123"

    def test_by_query_and_by_ticket_once(self, strict: Gateway) -> None:
        assert ask(strict.connect(query={"token": self.token()}), {"action": "whoami", "id": 1})["userId"] == "u_123"
        status, ticket = strict.call("POST", "/tickets", {"userId": "u_456"})
        assert status == 201
        query = {"ticket": ticket["ticket"]}
        assert ask(strict.connect(query=query), {"action": "whoami", "id": 1})["userId"] == "u_456"
        with pytest.raises(Refused) as refused:
            strict.connect(query=query)
        assert refused.value.status == 401

    def test_by_a_first_frame(self, strict: Gateway) -> None:
        alice = strict.connect()
        alice.sends({"action": "ping", "id": 1})
        alice.receives({"type": "error", "id": 1, "error": {"code": "unauthenticated"}})
        assert ask(alice, {"action": "authenticate", "id": 2, "token": self.token()})["userId"] == "u_123"
        assert ask(alice, {"action": "ping", "id": 3}) == {}

    @pytest.mark.parametrize(
        ("headers", "subprotocols", "status"),
        [
            ({"Authorization": "Bearer not.a.token"}, [], 401),
            ({}, ["peal", "bearer.not.a.token"], 401),
            ({}, ["bearer.not.a.token"], 400),
            ({"Origin": "https://evil.example"}, [], 403),
        ],
    )
    def test_a_refusal_is_a_status_and_nothing_more(
        self, strict: Gateway, table: Rows, headers: dict[str, str], subprotocols: list[str], status: int
    ) -> None:
        before = table()
        with pytest.raises(Refused) as refused:
            strict.connect(headers=headers, subprotocols=subprotocols)
        assert refused.value.status == status
        assert table() == before

    def test_a_token_says_what_its_client_may_do(self, strict: Gateway) -> None:
        bob = strict.connect(query={"token": self.token(sub="u_456")})
        alice = strict.connect(query={"token": self.token(users=["u_456"])})
        alice.sends({"action": "sendMessage", "targetUserId": "u_456", "text": "hi"})
        bob.receives({"type": "message", "text": "hi"})
        bob.sends({"action": "sendMessage", "targetUserId": "u_123", "text": "hi"})
        bob.receives({"type": "error", "error": {"code": "forbidden"}})
        alice.receives_nothing()

    def test_a_client_with_an_expired_token_is_closed(self, strict: Gateway, table: Rows) -> None:
        alice = strict.connect(query={"token": self.token(seconds=1)})
        time.sleep(1.1)
        assert strict.call("POST", "/users/u_123/messages", {"text": "hi"}).body["gone"] == 0
        alice.sends({"action": "ping", "id": 1})
        alice.receives({"type": "error", "id": 1, "error": {"code": "unauthenticated"}})
        alice.receives({"type": "goodbye", "code": "unauthenticated"})
        alice.is_closed_with(1000)
        strict.settle()
        assert alice.connection_id not in table()


class TestSettings:
    def test_an_anonymous_handshake_is_401_if_not_allowed(self) -> None:
        with Gateway(PROJECT, environment={"ALLOW_ANONYMOUS": "false"}) as gateway:
            with pytest.raises(Refused) as refused:
                gateway.connect("u_1")
            assert refused.value.status == 401

    def test_a_missing_table_refuses_the_socket_with_500(self) -> None:
        with Gateway(PROJECT, environment={"CONNECTIONS_TABLE": "no-such-table"}) as gateway:
            with pytest.raises(Refused) as refused:
                gateway.connect()
            assert refused.value.status == 500
