"""$disconnect: when it comes, what it says, and what it cannot break."""

import threading
import time
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from localgateway import Limits
from tests.localgateway.kit import RECORDING, frame, handshake, read_response, read_to_end


def how_it_ended(event):
    context = event["requestContext"]
    return context["eventType"], context["disconnectStatusCode"], context["disconnectReason"]


class TestClosesOfTheClient:
    def test_without_a_code(self, serve):
        """DIS-01"""
        probe = serve(RECORDING)
        connection = probe.raw(handshake())
        read_response(connection)
        probe.event()
        connection.sendall(frame(8, b""))
        assert read_to_end(connection) == b"\x88\x00"
        assert how_it_ended(probe.event()) == ("DISCONNECT", 1005, "Client-side close frame status not set")

    @pytest.mark.parametrize(("code", "reason"), [(1001, ""), (1000, ""), (4001, "bye ü"), (1011, "broken")])
    def test_with_a_code_and_a_reason(self, serve, code, reason):
        """DIS-02, DIS-03"""
        probe = serve(RECORDING)
        client = probe.joins()
        probe.event()
        client.socket.close(code, reason)
        assert how_it_ended(probe.event()) == ("DISCONNECT", code, reason)

    @pytest.mark.parametrize("how", ["end of stream", "reset"])
    def test_without_a_close_frame(self, serve, how):
        """DIS-09"""
        probe = serve(RECORDING)
        connection = probe.raw(handshake())
        read_response(connection)
        probe.event()
        if how == "reset":
            # Closing on unread bytes resets the connection.
            connection.sendall(frame(9, b"answer me"))
            time.sleep(0.05)
        connection.close()
        assert how_it_ended(probe.event()) == ("DISCONNECT", 1006, "")
        assert probe.has_no_event_within(0.1)

    def test_a_message_before_the_close_is_still_handled(self, serve):
        probe = serve(RECORDING)
        connection = probe.raw(handshake() + frame(1, b"last words") + frame(8, b"\x03\xe8"))
        probe.event()
        events = {probe.event()["requestContext"]["eventType"] for _ in range(2)}
        assert events == {"MESSAGE", "DISCONNECT"}
        connection.close()


class TestTheEvent:
    def test_its_headers_are_always_the_same_four(self, serve):
        """EVT-11"""
        probe = serve(RECORDING)
        client = probe.joins("?a=1")
        probe.event()
        client.socket.close()
        event = probe.event()
        host = "{}:{}".format(*probe.address)
        assert event["headers"] == {"Host": host, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
        assert event["multiValueHeaders"] == {name: [value] for name, value in event["headers"].items()}
        assert set(event) == {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"}


class TestClosesOfTheGateway:
    def test_a_silent_connection_is_closed(self, serve):
        """DIS-04"""
        probe = serve(RECORDING, limits=Limits(idle_seconds=0.1))
        client = probe.joins()
        probe.event()
        assert client.is_closed_with() == (1001, "Going away")
        assert how_it_ended(probe.event()) == ("DISCONNECT", 1001, "Going away")

    def test_messages_to_the_client_keep_it_open(self, serve):
        """DIS-05"""
        probe = serve(RECORDING, limits=Limits(idle_seconds=0.5))
        client, connection_id = probe.joins(), probe.connection_id()
        management = probe.management()
        for _ in range(10):
            time.sleep(0.1)
            management.post_to_connection(ConnectionId=connection_id, Data="still here?")
            assert client.receives() == "still here?"

    def test_messages_of_the_client_keep_it_open(self, serve):
        """DIS-05"""
        probe = serve(RECORDING, limits=Limits(idle_seconds=0.5))
        client = probe.joins()
        for _ in range(10):
            time.sleep(0.1)
            client.sends("still here")
        client.socket.ping().wait(10)

    def test_pings_do_not(self, serve):
        probe = serve(RECORDING, limits=Limits(idle_seconds=0.3))
        client = probe.joins()
        with suppress(ConnectionClosed):
            for _ in range(10):
                client.socket.ping()
                time.sleep(0.05)
        assert client.is_closed_with() == (1001, "Going away")

    def test_no_connection_lives_longer_than_the_limit(self, serve):
        """DIS-06"""
        probe = serve(RECORDING, limits=Limits(duration_seconds=0.4))
        client = probe.joins()
        with suppress(ConnectionClosed):
            for _ in range(30):
                client.sends("busy")
                time.sleep(0.02)
        assert client.is_closed_with() == (1001, "Going away")

    def test_stopping_the_gateway_closes_every_connection_and_runs_every_handler(self, serve):
        probe = serve(RECORDING)
        clients = [probe.joins() for _ in range(5)]
        app = probe.app
        for _ in clients:
            probe.event()
        probe.gateway.stop()
        assert [client.is_closed_with() for client in clients] == [(1001, "Going away")] * 5
        endings = [how_it_ended(app.events.get(timeout=10)) for _ in clients]
        assert endings == [("DISCONNECT", 1001, "Going away")] * 5

    def test_while_it_stops_nobody_comes_in_and_handlers_can_still_call_it(self, serve):
        probe = serve(
            """
            from chalice import WebsocketDisconnectedError

            @app.on_ws_disconnect()
            def disconnect(event):
                events.put(event.to_dict())
                gate.wait(10)
                try:
                    send(event.connection_id, "x")
                except WebsocketDisconnectedError:
                    events.put("answered")
            """,
            limits=Limits(stop_seconds=5),
        )
        probe.joins()
        app = probe.app
        stopping = threading.Thread(target=probe.gateway.stop)
        stopping.start()
        app.events.get(timeout=10)
        assert read_response(probe.raw(handshake()))[0] == 503
        app.gate.set()
        assert app.events.get(timeout=10) == "answered"
        stopping.join()


class TestWhatItCannotBreak:
    @pytest.mark.parametrize("failure", ["1 / 0", "gate.wait(10)"])
    def test_a_handler_that_fails_hurts_nobody(self, serve, failure):
        """DIS-07"""
        probe = serve(
            f"""
            @app.on_ws_message()
            def message(event):
                send(event.connection_id, event.body)

            @app.on_ws_disconnect()
            def disconnect(event):
                events.put(event.to_dict())
                {failure}
            """,
            limits=Limits(integration_seconds=0.1),
        )
        alice, bob = probe.joins(), probe.joins()
        alice.socket.close()
        probe.event()
        time.sleep(0.15)
        bob.sends("x")
        assert bob.receives() == "x"
        bob.socket.close()
        assert probe.event()["requestContext"]["eventType"] == "DISCONNECT"
        probe.app.gate.set()

    def test_a_project_without_a_handler_needs_none(self, serve):
        probe = serve("""
        @app.on_ws_connect()
        def connect(event):
            events.put(event.to_dict())
        """)
        probe.joins().socket.close()
        probe.event()
        probe.joins()
        probe.event()
