"""Faults: what they cause, how they are armed, and what is refused."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from gatewaykit import SIGNED, read_response, write_project
from gatewayprocesses import FREE
from localgateway.faults import KINDS, BadFault, Fault, Faults, parse_fault, read_fault
from localgateway.testing import Gateway

REPLYING = """
from chalice import WebsocketDisconnectedError

@app.on_ws_message(name="reply")
def message(event):
    try:
        send(event.connection_id, event.body)
    except WebsocketDisconnectedError:
        events.put("gone")

@app.on_ws_disconnect()
def disconnect(event):
    events.put("disconnect")
"""


@pytest.fixture
def gateway(tmp_path):
    with Gateway(write_project(tmp_path / "project", REPLYING)) as gateway:
        yield gateway


def told(gateway):
    """What the handlers have put into the app's queue so far."""
    gateway.settle()
    return [gateway.app.events.get_nowait() for _ in range(gateway.app.events.qsize())]


class TestWhatGoesWrong:
    def test_the_next_disconnect_is_lost_and_the_one_after_is_not(self, gateway):
        alice, bob = gateway.connect("alice"), gateway.connect("bob")
        gateway.faults.lose_disconnect()
        alice.closes()
        assert told(gateway) == []
        bob.closes()
        assert told(gateway) == ["disconnect"]

    def test_only_disconnects_of_that_connection_are_lost(self, gateway):
        alice, bob = gateway.connect("alice"), gateway.connect("bob")
        gateway.faults.lose_disconnect(connection_id=alice.connection_id, times=None)
        bob.closes()
        assert told(gateway) == ["disconnect"]
        alice.closes()
        assert told(gateway) == []

    def test_an_open_connection_is_reported_gone_twice(self, gateway):
        alice, management = gateway.connect("alice"), gateway.management()
        gateway.faults.false_gone(times=2)
        for _ in range(2):
            with pytest.raises(management.exceptions.GoneException):
                management.post_to_connection(ConnectionId=alice.connection_id, Data="lost")
        management.post_to_connection(ConnectionId=alice.connection_id, Data="there")
        assert alice.receives() == "there"

    def test_a_handler_sees_the_false_410_as_chalice_shows_it(self, gateway):
        alice = gateway.connect("alice")
        gateway.faults.false_gone(connection_id=alice.connection_id)
        alice.sends("one")
        alice.receives_nothing()
        assert told(gateway) == ["gone"]

    def test_a_connection_that_is_gone_uses_up_no_fault(self, gateway):
        alice, bob, management = gateway.connect("alice"), gateway.connect("bob"), gateway.management()
        alice.closes()
        gateway.faults.false_gone()
        for client in (alice, bob):
            with pytest.raises(management.exceptions.GoneException):
                management.get_connection(ConnectionId=client.connection_id)
        assert gateway.faults.armed == []

    def test_posts_are_throttled(self, gateway):
        alice, management = gateway.connect("alice"), gateway.management()
        gateway.faults.throttle()
        with pytest.raises(management.exceptions.LimitExceededException):
            management.post_to_connection(ConnectionId=alice.connection_id, Data="lost")
        management.post_to_connection(ConnectionId=alice.connection_id, Data="there")
        assert alice.receives() == "there"

    def test_a_post_is_dropped_without_a_word(self, gateway):
        alice = gateway.connect("alice")
        gateway.faults.drop_post()
        alice.sends("lost", "lost")
        assert alice.receives() == "lost"
        alice.receives_nothing()
        assert [invocation.outcome for invocation in gateway.invocations[-2:]] == ["ok", "ok"]

    def test_what_follows_a_delayed_post_on_its_connection_waits(self, gateway):
        alice = gateway.connect("alice")
        gateway.faults.delay_post(0.2, times=1)
        path = f"/api/@connections/{alice.connection_id}"
        address = urlsplit(gateway.url)
        started_at = time.monotonic()
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            for text in ("one", "two"):
                head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{SIGNED}\r\nContent-Length: 3\r\n\r\n"
                connection.sendall((head + text).encode())
            assert read_response(connection)[0] == 200
        assert [alice.receives(), alice.receives()] == ["one", "two"]
        assert time.monotonic() - started_at >= 0.2

    def test_others_are_served_while_a_post_is_delayed(self, gateway):
        alice, bob, management = gateway.connect("alice"), gateway.connect("bob"), gateway.management()
        gateway.faults.delay_post(600, connection_id=alice.connection_id)
        alice.sends("late")
        management.post_to_connection(ConnectionId=bob.connection_id, Data="now")
        assert bob.receives() == "now"

    def test_an_invocation_of_one_route_is_delayed(self, gateway):
        gateway.faults.delay_route(0.2, route="$default")
        alice = gateway.connect("alice")
        sent_at = time.monotonic()
        alice.sends("late")
        assert alice.receives() == "late"
        assert time.monotonic() - sent_at >= 0.2

    def test_a_killed_worker_costs_one_error_frame(self, gateway):
        alice = gateway.connect("alice")
        gateway.faults.kill_worker("reply")
        alice.sends("one")
        alice.receives({"message": "Internal server error", "connectionId": alice.connection_id, "requestId": ...})
        alice.sends("two")
        assert alice.receives() == "two"
        assert [invocation.outcome for invocation in gateway.invocations] == ["error", "ok"]

    @pytest.mark.slow
    def test_a_worker_process_really_dies_and_is_replaced(self, serve):
        probe = serve(
            """
            import boto3, os
            from chalice import Chalice
            app = Chalice(app_name="probe")
            app.experimental_feature_flags.update(["WEBSOCKETS"])
            app.websocket_api.session = boto3.session.Session()

            @app.on_ws_message()
            def message(event):
                app.websocket_api.send(event.connection_id, str(os.getpid()))
            """,
            prelude="",
            workers=True,
        )
        client = probe.joins()
        client.sends("who?")
        first = client.receives()
        probe.gateway.faults.kill_worker("message")
        client.sends("who?")
        assert "Internal server error" in client.receives()
        client.sends("who?")
        assert client.receives().isdecimal()
        assert first.isdecimal()

    def test_a_reset_clears_all_faults_and_what_they_delay_never_begins(self, gateway):
        alice = gateway.connect("alice")
        gateway.faults.throttle(times=None)
        gateway.faults.delay_route(60)
        alice.sends("never")
        alice.socket.ping().wait(10)
        gateway.reset()
        assert (gateway.faults.armed, gateway.invocations) == ([], [])
        assert gateway.app.events.empty()


