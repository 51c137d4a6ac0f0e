"""The REST routes beside the sockets, and the log of both."""

import logging
import socket
import sys
import time
import urllib.error
from urllib.parse import urlsplit

import pytest

from gatewaykit import RECORDING, ROWS_ROUTES, ask, write_project
from localgateway import LocalGateway


class TestRest:
    def test_routes_are_served_beside_the_sockets(self, serve):
        gateway = serve(
            """
            @app.route("/hello/{name}")
            def hello(name):
                return {"hello": name}
            """
        ).gateway
        assert ask(f"{gateway.rest_url}/hello/you") == {"hello": "you"}

    @pytest.mark.parametrize(
        ("host", "status"), [("localhost", 200), ("tunnel.test", 200), ("evil.example", 403), ("", 403)]
    )
    def test_routes_are_served_under_names_of_this_machine_only(self, serve, host, status):
        gateway = serve('@app.route("/")\ndef index():\n    return {}\n', allow_hosts=["tunnel.test"]).gateway
        port = urlsplit(gateway.rest_url).port
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = client.makefile("rb").read()
        assert int(answer.split()[1]) == status

    def test_a_rest_handler_can_send_to_a_socket(self, serve):
        probe = serve(
            RECORDING
            + """
@app.route("/push/{connection_id}", methods=["POST"])
def push(connection_id):
    send(connection_id, app.current_request.raw_body.decode())
    return {}
"""
        )
        alice = probe.joins()
        ask(f"{probe.gateway.rest_url}/push/{probe.connection_id()}", b"from REST")
        assert alice.receives() == "from REST"

    def test_requests_are_logged_without_what_they_say(self, serve, caplog):
        gateway = serve(ROWS_ROUTES).gateway
        with caplog.at_level(logging.INFO, "localgateway"):
            with pytest.raises(urllib.error.HTTPError):
                ask(f"{gateway.rest_url}/broken?token=secret")
            with socket.create_connection(("127.0.0.1", urlsplit(gateway.rest_url).port), timeout=10) as connection:
                connection.sendall(b"GET /\x1b[31m HTTP/1.1\r\n\r\n")
                connection.recv(1000)
            with socket.create_connection(("127.0.0.1", urlsplit(gateway.rest_url).port), timeout=10) as connection:
                connection.sendall(b"nonsense\r\n\r\n")
                connection.recv(1000)
        lines = [record.getMessage() for record in caplog.records if record.name == "localgateway.front.rest"]
        assert [line.rsplit(" ", 2)[0] for line in lines] == ["GET /broken 500", r"GET /\x1b[31m 403", "None - 400"]

    def test_a_slow_route_does_not_hold_up_the_end(self, tmp_path):
        source = '@app.route("/slow")\ndef slow():\n    events.put(gate.wait(30))\n    return {}\n'
        with LocalGateway(write_project(tmp_path / "p", source)) as gateway:
            app = sys.modules["app"]
            address = ("127.0.0.1", urlsplit(gateway.rest_url).port)
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
                time.sleep(0.1)
                gateway.stop()
        assert app.events.empty()
        app.gate.set()


class TestTheLog:
    def test_each_invocation_has_a_line_without_what_the_client_sent(self, serve, caplog):
        probe = serve("""
        @app.on_ws_connect()
        def connect(event):
            events.put(event.to_dict())

        @app.on_ws_message()
        def message(event):
            if event.body == "bad":
                raise ValueError("why")
            send(event.connection_id, event.body)

        @app.on_ws_disconnect()
        def disconnect(event):
            events.put(event.to_dict())
        """)
        with caplog.at_level(logging.INFO, "localgateway"):
            client = probe.joins("?token=secret", additional_headers={"X-Secret": "secret"})
            connection_id = probe.connection_id()
            client.sends("secret")
            client.receives()
            client.sends("bad")
            client.receives()
            client.socket.close()
            probe.event()
            probe.gateway.stop()
        lines = [record.getMessage() for record in caplog.records if record.name == "localgateway.api.api"]
        # Two handlers of one client may end in either order.
        assert sorted(line.rsplit(" ", 2)[0] for line in lines) == [
            f"$connect connect {connection_id} 200",
            f"$default message {connection_id} 200",
            f"$default message {connection_id} error",
            f"$disconnect disconnect {connection_id} 200",
        ]
        assert all(line.endswith(" ms") for line in lines)
        assert "secret" not in caplog.text
        assert "ValueError: why" in caplog.text
