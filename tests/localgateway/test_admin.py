"""What can be asked and told about the gateway itself, and by whom."""

import json
import urllib.error
import urllib.request

import pytest

from localgateway.faults import Fault
from localgateway.testing import Gateway
from tests.localgateway.kit import ECHO, write_project


@pytest.fixture
def gateway(tmp_path):
    with Gateway(write_project(tmp_path / "project", ECHO)) as gateway:
        yield gateway


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
        (b"{", "The body is no JSON."),
        (b"\xff", "The body is no JSON."),
        ([], 'A fault is a JSON object like {"fault": "false-gone", "times": 2}.'),
        ({"fault": 7}, 'A fault is a JSON object like {"fault": "false-gone", "times": 2}.'),
        ({"fault": "throttle", "times": 0}, "times of throttle must be 1 or more, or nothing for always."),
        ({"fault": "throttle", "route": "x"}, "throttle takes no route: it takes connectionId, times."),
    ],
)
def test_what_is_wrong_is_400_with_a_message(ask, gateway, body, message):
    assert ask("POST", "/_localgateway/faults", body) == (400, {"message": message})
    assert gateway.faults.armed == []


def test_it_tells_who_is_connected(ask, gateway):
    alice = gateway.connect("alice", headers={"User-Agent": "alice/1"})
    status, body = ask("GET", "/_localgateway/connections")
    (connection,) = body["connections"]
    assert status == 200
    assert list(connection) == ["id", "connectedAt", "lastActiveAt", "sourceIp", "userAgent"]
    assert (connection["id"], connection["sourceIp"]) == (alice.connection_id, "127.0.0.1")
    assert connection["userAgent"] == "alice/1"
    assert connection["connectedAt"].endswith("Z")


def test_there_is_nothing_else(ask):
    status, body = ask("GET", "/_localgateway/secrets")
    assert (status, body["message"]) == (404, "There are /_localgateway/faults, /_localgateway/connections.")
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
