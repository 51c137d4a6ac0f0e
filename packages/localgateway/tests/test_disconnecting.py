"""$disconnect: when it comes, what it says, and what it cannot break."""

import threading
import time
from contextlib import suppress

from websockets.exceptions import ConnectionClosed

from gatewaykit import RECORDING, frame, handshake, how_it_ended, read_response
from localgateway import Limits


class TestClosesOfTheClient:
    def test_a_message_before_the_close_is_still_handled(self, serve):
        probe = serve(RECORDING)
        connection = probe.raw(handshake() + frame(1, b"last words") + frame(8, b"\x03\xe8"))
        probe.event()
        events = {probe.event()["requestContext"]["eventType"] for _ in range(2)}
        assert events == {"MESSAGE", "DISCONNECT"}
        connection.close()


class TestClosesOfTheGateway:
    def test_pings_do_not(self, serve):
        probe = serve(RECORDING, limits=Limits(idle_seconds=0.3))
        client = probe.joins()
        with suppress(ConnectionClosed):
            for _ in range(10):
                client.socket.ping()
                time.sleep(0.05)
        assert client.is_closed_with() == (1001, "Going away")

    def test_stopping_closes_every_connection_and_runs_every_handler(self, serve):
        probe = serve(RECORDING)
        clients = [probe.joins() for _ in range(5)]
        app = probe.app
        for _ in clients:
            probe.event()
        probe.gateway.stop()
        assert [client.is_closed_with() for client in clients] == [(1001, "Going away")] * 5
        endings = [how_it_ended(app.events.get(timeout=10)) for _ in clients]
        assert endings == [("DISCONNECT", 1001, "Going away")] * 5

    def test_while_it_stops_handshakes_are_refused_and_handlers_still_send(self, serve):
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
