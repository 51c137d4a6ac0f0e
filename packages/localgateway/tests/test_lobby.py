"""How many clients there is room for, and how long one that says nothing may stay."""

import resource
import socket
import time

import pytest
from websockets.exceptions import InvalidStatus

from gatewaykit import ECHO, NEVER_USED, SIGNED, handshake, is_alive, read_response, read_to_end
from localgateway import Limits
from localgateway.front.lobby import RESERVED_FILES

CALL = f"GET /api/@connections/{NEVER_USED} HTTP/1.1\r\nHost: localhost\r\n{SIGNED}\r\n\r\n".encode()


class TestSilence:
    @pytest.mark.parametrize(
        "data", [b"", b"GET /api HTTP/1.1\r\nHost: loc", CALL[:-2] + b"Content-Length: 9\r\n\r\nx"]
    )
    def test_an_unfinished_request_is_disconnected(self, serve, data):
        probe = serve(ECHO, limits=Limits(http_seconds=0.2))
        assert read_to_end(probe.raw(data)) == b""

    def test_a_request_that_trickles_in_is_disconnected(self, serve):
        connection = serve(ECHO, limits=Limits(http_seconds=0.2)).raw()

        def drip():
            for byte in CALL:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)

        with pytest.raises(ConnectionError):
            drip()

    @pytest.mark.slow
    def test_each_request_gives_new_time(self, serve):
        connection = serve(ECHO, limits=Limits(http_seconds=1)).raw()
        for _ in range(5):
            time.sleep(0.3)
            connection.sendall(CALL)
            assert read_response(connection)[0] == 410
        assert read_to_end(connection) == b""

    @pytest.mark.slow
    def test_a_handshake_may_take_as_long_as_its_function(self, serve):
        probe = serve(
            """
            @app.on_ws_connect()
            def connect(event):
                time.sleep(1)
            """,
            limits=Limits(http_seconds=0.4),
        )
        assert read_response(probe.raw(handshake()))[0] == 101

    @pytest.mark.slow
    def test_a_websocket_may_be_silent_for_longer(self, serve):
        alice = serve(ECHO, limits=Limits(http_seconds=0.4)).joins()
        time.sleep(1)
        alice.sends("still here")
        assert alice.receives() == "still here"

    @pytest.mark.slow
    def test_a_client_that_does_not_read_answers_is_disconnected(self, serve):
        probe = serve(ECHO, limits=Limits(http_seconds=1, write_buffer_bytes=10_000))
        connection = probe.raw()
        # A busy machine takes long to answer what its buffers hold, before there is nothing more it can do.
        connection.settimeout(60)
        with pytest.raises(ConnectionError):
            connection.sendall(CALL * 200_000)
        assert is_alive(probe)


class TestRoom:
    def test_many_silent_connections_push_out_only_their_kind(self, serve):
        probe = serve(ECHO, limits=Limits(http_connections=20))
        alice = probe.joins()
        silent = [probe.raw() for _ in range(60)]
        assert read_response(probe.raw(CALL))[0] == 410
        assert is_alive(probe)
        alice.sends("untouched")
        assert alice.receives() == "untouched"
        assert read_to_end(silent[0]) == b""
        assert sum(is_open(connection) for connection in silent) < 20

    def test_handshakes_beyond_the_bound_are_refused_until_one_closes(self, serve):
        probe = serve(ECHO, limits=Limits(open_sockets=2))
        alice, _bob = probe.joins(), probe.joins()
        with pytest.raises(InvalidStatus) as refused:
            probe.joins()
        assert refused.value.response.status_code == 429
        alice.socket.close()
        assert is_alive(probe)

    def test_handshakes_on_their_way_count(self, serve):
        probe = serve(
            """
            @app.on_ws_connect()
            def connect(event):
                gate.wait(10)
            """,
            limits=Limits(open_sockets=1),
        )
        waiting = probe.raw(handshake())
        assert read_response(probe.raw(handshake()))[0] == 429
        probe.app.gate.set()
        assert read_response(waiting)[0] == 101

    def test_fewer_fit_where_the_process_may_open_fewer_files(self, serve):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = RESERVED_FILES + 20 + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
        try:
            probe = serve(ECHO, limits=Limits(http_connections=20))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert read_response(probe.raw(handshake()))[0] == 101
        assert read_response(probe.raw(handshake()))[0] == 429


def is_open(connection: socket.socket) -> bool:
    """Tell whether the other side has not closed yet."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
