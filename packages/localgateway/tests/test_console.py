"""What the console gets, without a browser: its files, and the feed of what happens."""

import json
import socket
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from gatewaykit import ECHO, read_to_end, write_project
from localgateway import LocalGateway
from localgateway.console import page
from localgateway.console.feed import MAX_INVOCATIONS, MAX_LINE_CHARS, View, read_event_id
from localgateway.faults import Faults
from localgateway.limits import Limits
from localgateway.runtime.invocations import Invocation, Invocations
from localgateway.testing import Gateway

SECONDS = 10


@pytest.fixture
def options():
    return {}


@pytest.fixture
def gateway(tmp_path, options):
    with Gateway(write_project(tmp_path / "project", ECHO), **options) as gateway:
        yield gateway


@pytest.fixture
def get(gateway):
    """Send a request to the gateway's port; returns status, headers and body."""

    def get(path, method="GET", **headers):
        address = urlsplit(gateway.management_endpoint)
        connection = HTTPConnection(address.hostname, address.port, timeout=SECONDS)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    return get


@pytest.fixture
def dial(gateway):
    """Open a TCP connection and send this."""
    address = urlsplit(gateway.management_endpoint)
    with ExitStack() as stack:

        def dial(data):
            client = stack.enter_context(socket.create_connection((address.hostname, address.port), SECONDS))
            client.sendall(data)
            return client

        yield dial


class Reader:
    """A reader of the feed."""

    def __init__(self, gateway, **headers):
        address = urlsplit(gateway.management_endpoint)
        self._connection = HTTPConnection(address.hostname, address.port, timeout=SECONDS)
        self._connection.request("GET", "/_localgateway/feed", headers=headers)
        self.response = self._connection.getresponse()
        self.event_id = None

    def next(self):
        """Return the next event."""
        while line := self.response.readline():
            name, _, value = line.decode().strip().partition(": ")
            if name == "id":
                self.event_id = value
            if name == "data":
                return json.loads(value)
        raise EOFError

    def until(self, is_it):
        """Return the first event of which this is true."""
        while not is_it(event := self.next()):
            pass
        return event

    def close(self):
        self.response.close()
        self._connection.close()


@pytest.fixture
def read(gateway):
    """Open the feed."""
    readers = []

    def read(**headers):
        readers.append(Reader(gateway, **headers))
        return readers[-1]

    yield read
    for reader in readers:
        reader.close()


