"""The test kit: what its words promise, and how they fail."""

import re
import time

import pytest

from gatewaykit import ROWS_ROUTES, ROWS_TABLE, write_project
from localgateway import Limits
from localgateway.testing import Client, Gateway, Refused
from localgateway.testing.client import find_difference

APP = (
    """
import random

@app.on_ws_connect()
def connect(event):
    events.put(event.to_dict())
    query = event.to_dict().get("queryStringParameters", {})
    if "refuse" in query:
        return Response("", status_code=int(query["refuse"]))
    return Response("", headers={"Sec-WebSocket-Protocol": "b"} if "agree" in query else {})

peers = []

@app.on_ws_message(name="relay")
def message(event):
    match event.body.split(" "):
        case ["join"]:
            peers.append(event.connection_id)
        case ["late", text]:
            time.sleep(random.uniform(0, 0.05))
            for peer in peers:
                send(peer, text)
        case ["fail"]:
            1 / 0
        case ["hold"]:
            gate.wait(10)
        case _:
            send(event.connection_id, event.body)

@app.on_ws_disconnect()
def disconnect(event):
    events.put(event.to_dict())

@app.route("/text")
def text():
    return Response("plain", headers={"Content-Type": "text/plain"})

@app.schedule("rate(1 minute)")
def tick(event):
    events.put("tick")
"""
    + ROWS_ROUTES
)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    project = write_project(tmp_path_factory.mktemp("kit") / "project", APP, resources={"Rows": ROWS_TABLE})
    with Gateway(project) as gateway:
        yield gateway


@pytest.fixture
def gateway(started):
    yield started
    started.app.peers.clear()
    started.reset()
    while not started.app.events.empty():
        started.app.events.get()


class TestConnecting:
    def test_user_and_device_are_query_parameters(self, gateway):
        gateway.connect("alice", device="phone", query={"tag": ["a", "b"], "note": "ü &"})
        event = gateway.app.events.get()
        assert event["multiValueQueryStringParameters"] == {
            "userId": ["alice"],
            "deviceId": ["phone"],
            "tag": ["a", "b"],
            "note": ["ü &"],
        }

    def test_without_any_there_is_no_query(self, gateway):
        gateway.connect()
        assert "queryStringParameters" not in gateway.app.events.get()

    def test_the_project_chooses_the_names_of_the_parameters(self, tmp_path):
        with Gateway(write_project(tmp_path / "p", APP), parameters=("u", "d")) as gateway:
            gateway.connect("alice", device="phone")
            assert gateway.app.events.get()["queryStringParameters"] == {"u": "alice", "d": "phone"}

    def test_headers_and_subprotocols_arrive(self, gateway):
        alice = gateway.connect(
            query={"agree": 1}, headers={"user-agent": "me/1", "Cookie": "a=b"}, subprotocols=["a", "b"]
        )
        event = gateway.app.events.get()
        assert event["headers"]["Cookie"] == "a=b"
        assert event["requestContext"]["identity"]["userAgent"] == "me/1"
        assert event["headers"]["Sec-WebSocket-Protocol"] == "a, b"
        assert alice.subprotocol == "b"

    def test_a_refused_client_gets_status_and_body(self, gateway):
        with pytest.raises(Refused) as refused:
            gateway.connect(query={"refuse": 403})
        assert (refused.value.status, refused.value.body["message"]) == (403, "Forbidden")
        assert str(refused.value).startswith("The handshake was refused with 403: {'message': 'Forbidden', ")

    def test_each_client_knows_its_connection_id(self, gateway):
        clients = [gateway.connect() for _ in range(5)]
        ids = [gateway.app.events.get()["requestContext"]["connectionId"] for _ in clients]
        assert [client.connection_id for client in clients] == ids


