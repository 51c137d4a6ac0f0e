"""Frames: how large they may be, which are not taken, and what the socket is closed with then."""

from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from gatewaykit import ECHO, RECORDING, frame, handshake, read_response
from localgateway import Limits


class TestSizes:
    def test_a_frame_of_32_kilobytes_passes(self, serve):
        client = serve(ECHO).joins()
        client.sends("x" * 32_768)
        assert client.receives() == "x" * 32_768

    def test_compression_can_be_declined(self, serve):
        client = serve(ECHO).joins(compression=None)
        assert "Sec-WebSocket-Extensions" not in client.socket.response.headers
        client.sends("x")
        assert client.receives() == "x"


class TestWhatIsNotTaken:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(1, b"\xff"), 1007),
            (frame(1, b"\xc3", fin=False) + frame(0, b"\x28"), 1007),
            (frame(0, b"continues nothing"), 1002),
            (frame(1, b"one", fin=False) + frame(1, b"two"), 1002),
            (frame(3, b"reserved opcode"), 1002),
            (b"\xf1\x80\x00\x00\x00\x00", 1002),
            (b"\x81\x01x", 1002),
            (frame(8, b"\x03\xee"), 1002),
            (frame(8, b"\x03\xe8\xff"), 1007),
            (frame(9, b"x", fin=False), 1002),
        ],
        ids=[
            "not UTF-8",
            "not UTF-8 in two frames",
            "continuation of nothing",
            "two beginnings",
            "opcode",
            "reserved bits",
            "not masked",
            "close code",
            "close reason",
            "ping in pieces",
        ],
    )
    def test_what_is_no_websocket_traffic_closes_the_socket(self, serve, data, code):
        probe = serve(RECORDING)
        connection = probe.raw(handshake())
        read_response(connection)
        probe.event()
        connection.sendall(data)
        answer = connection.recv(1000)
        assert (answer[0], int.from_bytes(answer[2:4])) == (0x88, code)
        assert probe.event()["requestContext"]["eventType"] == "DISCONNECT"

    def test_a_character_may_be_split_between_frames(self, serve):
        probe = serve(RECORDING)
        connection = probe.raw(handshake() + frame(1, b"\xc3", fin=False) + frame(0, b"\xbc"))
        probe.event()
        assert probe.event()["body"] == "ü"
        connection.close()

    def test_a_message_in_too_many_fragments_closes_the_socket(self, serve):
        probe = serve(RECORDING, limits=Limits(fragments_per_message=3))
        client = probe.joins()
        probe.event()
        # `websockets` ends a message that it sends in pieces with an empty frame.
        client.socket.send(["a", "b"])
        assert probe.event()["body"] == "ab"
        with suppress(ConnectionClosed):
            client.socket.send(["a", "b", "c"])
        assert client.is_closed_with() == (1009, "message in more than 3 frames")
