"""What one client cannot do to the others, or to the gateway."""

import contextlib
import logging
import random
import struct
import time
import zlib

import pytest

from gatewaykit import ECHO, frame, handshake, is_alive, read_response
from localgateway import Limits

COUNTING = """
running, most = [], []

@app.on_ws_message()
def message(event):
    if event.body == "count":
        send(event.connection_id, str(max(most, default=0)))
        return
    running.append(1)
    most.append(len(running))
    gate.wait(10)
    running.pop()
    events.put(event.body)
"""


class TestFloods:
    def test_messages_in_flight_of_one_client_are_bounded(self, serve):
        probe = serve(COUNTING, limits=Limits(in_flight_per_client=3))
        flooder = probe.joins()
        flooder.sends(*[str(number) for number in range(20)])
        other = probe.joins()
        time.sleep(0.2)
        other.sends("count")
        assert other.receives() == "3"
        probe.app.gate.set()
        assert {probe.app.events.get(timeout=10) for _ in range(20)} == {str(number) for number in range(20)}

    def test_handlers_that_run_at_the_same_time_are_bounded(self, serve):
        probe = serve(COUNTING, limits=Limits(in_flight_per_client=4, concurrent_invocations=5))
        for _ in range(3):
            probe.joins().sends(*"abcd")
        time.sleep(0.2)
        assert max(probe.app.most) == 5
        probe.app.gate.set()
        for _ in range(12):
            probe.app.events.get(timeout=10)
        assert max(probe.app.most) == 5

    @pytest.mark.slow
    def test_a_client_that_sends_and_never_reads_is_not_read_either(self, serve):
        probe = serve(ECHO, limits=Limits(write_buffer_bytes=50_000))
        flooder = probe.raw(handshake())
        read_response(flooder)
        flooder.settimeout(0.5)
        # Each ping makes a pong that nobody reads; a hundred megabytes are more than any socket's buffer.
        with pytest.raises(TimeoutError):
            flooder.sendall(frame(9, b"x" * 125) * 800_000)
        assert is_alive(probe)

    @pytest.mark.slow
    def test_a_flood_of_tiny_messages_is_handled_to_the_last(self, serve):
        probe = serve(
            """
            @app.on_ws_message()
            def message(event):
                events.put(event.body)
            """
        )
        flooder = probe.raw(handshake())
        read_response(flooder)
        flooder.sendall(frame(1, b"x") * 2_000)
        for _ in range(2_000):
            probe.app.events.get(timeout=10)
        assert probe.has_no_event_within(0.05)


@pytest.mark.slow
class TestNoInputEndsTheGateway:
    @pytest.mark.parametrize("seed", range(4))
    def test_noise_in_place_of_http(self, serve, seed):
        noise = random.Random(seed)
        probe = serve(ECHO, limits=Limits(close_seconds=0.05))
        for _ in range(50):
            data = bytearray(handshake("/api", "X-A: b"))
            for _ in range(noise.randrange(1, 8)):
                data[noise.randrange(len(data))] = noise.randrange(256)
            connection = probe.raw()
            with contextlib.suppress(ConnectionError):
                connection.sendall(bytes(data) + noise.randbytes(noise.randrange(50)))
            connection.close()
        assert is_alive(probe)

    @pytest.mark.parametrize("seed", range(4))
    def test_noise_in_place_of_frames(self, serve, seed, caplog):
        noise = random.Random(seed)
        probe = serve(ECHO, limits=Limits(close_seconds=0.05))
        for _ in range(50):
            connection = probe.raw(handshake("/api", "Sec-WebSocket-Extensions: permessage-deflate"))
            frames = b"".join(
                bytes([noise.choice([0x80, 0, 0xC0, 0x40]) | noise.choice([0, 1, 1, 2, 8, 9, 10, noise.randrange(16)])])
                + bytes([0x80 | 20])
                + noise.randbytes(24)
                for _ in range(5)
            )
            with contextlib.suppress(ConnectionError):
                connection.sendall(frames + noise.randbytes(noise.randrange(50)))
            connection.close()
        with caplog.at_level(logging.ERROR):
            assert is_alive(probe)
        assert not [record for record in caplog.records if record.name == "asyncio"]

    def test_a_compressed_message_that_would_fill_the_memory(self, serve):
        probe = serve(ECHO)
        connection = probe.raw(handshake("/api", "Sec-WebSocket-Extensions: permessage-deflate"))
        read_response(connection)
        deflate = zlib.compressobj(9, wbits=-15)
        bomb = deflate.compress(bytes(20_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
        connection.sendall(bytes([0xC1, 0x80 | 126]) + struct.pack("!H", len(bomb)) + bytes(4) + bomb)
        answer = connection.recv(1000)
        assert (answer[0], int.from_bytes(answer[2:4])) == (0x88, 1009)
        assert is_alive(probe)
