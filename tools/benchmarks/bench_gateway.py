"""Measure the local gateway and serverless-offline side by side: start-up, idle sockets, @connections.

    python tools/benchmarks/bench_gateway.py

Rounds alternate between the two, so that other work on the machine affects both; medians and ratios count.
Without Node.js, or without npm's registry, the gateway is measured alone. Linux only: memory and CPU time are /proc's.
"""

import argparse
import asyncio
import base64
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

REPOSITORY = Path(__file__).parents[2]
NPM_PACKAGES = ["serverless@3.40.0", "serverless-offline@13.10.1"]
SECONDS = 60

# Both projects accept every connection and answer a message with the connection's id.
APP = """
import boto3
from chalice import Chalice

app = Chalice(app_name="bench")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = boto3.session.Session()

@app.on_ws_connect()
def connect(event):
    pass

@app.on_ws_message()
def message(event):
    app.websocket_api.send(event.connection_id, event.connection_id)
"""
SERVERLESS = """
service: bench
frameworkVersion: "3"
provider: {name: aws, runtime: nodejs20.x}
plugins: [serverless-offline]
functions:
  connect:
    handler: handler.answer
    events: [websocket: $connect]
  message:
    handler: handler.answer
    events: [websocket: {route: $default, routeResponseSelectionExpression: $default}]
"""
HANDLER = """
exports.answer = async (event) => ({ statusCode: 200, body: event.requestContext.connectionId });
"""