class TestReceiving:
    def test_a_frame_is_json_if_it_is_an_object_or_an_array(self, gateway):
        alice = gateway.connect("alice")
        for sent, received in [
            ({"a": [1, None]}, {"a": [1, None]}),
            ([1], [1]),
            ("7", "7"),
            ("{x", "{x"),
            ("hé", "hé"),
        ]:
            alice.sends(sent)
            assert alice.receives(received) == received

    def test_of_an_object_the_members_that_matter_are_compared(self):
        frame = {"type": "reply", "data": {"n": 1, "list": [{"a": 1, "b": 2}]}, "id": "x"}
        for expected in (frame, {}, {"data": {"n": 1}}, {"data": {"list": [{"a": 1}]}, "id": ...}, ...):
            assert find_difference(expected, frame) is None
        assert find_difference({"data": {"n": 2}}, frame) == "1 at data.n"
        assert find_difference({"data": {"list": [{"a": 2}]}}, frame) == "1 at data.list[0].a"
        assert find_difference({"data": {"m": ...}}, frame) == "nothing at data.m"
        assert find_difference({"data": {"list": []}}, frame) == "[{'a': 1, 'b': 2}] at data.list"
        assert find_difference("x", frame).startswith("{'type': 'reply', ")

    def test_a_failure_lists_what_was_received_instead(self, gateway):
        alice = gateway.connect("alice")
        alice.sends({"n": 1}, {"n": 2}, {"n": 3})
        gateway.settle()
        alice.receives()
        with pytest.raises(AssertionError) as failed:
            alice.receives({"n": 7})
        first, expected, *frames = str(failed.value).split("\n  ")
        assert re.fullmatch(r"alice received something else: \d at n", first)
        assert expected == "expected: {'n': 7}"
        assert sorted(re.findall(r"'n': (\d)", " ".join(frames))) == ["1", "2", "3"]
        assert [frame.partition(":")[0] for frame in frames] == ["received", "received", "and then"]

    def test_silence_is_not_mistaken_for_an_end(self, gateway):
        alice = gateway.connect("alice")
        with pytest.raises(AssertionError, match="^alice received nothing within 0.05 s\n  received: nothing so far$"):
            alice.receives(within=0.05)
        gateway.management().delete_connection(ConnectionId=alice.connection_id)
        with pytest.raises(AssertionError, match="^alice was closed with 1000 Connection Closed Normally"):
            alice.receives()


class TestReceivingNothing:
    @pytest.mark.slow
    def test_messages_on_their_way_are_waited_for(self, gateway):
        bob = gateway.connect("bob")
        bob.sends("join")
        for n in range(20):
            alice = gateway.connect("alice")
            alice.sends(f"late {n}")
            with pytest.raises(AssertionError, match=f"^bob received something\n  received: '{n}'"):
                Client(bob.socket, name="bob", settle=gateway.settle).receives_nothing()

    def test_a_long_queue_of_messages_is_waited_for_too(self, gateway):
        bob, text = gateway.connect("bob"), "x" * 30_000
        bob.sends("join")
        gateway.settle()
        gateway.connect("alice", compression=None).sends(*[f"late {text}"] * 60)
        gateway.settle()
        for _ in range(60):
            bob.receives(text, within=0)
        bob.receives_nothing()

    def test_a_closed_connection_is_no_silence(self, gateway):
        alice = gateway.connect("alice")
        gateway.management().delete_connection(ConnectionId=alice.connection_id)
        with pytest.raises(AssertionError, match="^alice was closed with 1000"):
            alice.receives_nothing()


class TestEnding:
    def test_a_close_of_the_client_reaches_the_app_with_its_code(self, gateway):
        alice = gateway.connect("alice")
        gateway.app.events.get()
        alice.closes(4001, "bye")
        assert gateway.app.events.get(timeout=10)["requestContext"]["disconnectStatusCode"] == 4001

    def test_a_close_of_the_gateway_is_checked_and_returned(self, gateway):
        alice = gateway.connect("alice")
        alice.sends(b"binary")
        assert alice.is_closed_with(1003)[0] == 1003
        with pytest.raises(AssertionError, match="^alice was closed with 1003 instead of 1000"):
            alice.is_closed_with(1000)

    def test_what_came_before_must_have_been_read(self, gateway):
        alice = gateway.connect("alice")
        with pytest.raises(AssertionError, match="^alice was not closed within 0.05 s"):
            alice.is_closed_with(within=0.05)
        alice.sends("x")
        with pytest.raises(AssertionError, match="^alice received something instead of a close frame"):
            alice.is_closed_with()


class TestTheNetwork:
    def test_a_lost_connection_gets_no_close_frame_and_the_app_gets_1006(self, gateway):
        alice, bob = gateway.connect("alice"), gateway.connect("bob")
        for _ in (alice, bob):
            gateway.app.events.get()
        gateway.cut(alice.connection_id)
        with pytest.raises(AssertionError, match="^alice was cut without a close frame"):
            alice.is_closed_with()
        assert gateway.app.events.get(timeout=10)["requestContext"]["disconnectStatusCode"] == 1006
        bob.sends("still here")
        bob.receives("still here")


