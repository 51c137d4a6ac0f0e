"""Whatever comes over the wire, the gateway survives, logs no error, and another client is served as before.

That client stays connected all the time: what others send must not cost it a frame.
"""

import contextlib
import logging
import socket
import struct
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection, connect

from gatewaykit import NEVER_USED, PRELUDE, SECONDS, SIGNED, handshake, read_response, write_project
from localgateway import Limits, LocalGateway

pytestmark = pytest.mark.slow
QUIET_ECHO = """
from chalice.app import WebsocketDisconnectedError

@app.on_ws_message()
def message(event):
    try:
        send(event.connection_id, event.body)
    except WebsocketDisconnectedError:
        pass
"""

# Small limits are met sooner.
LIMITS = Limits(
    frame_bytes=1_000, message_bytes=2_000, fragments_per_message=20, header_count=20, close_seconds=0.5, http_seconds=5
)


class Fuzzed:
    """A gateway under fire, its bystander, and the errors it should not make."""

    def __init__(self, address: tuple[str, int], bystander: ClientConnection, errors: list[str]) -> None:
        self._address = address
        self._bystander = bystander
        self._errors = errors
        self._count = 0

    def dial(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=SECONDS)

    def is_well(self) -> bool:
        self._count += 1
        self._bystander.send(f"echo {self._count}")
        answer = self._bystander.recv(timeout=SECONDS)
        errors = list(self._errors)
        self._errors.clear()
        return answer == f"echo {self._count}" and not errors


