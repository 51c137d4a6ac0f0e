"""The calls about the gateway itself, and who may make them."""

import base64
import json
import re
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import boto3
import botocore.session
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import State

from gatewaykit import ECHO, ROWS_TABLE, write_project
from localgateway.aws.tables import Tables, Unreadable
from localgateway.faults import Fault
from localgateway.testing import Gateway

LEAVING = """
@app.on_ws_disconnect()
def disconnect(event):
    events.put(event.to_dict())
"""


@pytest.fixture
def resources():
    return None


@pytest.fixture
def gateway(tmp_path, resources):
    with Gateway(write_project(tmp_path / "project", ECHO + LEAVING, resources=resources)) as gateway:
        yield gateway
        if resources:
            gateway.reset()


@pytest.fixture
def ask(gateway):
    """Send a request beside the API's own paths; returns status and JSON."""

    def ask(method, path, body=None, **headers):
        url = gateway.management_endpoint.rpartition("/")[0] + path
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.loads(refusal.read())

    return ask


def test_post_arms_get_shows_and_delete_clears(ask, gateway):
    fault = {"fault": "false-gone", "connectionId": "L0SM9cOFvHcCIhw=", "times": 2}
    assert ask("POST", "/_localgateway/faults", fault) == (200, {"faults": [fault]})
    assert gateway.faults.armed == [Fault("false-gone", "L0SM9cOFvHcCIhw=", 2)]
    assert ask("GET", "/_localgateway/faults") == (200, {"faults": [fault]})
    assert ask("DELETE", "/_localgateway/faults") == (200, {"faults": []})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "The body is not JSON."),
        (b"\xff", "The body is not JSON."),
        ([], 'A fault is a JSON object like {"fault": "false-gone", "times": 2}.'),
        ({"fault": 7}, 'A fault is a JSON object like {"fault": "false-gone", "times": 2}.'),
        ({"fault": "throttle", "times": 0}, "times of throttle must be 1 or more, or nothing for always."),
        ({"fault": "throttle", "route": "x"}, "throttle takes no route: it takes connectionId, times."),
    ],
)
def test_what_is_wrong_is_400_with_a_message(ask, gateway, body, message):
    assert ask("POST", "/_localgateway/faults", body) == (400, {"message": message})
    assert gateway.faults.armed == []


def test_delete_of_what_post_has_armed_disarms_that_alone(ask):
    one, other = {"fault": "throttle", "times": None}, {"fault": "throttle", "connectionId": "a=", "times": 3}
    late = {"fault": "delay-post", "times": None, "seconds": 2}
    for fault in (one, other, late):
        ask("POST", "/_localgateway/faults", fault)
    # It has struck meanwhile, so how often it still will is another number.
    assert ask("DELETE", "/_localgateway/faults", other | {"times": 1}) == (200, {"faults": [one, late]})
    assert ask("DELETE", "/_localgateway/faults", late) == (200, {"faults": [one]})
    assert ask("DELETE", "/_localgateway/faults", {"fault": 7})[0] == 400


def test_it_lists_connections_and_what_was_sent(ask, gateway):
    alice = gateway.connect("alice", headers={"User-Agent": "alice/1"})
    alice.sends("hi", "привет")
    for _ in range(2):
        alice.receives()
    gateway.management().post_to_connection(ConnectionId=alice.connection_id, Data="you")
    status, body = ask("GET", "/_localgateway/connections")
    (connection,) = body["connections"]
    assert status == 200
    assert connection.pop("connectedAt") <= connection.pop("lastActiveAt")
    assert connection == {
        "id": alice.connection_id,
        "sourceIp": "127.0.0.1",
        "userAgent": "alice/1",
        "received": {"messages": 2, "bytes": 14},
        "sent": {"messages": 3, "bytes": 17},
    }


class TestClosing:
    @pytest.mark.parametrize(
        ("query", "code", "reason"),
        [("", 1000, ""), ("?code=4001&reason=off%20you%20go", 4001, "off you go"), ("?code=1001", 1001, "")],
    )
    def test_a_connection_is_closed_with_any_code(self, ask, gateway, query, code, reason):
        alice, bob = gateway.connect("alice"), gateway.connect("bob")
        path = f"/_localgateway/connections/{quote(alice.connection_id)}{query}"
        assert ask("DELETE", path) == (200, {"closed": alice.connection_id})
        alice.is_closed_with(code)
        assert alice.socket.close_reason == reason
        bob.sends("still here")
        bob.receives("still here")

    def test_1006_drops_the_connection_and_its_disconnect_says_so(self, ask, gateway):
        alice = gateway.connect("alice")
        ask("DELETE", f"/_localgateway/connections/{alice.connection_id}?code=1006")
        with pytest.raises(ConnectionClosedError, match="no close frame received or sent"):
            alice.socket.recv(timeout=10)
        assert gateway.app.events.get(timeout=10)["requestContext"]["disconnectStatusCode"] == 1006

    @pytest.mark.parametrize("code", ["1005", "1015", "999", "5000", "bye", "\u0661000"])
    def test_a_code_that_no_close_frame_carries_is_refused(self, ask, gateway, code):
        alice = gateway.connect("alice")
        status, body = ask("DELETE", f"/_localgateway/connections/{alice.connection_id}?code={quote(code)}")
        assert status == 400
        assert body["message"] == "code is one that a close frame may carry, such as 1000 or 4000, or 1006 to cut it."
        assert alice.socket.state is State.OPEN

    def test_a_long_reason_and_an_unknown_connection_are_refused(self, ask, gateway):
        alice = gateway.connect("alice")
        path = f"/_localgateway/connections/{alice.connection_id}"
        assert ask("DELETE", f"{path}?reason={'x' * 124}") == (400, {"message": "reason has at most 123 bytes."})
        assert ask("DELETE", path)[0] == 200
        assert ask("DELETE", path) == (404, {"message": "There is no such connection."})