class TestTime:
    def test_a_connection_lives_through_two_hours_in_a_moment(self, gateway):
        alice = gateway.connect("alice")
        gateway.advance(599)
        for _ in range(11):
            alice.sends("still here")
            alice.receives()
            gateway.advance(599)
        alice.sends("still here")
        alice.receives()
        gateway.advance(20)
        assert alice.is_closed_with(1001) == (1001, "Going away")

    def test_ten_idle_minutes_close_a_connection_and_run_disconnect(self, gateway):
        alice, bob = gateway.connect("alice"), gateway.connect("bob")
        gateway.advance(300)
        alice.sends("x")
        gateway.advance(301)
        assert bob.is_closed_with(1001)
        assert [ran.route for ran in gateway.invocations].count("$disconnect") == 1
        alice.receives()
        alice.receives_nothing()

    def test_times_in_events_jump_too_until_the_reset(self, gateway):
        alice = gateway.connect("alice")
        connected_at_ms = gateway.app.events.get()["requestContext"]["connectedAt"]
        gateway.advance(500)
        connection = gateway.management().get_connection(ConnectionId=alice.connection_id)
        assert connection["LastActiveAt"] == connection["ConnectedAt"]
        alice.closes()
        context = gateway.app.events.get(timeout=10)["requestContext"]
        assert context["connectedAt"] == connected_at_ms
        assert context["requestTimeEpoch"] - connected_at_ms >= 500_000
        gateway.reset()
        gateway.connect("alice")
        assert gateway.app.events.get()["requestContext"]["connectedAt"] < time.time() * 1000 + 1

    def test_the_rest_of_the_time_passes_by_itself(self, tmp_path):
        with Gateway(write_project(tmp_path / "p", APP), limits=Limits(idle_seconds=100.3)) as gateway:
            alice = gateway.connect("alice")
            gateway.advance(100)
            assert alice.is_closed_with(1001)


class TestTheRest:
    def test_calls_are_answered_with_status_and_json(self, gateway):
        assert gateway.call("GET", "/rows") == (200, {"count": 0})
        assert gateway.call("POST", "/rows?x=1", {"a": 1}) == (200, {"at": {"x": "1"}})
        assert gateway.call("GET", "/rows").body == {"count": 1}
        assert gateway.call("GET", "/nowhere").status == 403
        assert gateway.call("GET", "/text") == (200, "plain")

    def test_a_project_without_routes_has_nothing_to_call(self, tmp_path):
        with (
            Gateway(write_project(tmp_path / "p", "")) as gateway,
            pytest.raises(LookupError, match="^The project has no REST routes.$"),
        ):
            gateway.call("GET", "/")

    def test_invocations_say_what_ran_and_how_it_ended_without_contents(self, gateway):
        alice = gateway.connect("alice")
        alice.sends("secret")
        gateway.settle()
        alice.sends("fail")
        ran = gateway.invocations
        assert [(one.function, one.route, one.connection_id, one.outcome) for one in ran] == [
            ("connect", "$connect", alice.connection_id, "ok"),
            ("relay", "$default", alice.connection_id, "ok"),
            ("relay", "$default", alice.connection_id, "error"),
        ]
        assert all(one.duration_ms >= 0 for one in ran)
        assert "secret" not in repr(ran)
        gateway.call("GET", "/rows")
        assert [(one.route, one.outcome) for one in gateway.invocations[3:]] == [(None, "ok")]


class TestReset:
    def test_tables_are_empty_and_sockets_gone_without_a_disconnect(self, gateway):
        gateway.call("POST", "/rows", "one")
        alice = gateway.connect("alice")
        gateway.app.events.get()
        gateway.reset()
        assert gateway.call("GET", "/rows").body == {"count": 0}
        assert gateway.app.events.empty()
        with pytest.raises(AssertionError, match="alice was cut without a close frame"):
            alice.is_closed_with()

    def test_a_handler_at_work_may_finish_first(self, gateway):
        alice = gateway.connect("alice")
        alice.sends("hold")
        alice.socket.ping().wait(10)
        gateway.app.gate.set()
        gateway.reset()
        gateway.app.gate.clear()
        assert gateway.invocations == []