class Errors(logging.Handler):
    """Keeps what is logged from ERROR on: by asyncio, about uncaught exceptions, and by the gateway."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # A handler of an earlier test's gateway may still fail in its thread; this project's is called `message`.
        if record.name != "localgateway.runtime.code" or record.args == ("message",):
            self.lines.append(self.format(record))


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    project = write_project(tmp_path_factory.mktemp("fuzz") / "project", QUIET_ECHO, prelude=PRELUDE)
    errors = Errors()
    logging.getLogger().addHandler(errors)
    with (
        LocalGateway(project, limits=LIMITS) as gateway,
        connect(gateway.url, open_timeout=SECONDS, ping_interval=None) as bystander,
    ):
        host, port = gateway.url.split("/")[2].split(":")
        yield Fuzzed((host, int(port)), bystander, errors.lines)
    logging.getLogger().removeHandler(errors)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut data into pieces at these places, as far as there are such."""
    edges = [0, *sorted({place for place in places if place < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def leave(connection: socket.socket, how: str) -> None:
    """End a connection: politely, at once, with a reset, or by saying no more and reading to the end."""
    with connection, contextlib.suppress(OSError):
        match how:
            case "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case "half":
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass


ENDS = st.sampled_from(["close", "reset", "half"])
CUTS = st.lists(st.integers(1, 2_000), max_size=4)

# HTTP: requests that are nearly right, and noise.

TOKENS = st.sampled_from(
    ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PRI", "CONNECT", "get", "", "G E T", "\x00", "\xff", "POST" * 300]
)
TARGETS = st.sampled_from(
    [
        "/api",
        "/api/",
        "/api?x=%zz&%",
        f"/api/@connections/{NEVER_USED}",
        "/api/%40connections/%3D",
        "/api/@connections/%ff%00",
        "//api/@connections/x",
        "*",
        "http://x/api",
        "/" * 5_000,
        "",
        "/\xe9",
    ]
)
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1 ", "HTTP/9", "", "http/1.1"])
HEADERS = st.sampled_from(
    [
        "Host: localhost",
        "Host: [::1",
        "Host: \x7f",
        SIGNED,
        "Connection: Upgrade",
        "Connection: close, upgrade",
        "Upgrade: websocket",
        "Upgrade: h2c",
        "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-WebSocket-Key: \xff",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Version: 99999999999999999999",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8",
        "Sec-WebSocket-Extensions: permessage-deflate;;=",
        "Sec-WebSocket-Protocol: a, b",
        "Content-Length: 3",
        "Content-Length: -3",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Expect: 100-continue",
        "Origin: null",
        ": empty",
        " folded",
        "no colon",
        "X-Long: " + "x" * 11_000,
    ]
)
BODIES = st.sampled_from(
    [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"0;x=y\r\nA: b\r\n\r\n", b"x" * 5_000]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    lines = [" ".join([draw(TOKENS), draw(TARGETS), draw(VERSIONS)]), *draw(st.lists(HEADERS, max_size=10)), "", ""]
    return draw(st.sampled_from(["\r\n", "\r\n", "\n"])).join(lines).encode("latin-1") + draw(BODIES)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    data = bytearray(handshake("/api", SIGNED))
    for place, byte in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=5)):
        data[place] = byte
    return bytes(data)


# Frames: right ones, wrong ones, and lengths that promise what does not come.


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    payload = draw(st.one_of(st.binary(max_size=130), st.text(max_size=40).map(str.encode), st.just(b"x" * 1_100)))
    opcode = draw(st.sampled_from([0, 0, 1, 1, 1, 2, 8, 9, 10, 3, 15]))
    first = draw(st.sampled_from([0x80, 0x80, 0x80, 0, 0, 0xC0, 0x40, 0xB0])) | opcode
    length = draw(st.sampled_from([len(payload), len(payload), len(payload), 2**31, 2**63 - 1, 2**64 - 1]))
    masked = draw(st.sampled_from([0x80, 0x80, 0x80, 0]))
    mask = bytes(4) if masked else b""
    if length < 126:
        return bytes([first, masked | length]) + mask + payload
    if length < 65_536:
        return struct.pack("!BBH", first, masked | 126, length) + mask + payload
    return struct.pack("!BBQ", first, masked | 127, length) + mask + payload


CLOSES = st.builds(
    lambda code, reason: bytes([0x88, 0x80 | (2 + len(reason)), 0, 0, 0, 0]) + struct.pack("!H", code) + reason,
    st.one_of(st.sampled_from([1000, 1001, 1005, 1006, 1015, 4000]), st.integers(0, 65_535)),
    st.binary(max_size=20),
)
DEFLATES = st.sampled_from([(), ("Sec-WebSocket-Extensions: permessage-deflate",)])

# A module's fixture is meant to be the same for all examples.
fuzzing = settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class TestAnyInput:
    @fuzzing
    @given(st.one_of(st.binary(max_size=300), mutations(), st.lists(requests(), max_size=3).map(b"".join)), CUTS, ENDS)
    def test_in_place_of_http(self, fuzzed, data, cuts, end):
        connection = fuzzed.dial()
        with contextlib.suppress(ConnectionError):
            for piece in cut(data, cuts):
                connection.sendall(piece)
        leave(connection, end)
        assert fuzzed.is_well()

    @fuzzing
    @given(st.lists(st.one_of(frames(), CLOSES), max_size=8), st.binary(max_size=20), DEFLATES, CUTS, ENDS)
    def test_in_place_of_frames(self, fuzzed, sequence, noise, extensions, cuts, end):
        connection = fuzzed.dial()
        connection.sendall(handshake("/api", *extensions))
        assert read_response(connection)[0] == 101
        with contextlib.suppress(ConnectionError):
            for piece in cut(b"".join(sequence) + noise, cuts):
                connection.sendall(piece)
        leave(connection, end)
        assert fuzzed.is_well()

    @fuzzing
    @given(st.lists(frames(), max_size=4).map(b"".join), st.binary(max_size=20), ENDS)
    def test_ahead_of_the_answer_to_a_handshake(self, fuzzed, early, noise, end):
        connection = fuzzed.dial()
        with contextlib.suppress(ConnectionError):
            connection.sendall(handshake() + early + noise)
        leave(connection, end)
        assert fuzzed.is_well()
