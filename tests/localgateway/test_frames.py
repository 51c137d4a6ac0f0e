"""Frames: how large they may be, which are not taken, and what the socket is closed with then."""

from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from localgateway import Limits
from tests.localgateway.kit import ECHO, RECORDING, frame, handshake, read_response


class TestSizes:
    def test_a_frame_of_32_kilobytes_passes(self, serve):
        client = serve(ECHO).joins()
        client.sends("x" * 32_768)
        assert client.receives() == "x" * 32_768

    @pytest.mark.parametrize("compression", [None, "deflate"])
    def test_a_longer_frame_closes_the_socket(self, serve, compression):
        """MSG-09"""
        probe = serve(RECORDING)
        client = probe.joins(compression=compression)
        client.sends("x" * 32_769)
        assert client.is_closed_with()[0] == 1009
        probe.event()
        assert probe.event()["requestContext"]["disconnectStatusCode"] == 1009

    def test_a_longer_message_in_short_frames_arrives_whole_and_once(self, serve):
        """MSG-10"""
        probe = serve(RECORDING)
        client = probe.joins()
        probe.event()
        parts = [letter * 25_600 for letter in "abcd"]
        client.socket.send(parts)
        assert probe.event()["body"] == "".join(parts)
        client.sends("next")
        assert probe.event()["body"] == "next"

    @pytest.mark.parametrize("compression", [None, "deflate"])
    def test_128_kilobytes_pass_and_one_byte_more_closes_the_socket_without_an_event(self, serve, compression):
        """MSG-11"""
        probe = serve(RECORDING)
        client = probe.joins(compression=compression)
        probe.event()
        client.socket.send(["x" * 32_768] * 4)
        assert len(probe.event()["body"]) == 131_072
        # The close may come before the sender is done.
        with suppress(ConnectionClosed):
            client.socket.send(["x" * 32_768] * 4 + ["x"])
        assert client.is_closed_with()[0] == 1009
        assert probe.event()["requestContext"]["eventType"] == "DISCONNECT"

    def test_a_compressed_echo_survives(self, serve):
        """CONN-18"""
        client = serve(ECHO).joins()
        assert "permessage-deflate" in client.socket.response.headers["Sec-WebSocket-Extensions"]
        for text in ("abc" * 10_000, "x", "", "abc" * 10_000):
            client.sends(text)
            assert client.receives() == text

    def test_compression_can_be_declined(self, serve):
        client = serve(ECHO).joins(compression=None)
        assert "Sec-WebSocket-Extensions" not in client.socket.response.headers
        client.sends("x")
        assert client.receives() == "x"


class TestWhatIsNotTaken:
    def test_a_binary_frame_closes_the_socket_without_an_event(self, serve):
        """MSG-12"""
        probe = serve(RECORDING)
        client = probe.joins()
        probe.event()
        client.socket.send(b"binary")
        assert client.is_closed_with() == (1003, "")
        context = probe.event()["requestContext"]
        assert (context["eventType"], context["disconnectStatusCode"]) == ("DISCONNECT", 1003)

    def test_nothing_after_a_binary_frame_counts(self, serve):
        """MSG-12"""
        probe = serve(RECORDING)
        connection = probe.raw(handshake())
        read_response(connection)
        probe.event()
        connection.sendall(frame(2, b"binary") + frame(1, b"text") + frame(1, b"text"))
        assert probe.event()["requestContext"]["eventType"] == "DISCONNECT"
        assert probe.has_no_event_within(0.05)

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