@dataclass
class Server:
    """One gateway to measure: how to start it, and its stage's part of URLs."""

    name: str
    command: list[str]
    directory: Path
    stage: str
    port: int

    @contextmanager
    def running(self) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
        """Run it; yield the process and the seconds until the first client was connected."""
        started_at = time.perf_counter()
        process = subprocess.Popen(
            self.command,
            cwd=self.directory,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "SLS_NOTIFICATIONS_MODE": "off",
                "SLS_TELEMETRY_DISABLED": "1",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while not self.answers():
                if process.poll() is not None or time.perf_counter() - started_at > SECONDS:
                    raise SystemExit(f"{self.name} does not start: {' '.join(self.command)} in {self.directory}")
                time.sleep(0.005)
            yield process, time.perf_counter() - started_at
        finally:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            # Also what it has started and not ended itself.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def handshake(self) -> bytes:
        # serverless-offline treats connections with the same key as one.
        key = base64.b64encode(os.urandom(16)).decode()
        return (
            f"GET {self.stage or '/'} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()

    def post(self, connection_id: str, body: bytes) -> bytes:
        return (
            f"POST {self.stage}/@connections/{quote(connection_id)} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: AWS4-HMAC-SHA256 x\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(self.handshake())
                return connection.recv(12) == b"HTTP/1.1 101"
        except OSError:
            return False


class Socket(asyncio.Protocol):
    """A WebSocket client that costs next to nothing: it counts bytes of frames and keeps the last ones."""

    def __init__(self, handshake: bytes, count: Callable[[int], None]) -> None:
        self._handshake, self._count = handshake, count
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            self.received = data
            self._count(len(data))
        elif data.startswith(b"HTTP/1.1 101"):
            self.opened.set_result(None)
        else:
            self.opened.set_exception(RuntimeError(data[:100].decode(errors="replace")))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError("closed"))


class Poster(asyncio.Protocol):
    """An HTTP connection that sends the next POST as soon as the one before it is answered."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self.answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def start(self) -> None:
        self.transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 2"):
            self.answered += 1
            self.transport.write(next(self._requests))


async def connect(server: Server, count: int, heard: Callable[[int], None]) -> list[Socket]:
    """Open WebSockets, a hundred at a time."""
    loop = asyncio.get_running_loop()
    sockets: list[Socket] = []
    while len(sockets) < count:
        some = [
            loop.create_connection(lambda: Socket(server.handshake(), heard), "127.0.0.1", server.port)
            for _ in range(min(100, count - len(sockets)))
        ]
        opened = [protocol for _, protocol in await asyncio.gather(*some)]
        await asyncio.wait_for(asyncio.gather(*(protocol.opened for protocol in opened)), SECONDS)
        sockets += opened
    return sockets


async def bytes_per_socket(server: Server, pid: int, count: int) -> float:
    """Return what an idle socket adds to the process's memory."""
    warm = await connect(server, 50, lambda size: None)
    before = resident_bytes(pid)
    sockets = await connect(server, count, lambda size: None)
    await asyncio.sleep(1)
    after = resident_bytes(pid)
    for idle in warm + sockets:
        idle.transport.abort()
    return (after - before) / count


async def post_rate(server: Server, pid: int, seconds: float) -> tuple[float, float]:
    """Return frames a second that reach 50 sockets through 16 HTTP connections, and the server's CPU us for each."""
    size = 0

    def heard(received: int) -> None:
        nonlocal size
        size += received

    sockets = await connect(server, 50, heard)
    for client in sockets:
        client.transport.write(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"{}")
        while not client.received:
            await asyncio.sleep(0.001)
    body = b"x" * 64
    requests = [server.post(client.received[2:].decode(), body) for client in sockets]
    loop = asyncio.get_running_loop()
    posters = [
        (await loop.create_connection(lambda offset=number: Poster(turn(requests, offset)), "127.0.0.1", server.port))[
            1
        ]
        for number in range(16)
    ]
    for poster in posters:
        poster.start()
    # A short run first, to warm both sides up.
    await asyncio.sleep(0.5)
    size, cpu_before, started_at = 0, cpu_seconds(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    frames, cpu, elapsed = size / (2 + len(body)), cpu_seconds(pid) - cpu_before, time.perf_counter() - started_at
    for client in [*sockets, *posters]:
        client.transport.abort()
    await asyncio.sleep(0.2)
    return frames / elapsed, cpu / frames * 1e6


def turn(requests: Sequence[bytes], offset: int) -> Iterator[bytes]:
    """Yield the items in turns for ever, starting at an offset."""
    while True:
        yield requests[offset % len(requests)]
        offset += 1


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def find_servers(directory: Path) -> list[Server]:
    """Write the projects and return the gateways that can be measured here."""
    project = directory / "chalice"
    (project / ".chalice").mkdir(parents=True)
    (project / ".chalice" / "config.json").write_text(
        '{"version": "2.0", "app_name": "bench", "stages": {"local": {}}}'
    )
    (project / "app.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-m", "localgateway", "--port", str(port)]
    servers = [Server("localgateway", command, project, "/api", port)]
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        print("serverless-offline is skipped: there is no Node.js.")
        return servers
    project = directory / "serverless"
    project.mkdir()
    (project / "serverless.yml").write_text(SERVERLESS)
    (project / "handler.js").write_text(HANDLER)
    try:
        subprocess.run([npm, "install", "--silent", "--prefix", project, *NPM_PACKAGES], check=True)
    except subprocess.CalledProcessError:
        print("serverless-offline is skipped: npm cannot install it.")
        return servers
    port = free_port()
    command = [node, str(project / "node_modules" / "serverless" / "bin" / "serverless.js"), "offline"]
    command += ["--host", "127.0.0.1", "--websocketPort", str(port)]
    command += ["--httpPort", str(free_port()), "--lambdaPort", str(free_port())]
    return [*servers, Server("serverless-offline", command, project, "", port)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def measure(servers: Sequence[Server], rounds: int, idle: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Return every round's figures: metric, server, values."""
    figures: dict[str, dict[str, list[float]]] = {}

    def note(metric: str, server: Server, value: float) -> None:
        figures.setdefault(metric, {}).setdefault(server.name, []).append(value)
        print(f"{server.name}: {metric} {value:,.2f}", file=sys.stderr)

    for _ in range(rounds):
        for server in servers:
            with server.running() as (process, start_seconds):
                note("start-up, s", server, start_seconds)
                time.sleep(1)
                note("memory at rest, MB", server, resident_bytes(process.pid) / 1e6)
                if server is servers[0]:
                    # In Node.js this would measure the garbage of 10,000 runs of $connect.
                    idle_bytes = asyncio.run(bytes_per_socket(server, process.pid, idle))
                    note(f"memory of one of {idle:,} idle sockets, KB", server, idle_bytes / 1e3)
    with ExitStack() as stack:
        running = [(server, stack.enter_context(server.running())[0]) for server in servers]
        for _ in range(rounds):
            for server, process in running:
                rate, cpu = asyncio.run(post_rate(server, process.pid, seconds))
                note("@connections POST to frame, 1/s", server, rate)
                note("CPU of such a POST, us", server, cpu)
    return figures


def report(figures: dict[str, dict[str, list[float]]]) -> str:
    """Write the medians as a table, with the ratio if there are two servers."""
    names = list(next(iter(figures.values())))
    lines = ["| median | " + " | ".join(names) + " | ratio |", "|---|" + "---|" * (len(names) + 1)]
    for metric, values in figures.items():
        medians = [statistics.median(values[name]) for name in names if name in values]
        ratio = f"{medians[0] / medians[1]:.2f}" if len(medians) == 2 else ""
        cells = [f"{median:,.2f}" for median in medians] + [""] * (len(names) - len(medians))
        lines.append(f"| {metric} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=int, default=10_000, help="idle sockets (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="of one round of POSTs (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write every round's figures here")
    options = parser.parse_args()
    # Terminating it must end the servers too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    with TemporaryDirectory(prefix="bench-") as directory:
        figures = measure(find_servers(Path(directory)), options.rounds, options.idle, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}\n\n{report(figures)}"
    )


if __name__ == "__main__":
    main()