def test_it_tells_what_has_run(ask, gateway):
    alice = gateway.connect("alice")
    alice.sends("hi")
    alice.receives()
    gateway.settle()
    (ran,) = ask("GET", "/_localgateway/invocations")[1]["invocations"]
    assert ran.pop("durationMs") >= 0
    assert ran.pop("startedAt").endswith("Z")
    assert ran == {
        "number": 1,
        "connectionId": alice.connection_id,
        "function": "message",
        "route": "$default",
        "cause": "MESSAGE",
        "outcome": "ok",
        "status": 200,
        "error": None,
        "lines": [],
    }


class TestTables:
    @pytest.fixture
    def resources(self):
        return {"Rows": ROWS_TABLE}

    def test_their_rows_are_read_a_page_at_a_time(self, ask, gateway):
        table = boto3.client("dynamodb")
        for number in range(5):
            blob = {"B": bytes([0xFF, number])}
            table.put_item(TableName="rows", Item={"PK": {"S": f"k{number}"}, "n": {"N": str(number)}, "blob": blob})
        table.close()
        assert ask("GET", "/_localgateway/tables") == (200, {"tables": ["rows"]})
        found, after = [], ""
        for size in (2, 2, 1):
            status, page = ask("GET", f"/_localgateway/tables/rows?limit=2{after}")
            assert (status, page["keys"], len(page["rows"])) == (200, ["PK"], size)
            found += page["rows"]
            after = f"&after={page['next']}"
        assert page["next"] is None
        assert {row["PK"]["S"] for row in found} == {f"k{number}" for number in range(5)}
        assert {"PK": {"S": "k1"}, "n": {"N": "1"}, "blob": {"B": "/wE="}} in found

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("path", "status", "message"),
        [
            ("others", 404, "resources.json has no such table."),
            ("", 404, "resources.json has no such table."),
            ("rows?limit=0", 400, "limit is a number from 1 to 200."),
            ("rows?limit=201", 400, "limit is a number from 1 to 200."),
            ("rows?limit=many", 400, "limit is a number from 1 to 200."),
            ("rows?after=bnVsbA==", 502, "`after` is not the `next` of a page."),
            ("rows?after=x", 502, "`after` is not the `next` of a page."),
        ],
    )
    def test_an_unreadable_table_is_reported(self, ask, path, status, message):
        assert ask("GET", f"/_localgateway/tables/{path}") == (status, {"message": message})

    def test_an_engine_that_refuses_is_quoted(self, ask):
        mark = base64.urlsafe_b64encode(b'{"wrong":{"S":"x"}}').decode()
        status, body = ask("GET", f"/_localgateway/tables/rows?after={mark}")
        assert (status, body["message"][:25]) == (502, "rows cannot be read: An e")

    def test_tables_on_aws_are_not_shown(self):
        session = botocore.session.get_session()
        with closing(session.create_client("dynamodb", "eu-central-1", endpoint_url=None)) as client:
            client.meta._endpoint_url = "https://dynamodb.eu-central-1.amazonaws.com"
            with pytest.raises(Unreadable, match="The tables are on AWS; only those on this machine are shown."):
                Tables({"rows": ("PK",)}, client).read("rows", 1, None)


def test_a_project_without_tables_has_none(ask):
    assert ask("GET", "/_localgateway/tables") == (200, {"tables": []})


def test_there_is_nothing_else(ask):
    status, body = ask("GET", "/_localgateway/secrets")
    assert (status, body["message"]) == (
        404,
        "There are /_localgateway/faults, /_localgateway/connections, /_localgateway/connections/, "
        "/_localgateway/invocations, /_localgateway/tables, /_localgateway/tables/, /_localgateway/feed.",
    )
    assert ask("PUT", "/_localgateway/faults", {}) == (405, {"message": "Use GET, POST, DELETE."})


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "192.0.2.1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_other_machines_and_other_sites_are_refused(ask, gateway, headers):
    status, body = ask("POST", "/_localgateway/faults", {"fault": "throttle"}, **headers)
    assert (status, body) == (403, {"message": "Only programs on this machine may call this."})
    assert gateway.faults.armed == []


def test_a_page_of_the_gateway_itself_is_not(ask, gateway):
    origin = gateway.management_endpoint.rpartition("/")[0]
    assert ask("GET", "/_localgateway/faults", Origin=origin)[0] == 200


def test_every_call_is_documented(ask):
    document = (Path(__file__).parents[1] / "docs" / "CONSOLE.md").read_text()
    listed = re.findall(r"^\| `([A-Z]+) (/_localgateway/[^`]+)` \|", document, re.M)
    there = ask("GET", "/_localgateway/secrets")[1]["message"].removeprefix("There are ").removesuffix(".").split(", ")
    assert {re.sub(r"\{\w+\}", "", path) for _, path in listed} == set(there)
    for method in ("GET", "POST", "DELETE"):
        for path in there:
            is_known = ask(method, path)[0] != 405 if path != "/_localgateway/feed" else method == "GET"
            assert is_known == (method in {way for way, at in listed if re.sub(r"\{\w+\}", "", at) == path})
