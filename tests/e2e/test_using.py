"""Using what was deployed: each function works with only the permissions of its policy file."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from botocore.credentials import Credentials
from websockets.exceptions import InvalidStatus

from tests.e2e.client import Client, call, connected, ticket
from tests.e2e.conftest import PROJECT, Clone, Deployed

Join = Callable[[str], Client]
TABLE = "peal-dev-connections"


@pytest.fixture(scope="module")
def deployed(clone: Clone) -> Deployed:
    return clone.deploys()


@pytest.fixture
def join(clone: Clone, deployed: Deployed) -> Iterator[Join]:
    """Connect a user with a ticket."""
    with ExitStack() as leaving:

        def join(user_id: str) -> Client:
            query = ticket(clone.account, deployed.rest, user_id)
            return leaving.enter_context(connected(deployed.websocket, query))

        yield join


def ghost(clone: Clone, user_id: str) -> str:
    """Store a connection that died long ago without a $disconnect; return its id."""
    connection_id = f"ghost-of-{user_id}"
    row = {
        "PK": f"CONN#{connection_id}",
        "SK": "CONN",
        "GSI1PK": f"USER#{user_id}",
        "GSI1SK": f"CONN#{connection_id}",
        "connectionId": connection_id,
        "userId": user_id,
        "connectedAt": "2026-01-01T00:00:00.000Z",
    }
    item = {name: {"S": value} for name, value in row.items()} | {"ttl": {"N": str(int(time.time()) + 600)}}
    clone.account.client("dynamodb").put_item(TableName=TABLE, Item=item)
    return connection_id


def rows(clone: Clone) -> set[str]:
    """Return the ids of the connections in the table."""
    items = clone.account.client("dynamodb").scan(TableName=TABLE, ConsistentRead=True)["Items"]
    return {item["connectionId"]["S"] for item in items if item["SK"]["S"] == "CONN"}


class TestSockets:
    def test_a_user_reaches_another(self, join: Join) -> None:
        alice, bob = join("u_alice"), join("u_bob")
        outcome = alice.asks(action="sendMessage", targetUserId="u_bob", text="hi")
        assert outcome == {"sent": 1, "gone": 0, "failed": 0}
        assert bob.receives()["text"] == "hi"

    def test_a_broadcast_reaches_everyone(self, clone: Clone, deployed: Deployed, join: Join) -> None:
        clients = [join("u_alice"), join("u_bob")]
        clients[0].socket.send('{"action":"broadcastAll","note":"all"}')
        assert [client.receives()["note"] for client in clients] == ["all", "all"]

    def test_a_dead_receiver_is_pruned(self, clone: Clone, join: Join) -> None:
        dead = ghost(clone, "u_dead")
        outcome = join("u_alice").asks(action="sendMessage", targetUserId="u_dead", text="hi")
        assert outcome == {"sent": 0, "gone": 1, "failed": 0}
        assert dead not in rows(clone)

    def test_a_disconnected_user_is_forgotten(self, clone: Clone, join: Join) -> None:
        alice = join("u_alice")
        me = alice.asks(action="whoami")["connectionId"]
        assert me in rows(clone)
        alice.leaves()
        deadline = time.monotonic() + 10
        while me in rows(clone) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert me not in rows(clone)


class TestChannels:
    def test_a_backends_publication_reaches_subscribers(self, clone: Clone, deployed: Deployed, join: Join) -> None:
        alice, bob = join("u_alice"), join("u_bob")
        for client in (alice, bob):
            client.asks(action="subscribe", channel="feed:news")
        url = f"{deployed.rest}/channels/feed:news/messages"
        assert call(clone.account, url, "POST", {"data": 1})[0] == 200
        assert [client.receives()["data"] for client in (alice, bob)] == [1, 1]
        assert alice.asks(action="history", channel="feed:news")["publications"][0]["data"] == 1

    def test_jobs_are_processed(self, clone: Clone, deployed: Deployed) -> None:
        sqs = clone.account.client("sqs")
        jobs, dead = (sqs.get_queue_url(QueueName=f"peal-dev-{name}")["QueueUrl"] for name in ("jobs", "jobs-dead"))
        sqs.send_message(QueueUrl=jobs, MessageBody='{"job":"advance","channel":"feed:news","shard":0}')
        deadline = time.monotonic() + 20
        while any(waiting(sqs, jobs)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert waiting(sqs, jobs) == waiting(sqs, dead) == (0, 0)


def waiting(sqs: Any, url: str) -> tuple[int, int]:
    """Return how many messages wait in a queue, and how many are being processed."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(attributes[names[0]]), int(attributes[names[1]])


class TestSecrets:
    def test_a_token_is_verified_with_a_key_from_systems_manager(self, clone: Clone, deployed: Deployed) -> None:
        key = "a-key-of-more-than-32-bytes-for-HS256"
        ssm = clone.account.client("ssm")
        ssm.put_parameter(Name="/peal/dev/jwt-secrets", Value=key, Type="SecureString")
        token = jwt.encode({"sub": "u_token", "exp": int(time.time()) + 60}, key, "HS256")
        with connected(deployed.websocket, f"token={token}") as client:
            assert client.asks(action="whoami")["userId"] == "u_token"