class TestPython:
    def test_faults_strike_in_order_and_as_often_as_they_say(self):
        faults = Faults([Fault("delay-post", seconds=1, times=1)])
        faults.delay_post(2, connection_id="a", times=2)
        assert [faults.take("delay-post", key) for key in "baaa"] == [
            Fault("delay-post", seconds=1, times=1),
            Fault("delay-post", "a", 2, 2),
            Fault("delay-post", "a", 1, 2),
            None,
        ]

    def test_each_fault_has_its_verb(self):
        faults = Faults()
        faults.lose_disconnect()
        faults.false_gone()
        faults.throttle()
        faults.drop_post()
        faults.delay_post(1)
        faults.delay_route(1)
        faults.kill_worker()
        assert [fault.name for fault in faults.armed] == list(KINDS)

    def test_threads_share_what_is_armed(self):
        faults = Faults([Fault("throttle", times=100)])
        struck = []
        threads = [
            threading.Thread(target=lambda: struck.extend(faults.take("throttle", "x") for _ in range(50)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([fault for fault in struck if fault]) == 100

    @pytest.mark.parametrize(
        ("fault", "sentence"),
        [
            ({"name": "rain"}, "'rain' is not a fault: the faults are lose-disconnect, false-gone, throttle, "),
            ({"name": "throttle", "times": 0}, "times of throttle must be 1 or more, or nothing for always."),
            ({"name": "throttle", "times": True}, "times of throttle must be 1 or more"),
            ({"name": "throttle", "times": 1.5}, "times of throttle must be 1 or more"),
            ({"name": "throttle", "seconds": 1}, "throttle does not take seconds."),
            ({"name": "throttle", "target": ""}, "connectionId of throttle must be a string that is not empty."),
            ({"name": "delay-route", "target": 7, "seconds": 1}, "route of delay-route must be a string"),
            ({"name": "delay-post"}, "delay-post needs seconds, more than 0."),
            ({"name": "delay-post", "seconds": float("inf")}, "delay-post needs seconds, more than 0."),
            ({"name": "delay-post", "seconds": "1"}, "delay-post needs seconds, more than 0."),
        ],
    )
    def test_what_is_no_fault_is_refused_in_one_sentence(self, fault, sentence):
        with pytest.raises(BadFault, match=sentence):
            Fault(**fault)


@pytest.mark.slow
class TestTheCommandLine:
    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("throttle", Fault("throttle", times=1)),
            ("throttle=3", Fault("throttle", times=3)),
            ("throttle=all", Fault("throttle")),
            ("lose-disconnect=all", Fault("lose-disconnect")),
            ("delay-post=0.5", Fault("delay-post", seconds=0.5)),
            ("delay-route=$connect:2", Fault("delay-route", "$connect", seconds=2)),
            ("kill-worker=websocket_message", Fault("kill-worker", "websocket_message", 1)),
            ("kill-worker=websocket_message:all", Fault("kill-worker", "websocket_message")),
        ],
    )
    def test_a_fault_is_a_name_and_what_it_needs(self, text, fault):
        assert parse_fault(text) == fault

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("rain", "'rain' is not a fault: the faults are "),
            ("rain=2", "'rain' is not a fault: the faults are "),
            ("throttle=", "'throttle=' has nothing after the equals sign."),
            ("throttle=0", "times of throttle must be 1 or more"),
            ("throttle=1.5", "times of throttle must be 1 or more"),
            ("delay-post", "delay-post needs seconds"),
            ("delay-post=all", "delay-post needs seconds"),
            ("delay-route=$connect:soon", "'soon' in 'delay-route=$connect:soon' is not a number."),
        ],
    )
    def test_a_mistake_is_reported_in_one_sentence(self, text, sentence):
        with pytest.raises(BadFault) as refused:
            parse_fault(text)
        assert sentence in str(refused.value)

    def test_it_arms_what_it_is_given(self, run):
        gateway = run(*FREE, "--in-process", "--fault", "throttle=2", "--fault", "delay-route=$connect:0.1")
        url = gateway.prints(r"^@connections +(http://[^/]*)")
        with urllib.request.urlopen(f"{url}/_localgateway/faults", timeout=10) as answer:
            armed = json.loads(answer.read())["faults"]
        assert armed == [
            {"fault": "throttle", "times": 2},
            {"fault": "delay-route", "route": "$connect", "times": None, "seconds": 0.1},
        ]

    def test_an_unknown_fault_ends_it_with_code_2(self, run):
        gateway = run(*FREE, "--fault", "rain")
        assert gateway.ends() == 2
        assert "argument --fault: 'rain' is not a fault: the faults are lose-disconnect, " in gateway.output


def test_what_is_shown_can_be_sent_again():
    for fault in (Fault("throttle", "x", 3), Fault("delay-route", "$connect", None, 0.5), Fault("kill-worker")):
        assert read_fault(json.loads(json.dumps(fault.to_json()))) == fault