class TestThePage:
    def test_every_file_that_it_names_is_served_with_its_type(self, get):
        for path in ("/_console", "/_console/"):
            status, headers, body = get(path)
            assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        served = {file.name: get(f"/_console/{file.name}")[1]["Content-Type"] for file in page.STATIC.iterdir()}
        assert {served[name] for name in served if name.endswith(".js")} == {"text/javascript; charset=utf-8"}
        assert served["console.css"] == "text/css; charset=utf-8"
        assert served["icon.svg"] == "image/svg+xml; charset=utf-8"
        assert b"/_console/main.js" in body

    def test_nothing_else_is(self, get):
        for path in ("/_console/../page.py", "/_console/%2e%2e/page.py", "/_console/static/main.js", "/_console/x"):
            assert get(path)[::2] == (404, b"The console is at /_console.\n")
        assert get("/_consoles")[0] == 403
        assert get("/_console", method="POST")[::2] == (405, b"Use GET.\n")
        assert get("/_console", method="HEAD")[::2] == (200, b"")

    def test_its_policy_lets_it_run_these_files_and_nothing_else(self, get):
        policy = dict(part.split(" ", 1) for part in get("/_console")[1]["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self'",
            "connect-src": "'self' ws: wss:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }

    @pytest.mark.parametrize("path", ["/_console", "/_console/main.js", "/_localgateway/feed", "/_localgateway/tables"])
    @pytest.mark.parametrize(
        "headers",
        [{"Host": "evil.example"}, {"Host": "192.0.2.1"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
        + [{"Sec-Fetch-Site": site} for site in ("cross-site", "same-site")],
        ids=str,
    )
    def test_other_machines_and_other_sites_are_refused(self, get, path, headers):
        assert get(path, **headers)[0] == 403

    def test_the_refusal_says_what_to_do(self, get):
        assert get("/_console", Host="evil.example")[2].decode() == f"{page.REFUSAL}\n"

    def test_a_gateway_under_a_foreign_name_has_no_console(self, tmp_path):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Nothing is sent: the address is only looked up in the routes. It belongs to no machine (RFC 5737).
                probe.connect(("192.0.2.1", 9))
            except OSError:
                pytest.skip("this machine has no address but loopback's")
            address = probe.getsockname()[0]
        with LocalGateway(write_project(tmp_path / "project", ECHO), host=address) as gateway:
            assert gateway.console_url is None
        with LocalGateway(tmp_path / "project", host="0.0.0.0") as gateway:
            assert gateway.console_url == f"http://127.0.0.1:{urlsplit(gateway.url).port}/_console"


class TestTheFeed:
    def test_begins_with_how_things_are(self, gateway, read):
        alice = gateway.connect("alice")
        alice.sends("hi")
        gateway.settle()
        gateway.faults.throttle()
        reader = read()
        assert reader.response.headers["Content-Type"] == "text/event-stream"
        event = reader.next()
        told = event["gateway"]
        assert (told["project"], told["path"], told["functions"]) == ("probe", "/api", ["message"])
        assert (told["routes"], told["tables"]) == (["$default"], [])
        assert told["faults"]["throttle"] == {
            "meaning": "@connections answers 429",
            "target": "connectionId",
            "is_delay": False,
        }
        assert [one["id"] for one in event["connections"]] == [alice.connection_id]
        assert [one["route"] for one in event["invocations"]] == ["$default"]
        assert event["faults"] == [{"fault": "throttle", "times": 1}]
        assert (event["total"], event["running"]) == (1, [])

    @pytest.mark.slow
    def test_later_events_have_only_what_changed(self, gateway, read):
        alice, bob = gateway.connect("alice"), gateway.connect("bob")
        reader = read()
        reader.next()
        alice.sends("hi")
        gateway.settle()
        news = {}
        while not {"connections", "invocations"} <= news.keys():
            news |= reader.next()
        assert "faults" not in news
        assert "total" not in news
        assert [one["id"] for one in news["connections"]] == [alice.connection_id]
        gateway.faults.drop_post()
        assert reader.next()["faults"] == [{"fault": "drop-post", "times": 1}]
        bob.closes()
        event = reader.next()
        assert (event["closed"], event["total"]) == ([bob.connection_id], 1)
        assert "connections" not in event

    @pytest.mark.slow
    def test_lists_invocations_that_run_for_a_while(self, gateway, read):
        reader = read()
        reader.next()
        gateway.faults.delay_route(1)
        alice = gateway.connect("alice")
        alice.sends("hi")
        (running,) = reader.until(lambda event: event.get("running"))["running"]
        assert running.pop("startedAt").endswith("Z")
        assert running == {
            "function": "message",
            "cause": "MESSAGE",
            "route": "$default",
            "connectionId": alice.connection_id,
        }
        assert reader.until(lambda event: "running" in event)["running"] == []

    def test_a_reader_that_returns_gets_no_invocation_twice(self, gateway, read):
        alice = gateway.connect("alice")
        alice.sends("one")
        gateway.settle()
        first = read()
        assert len(first.next()["invocations"]) == 1
        first.close()
        alice.sends("two")
        gateway.settle()
        event = read(**{"Last-Event-ID": first.event_id}).next()
        assert [one["number"] for one in event["invocations"]] == [2]
        assert [one["id"] for one in event["connections"]] == [alice.connection_id]
        assert len(read(**{"Last-Event-ID": "another-1"}).next()["invocations"]) == 2

    @pytest.mark.parametrize("options", [{"limits": Limits(feeds=2)}])
    def test_readers_are_bounded(self, gateway, read):
        first, second = read(), read()
        for reader in (first, second):
            reader.next()
        refused = read()
        assert refused.response.status == 503
        assert json.loads(refused.response.read()) == {"message": "There are 2 readers already; close one."}
        first.close()
        deadline = time.monotonic() + SECONDS
        while read().response.status != 200:
            assert time.monotonic() < deadline

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [{"limits": Limits(feeds=1, feed_seconds=0.01, feed_patience_seconds=0.2)}])
    def test_a_reader_that_does_not_read_is_disconnected(self, gateway, dial, read):
        for _ in range(1_000):
            gateway.faults.throttle(connection_id="x" * 200)
        silent = dial(b"GET /_localgateway/feed HTTP/1.1\r\nHost: localhost\r\n\r\n")
        silent.recv(1)
        assert read().response.status == 503
        deadline = time.monotonic() + SECONDS
        while read().response.status != 200:
            # Each tells all faults anew, until what the machine holds between the two is full.
            gateway.faults.throttle()
            assert time.monotonic() < deadline

    def test_a_client_that_keeps_sending_is_no_reader(self, dial):
        request = b"GET /_localgateway/feed HTTP/1.1\r\nHost: localhost\r\n\r\n"
        sender = dial(request)
        assert sender.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")
        sender.sendall(request)
        read_to_end(sender)

    @pytest.mark.parametrize("options", [{"limits": Limits(feed_connections=2)}])
    def test_shows_the_newest_connections_and_says_how_many_there_are(self, gateway, read):
        clients = [gateway.connect(name) for name in ("alice", "bob", "carol")]
        reader = read()
        event = reader.next()
        assert [one["id"] for one in event["connections"]] == [one.connection_id for one in clients[1:]]
        assert (event["total"], event["gateway"]["shownConnections"]) == (3, 2)
        clients[2].closes()
        event = reader.next()
        assert [one["id"] for one in event["connections"]] == [clients[0].connection_id]
        assert event["closed"] == [clients[2].connection_id]

    @pytest.mark.parametrize(
        ("event_id", "number"),
        [
            (None, 0),
            ("", 0),
            ("abc-7", 7),
            ("abd-7", 0),
            ("abc-", 0),
            ("abc-x", 0),
            ("abc-\u0661", 0),
            ("7", 0),
            ("abc-" + "9" * 5_000, 0),
        ],
    )
    def test_a_strange_last_event_id_begins_afresh(self, event_id, number):
        assert read_event_id(event_id, "abc") == number


class Nothing:
    """An API in which nothing is connected."""

    def __init__(self, ended):
        self.connections, self.limits, self.faults = {}, Limits(), Faults()
        self.invocations = Invocations(None, self.faults)
        self.invocations.ended.extend(ended)


def ran(number, *lines):
    return Invocation("f", None, None, "INVOKE", 0, number, "ok", None, None, 1.0, lines)


class TestOneEvent:
    def test_invocations_come_in_bounded_portions(self):
        view = View(Nothing(ran(number) for number in range(5, MAX_INVOCATIONS + 15)))
        assert [one["number"] for one in view.look()["invocations"]] == list(range(5, MAX_INVOCATIONS + 5))
        assert [one["number"] for one in view.look()["invocations"]] == list(range(MAX_INVOCATIONS + 5, 215))
        assert view.look() == {}

    def test_has_a_bounded_length_whatever_they_write(self):
        line = "x" * (MAX_LINE_CHARS // 2)
        view = View(Nothing([ran(1, line * 3), ran(2, line), ran(3, line), ran(4)]))
        assert [one["number"] for one in view.look()["invocations"]] == [1]
        assert [one["number"] for one in view.look()["invocations"]] == [2, 3, 4]

    def test_leaves_out_forgotten_invocations(self):
        view = View(Nothing([ran(1)]))
        view.look()
        view._api.invocations.ended.clear()
        assert view.look() == {}
        view._api.invocations.ended.extend([ran(50), ran(51)])
        assert [one["number"] for one in view.look()["invocations"]] == [50, 51]