class TestRest:
    def test_a_backend_pushes(self, clone: Clone, deployed: Deployed, join: Join) -> None:
        bob = join("u_bob")
        me = bob.asks(action="whoami")["connectionId"]
        one = f"{deployed.rest}/connections/{quote(me, safe='')}"
        sent = (200, {"sent": 1, "gone": 0, "failed": 0})
        assert call(clone.account, f"{deployed.rest}/users/u_bob/messages", "POST", {"text": "1"}) == sent
        assert call(clone.account, f"{one}/messages", "POST", {"text": "2"}) == sent
        # A client of another test may be disconnecting.
        assert call(clone.account, f"{deployed.rest}/broadcast", "POST", {"note": "3"})[1]["sent"] >= 1
        assert [bob.receives().get("text"), bob.receives().get("text"), bob.receives().get("note")] == ["1", "2", "3"]
        assert call(clone.account, one, "GET")[1]["userId"] == "u_bob"
        assert call(clone.account, one, "DELETE")[0] == 204
        assert call(clone.account, one, "GET")[0] == 404

    def test_a_dead_receiver_is_pruned(self, clone: Clone, deployed: Deployed) -> None:
        dead = ghost(clone, "u_dead")
        status, outcome = call(clone.account, f"{deployed.rest}/users/u_dead/messages", "POST", {"text": "hi"})
        assert (status, outcome["gone"]) == (200, 1)
        assert dead not in rows(clone)

    def test_a_push_needs_the_permission(self, clone: Clone, deployed: Deployed) -> None:
        """The deployer may only create tickets, for its smoke test."""
        deployer = Credentials(clone.environment["AWS_ACCESS_KEY_ID"], clone.environment["AWS_SECRET_ACCESS_KEY"])
        status, answer = call(clone.account, f"{deployed.rest}/broadcast", "POST", {}, by=deployer)
        assert (status, "not authorized" in str(answer)) == (403, True)


class TestCommandLine:
    """`pealctl --stage dev` asks AWS where the stage is, and everything else of its REST API."""

    @pytest.fixture
    def operator(self, clone: Clone) -> dict[str, str]:
        """An operator with exactly the permissions of docs/OPERATIONS.md."""
        return clone.account.make_user("operator", (PROJECT / "docs" / "operator-policy.json").read_text())

    def test_an_operator_looks_sends_and_follows(
        self, clone: Clone, operator: dict[str, str], deployed: Deployed, join: Join
    ) -> None:
        bob = join("u_bob")
        me = bob.asks(action="whoami")["connectionId"]
        bob.asks(action="subscribe", channel="chat:ops")

        def says(*arguments: str) -> str:
            done = clone.operates(operator, *arguments)
            assert (done.returncode, done.stderr) == (0, "")
            return done.stdout

        assert f"{me}  u_bob\n" in says("connections")
        assert says("members", "chat:ops") == "u_bob  1  -\n"
        assert says("send", "--connection", me, "hi") == "sent 1, gone 0, failed 0\n"
        assert says("send", "--channel", "chat:ops", "--data", '{"a+b=":"é"}').startswith("sent 1, gone 0, failed 0; ")
        assert [bob.receives().get("text"), bob.receives().get("data")] == ["hi", {"a+b=": "é"}]
        assert says("history", "chat:ops").endswith('  1  (server)  {"a+b=":"é"}\n')
        with clone.operating(operator, "tail", "live:ops") as tail:
            deadline = time.monotonic() + 20
            while "live:ops" not in says("connections", "--user", "peal-tail") and time.monotonic() < deadline:
                time.sleep(0.2)
            says("send", "--channel", "live:ops", "moved")
            assert tail.stdout
            assert tail.stdout.readline().endswith('  -  (server)  "moved"\n')
            tail.send_signal(signal.SIGINT)
        assert says("kick", "--user", "u_bob") == "closed 1, failed 0\n"

    def test_a_missing_permission_is_named(self, clone: Clone, deployed: Deployed) -> None:
        """The deployer may only find the stage and create tickets."""
        done = clone.operates(clone.environment, "send", "--everyone", "hi")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("POST /broadcast is refused (403): ")
        assert done.stderr.endswith(" You need execute-api:Invoke for it: docs/OPERATIONS.md, Command line.\n")


def test_a_client_without_a_ticket_is_refused(deployed: Deployed) -> None:
    with pytest.raises(InvalidStatus), connected(deployed.websocket, "userId=u_alice"):
        pass


def test_no_function_logs_an_error(clone: Clone, deployed: Deployed) -> None:
    """Runs after the others: none of what they did has failed inside."""
    logs = clone.account.client("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        events = logs.filter_log_events(logGroupName=group["logGroupName"])["events"]
        assert [event["message"] for event in events if "Traceback" in event["message"]] == []
