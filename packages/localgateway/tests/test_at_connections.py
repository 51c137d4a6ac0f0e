"""@connections: what another process can do with a socket, and the errors it gets."""

import pytest

from gatewaykit import NEVER_USED, RECORDING, SIGNED, call, handshake, read_response, read_to_end
from localgateway import Limits


class TestPost:
    def test_an_empty_post_is_an_empty_message(self, serve):
        probe = serve(RECORDING)
        alice = probe.joins()
        probe.management().post_to_connection(ConnectionId=probe.connection_id(), Data=b"")
        assert alice.receives() == ""

    def test_posts_arrive_in_the_order_they_were_made(self, serve):
        probe = serve(RECORDING)
        alice, alice_id = probe.joins(), probe.connection_id()
        management = probe.management()
        for number in range(50):
            management.post_to_connection(ConnectionId=alice_id, Data=str(number))
        assert [alice.receives() for _ in range(50)] == [str(number) for number in range(50)]

    def test_a_long_message_goes_in_frames_of_32_kilobytes(self, serve):
        probe = serve(RECORDING)
        connection = probe.raw(handshake())
        read_response(connection)
        probe.management().post_to_connection(ConnectionId=probe.connection_id(), Data="x" * 70_000)
        received = connection.makefile("rb")
        frames = []
        while not frames or not frames[-1][0] & 0x80:
            first, length = received.read(2)
            size = int.from_bytes(received.read(2)) if length == 126 else length
            frames.append((first, len(received.read(size))))
        received.close()
        assert frames == [(0x01, 32_768), (0x00, 32_768), (0x80, 4_464)]

    def test_what_is_not_utf_8_arrives_with_replacement_characters(self, serve):
        probe = serve(RECORDING)
        alice = probe.joins()
        probe.management().post_to_connection(ConnectionId=probe.connection_id(), Data=b"a\xffb")
        assert alice.receives() == "a�b"


class TestDelete:
    def test_a_client_that_does_not_answer_the_close_is_disconnected(self, serve):
        probe = serve(RECORDING, limits=Limits(close_seconds=0.1))
        connection = probe.raw(handshake())
        read_response(connection)
        probe.management().delete_connection(ConnectionId=probe.connection_id())
        assert connection.recv(100)[:1] == b"\x88"
        assert read_to_end(connection) == b""


class TestRefusals:
    @pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS"])
    def test_other_methods_are_refused(self, serve, method):
        probe = serve(RECORDING)
        assert call(probe, method, f"/api/@connections/{NEVER_USED}", SIGNED)[0] == 403
