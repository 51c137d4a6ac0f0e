"""Close all connections at once and measure how clients reconnect: a reconnect storm on the local gateway.

    python tools/benchmarks/storm.py [--clients 2000] [--channel feed:storm] [--seconds 5]

Clients follow one channel with history as README's does, backoff included, while a server publishes. Then every socket
ends without a close frame, and all clients reconnect and recover. It prints how long that took, how often functions ran
and what the gateway needed, and ends with status 1 unless each client has every publication once and in order.

Handlers run in threads of the gateway and the table is the embedded engine: how fast clients return depends on this
machine. How many invocations each needs, and that none misses anything, depends on Peal.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import IO, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

PORT, REST_PORT = 18_001, 18_000
# As README's client: milliseconds until the next try, doubled up to twenty seconds, of which half is random.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.25, 20.0
# How many connect at a time at first, before the storm.
RAMP = 50
PATIENCE_SECONDS = 300


@dataclass
class Follower:
    """A client that follows the channel; `back_at` is when it received what it had missed."""

    name: str
    channel: str
    position: dict[str, Any] | None = None
    since: int = 0
    got: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    socket: ClientConnection | None = None
    is_in: bool = False
    back_at: float = 0

    async def follow(self) -> None:
        """Reconnect until it is stopped."""
        wait = FIRST_WAIT_SECONDS
        while True:
            with suppress(OSError, WebSocketException, InvalidHandshake, TimeoutError):
                uri = f"ws://127.0.0.1:{PORT}/api?userId={self.name}"
                async with connect(uri, open_timeout=30, ping_interval=None, compression=None) as self.socket:
                    self.counts["connects"] += 1
                    if await self.stay(self.socket):
                        wait = FIRST_WAIT_SECONDS
            self.is_in = False
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
            await asyncio.sleep(wait * (0.5 + random.random()))

    async def stay(self, socket: ClientConnection) -> bool:
        """Read until the socket ends; return whether it was admitted."""
        frame = {"action": "subscribe", "id": 1, "channel": self.channel, "recover": self.position}
        missed: list[Any] = []
        await socket.send(json.dumps(frame))
        with suppress(WebSocketException):
            async for text in socket:
                frame = json.loads(text)
                match frame.get("type"):
                    case "publication":
                        self.take([frame])
                    case "recovery":
                        missed += frame["publications"]
                    case "reply":
                        self.begin(frame["data"], missed)
                    case "error" | None:
                        self.counts["errors"] += 1
                        break
        return self.is_in

    def begin(self, told: dict[str, Any], missed: list[Any]) -> None:
        if told.get("recovered"):
            self.take([*missed, *told["publications"]])
        else:
            self.counts["afresh"] += self.position is not None
            self.position = {"epoch": told["epoch"], "offset": told["offset"]}
            self.since = told["offset"]
        self.is_in, self.back_at = True, time.monotonic()

    def take(self, publications: list[Any]) -> None:
        assert self.position is not None
        for publication in publications:
            if publication["offset"] <= self.position["offset"]:
                self.counts["repeats"] += 1
            else:
                self.position["offset"] = publication["offset"]
                self.got.append(publication["offset"])


@contextmanager
def gateway(log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a local gateway in a process of its own; its log holds the functions' lines."""
    command = [sys.executable, "-m", "localgateway", "--port", str(PORT), "--rest-port", str(REST_PORT)]
    command += ["--in-process", "--env", "LOG_FORMAT=json"]
    project = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=project, stdout=log, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until and process.poll() is None:
                with suppress(OSError):
                    call("GET", "/connections?limit=1")
                    break
                time.sleep(0.2)
            yield process
        finally:
            process.terminate()


def call(method: str, path: str, body: Any = None) -> Any:
    """Return the body of a REST route's answer."""
    connection = HTTPConnection("127.0.0.1", REST_PORT, timeout=60)
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = json.loads(answer.read() or "null")
    connection.close()
    if answer.status != 200:
        raise OSError(f"{method} {path}: {answer.status}")
    return said


async def publish(channel: str, published: set[int], is_over: asyncio.Event) -> None:
    """Publish twice a second until the end, each message until it is acknowledged; append offsets to `published`."""
    number = 0
    while not is_over.is_set():
        body = {"data": number, "messageId": f"m{number}"}
        with suppress(OSError):
            answer = await asyncio.to_thread(call, "POST", f"/channels/{channel}/messages", body)
            published.add(answer["offset"])
            number += 1
        await asyncio.sleep(0.5)


def invoked(log: IO[bytes], offset: int) -> tuple[Counter[str], Counter[str], int]:
    """Return how often each function ran and failed since that place in the log, and the next place."""
    log.seek(offset)
    ran, failed = Counter[str](), Counter[str]()
    for line in log.read().splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            name = str(entry["function"]).removeprefix("peal-local-")
            ran[name] += entry["message"] == "invocation"
            failed[name] += entry["message"] == "invocation" and entry.get("outcome") == "failed"
    return ran, +failed, log.tell()


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process; 0 if the system does not report it."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0.0


async def until_all(holds: Any, followers: list[Follower]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not all(map(holds, followers)) and time.monotonic() < until:
        await asyncio.sleep(0.1)


async def storm(options: argparse.Namespace, process: subprocess.Popen[bytes], log: IO[bytes]) -> list[str]:
    followers = [Follower(f"u_{n}", options.channel) for n in range(options.clients)]
    tasks = []
    empty_mb, began_at = memory_mb(process.pid), time.monotonic()
    for first in range(0, len(followers), RAMP):
        some = followers[first : first + RAMP]
        tasks += [asyncio.create_task(follower.follow()) for follower in some]
        await until_all(lambda one: one.is_in, some)
    print(f"{options.clients} clients had subscribed after {time.monotonic() - began_at:.1f} s; ", end="")
    full_mb = memory_mb(process.pid)
    print(f"the gateway has {empty_mb:.0f} MB without and {full_mb:.0f} MB with them.")
    published: set[int] = set()
    is_over = asyncio.Event()
    publisher = asyncio.create_task(publish(options.channel, published, is_over))
    await asyncio.sleep(options.seconds)
    *_, place = invoked(log, 0)
    cut_at = time.monotonic()
    for one in followers:
        one.is_in = False
        if one.socket:
            one.socket.transport.abort()
    await until_all(lambda one: one.is_in, followers)
    if away := sum(not one.is_in for one in followers):
        counts = sum((one.counts for one in followers), Counter[str]())
        return [f"{away} were not back after {PATIENCE_SECONDS} s: {dict(counts)}, {invoked(log, place)[:2]}"]
    back = sorted(one.back_at - cut_at for one in followers)
    peak_mb = memory_mb(process.pid)
    during = len(published)
    await asyncio.sleep(options.seconds)
    is_over.set()
    await publisher
    last = call("GET", f"/channels/{options.channel}")["offset"]
    await until_all(lambda one: (one.position or {}).get("offset") == last, followers)
    ran, failed, _ = invoked(log, place)
    print(
        f"All cut: the first was back after {back[0]:.1f} s, half after {median(back):.1f}, all after {back[-1]:.1f}."
    )
    print(f"{len(published)} publications were acknowledged, {during} of them before all had returned.")
    print(f"The gateway has {peak_mb:.0f} MB then. Invocations: {dict(ran)}, failed: {dict(failed)}.")
    counts = sum((one.counts for one in followers), Counter[str]())
    print(f"Clients: {dict(counts)}")
    kept = kept_offsets(options.channel)
    wrong = [f"{one.name} has {one.got[:9]}..." for one in followers if one.got != [n for n in kept if n > one.since]]
    wrong += [f"{offset} was acknowledged and is not kept" for offset in sorted(published - set(kept))]
    wrong += [f"{counts['afresh']} had to start afresh"] if counts["afresh"] else []
    for task in tasks:
        task.cancel()
    return wrong


def kept_offsets(channel: str) -> list[int]:
    """Return the offsets of all publications that the channel keeps."""
    kept: list[int] = []
    query = ""
    while page := (answer := call("GET", f"/channels/{channel}/history?limit=1000{query}"))["publications"]:
        kept += [publication["offset"] for publication in page]
        query = f"&epoch={answer['epoch']}&offset={kept[-1]}"
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=2_000, help="how many clients follow (2000)")
    parser.add_argument("--channel", default="feed:storm", help="which channel (feed:storm)")
    parser.add_argument("--seconds", type=float, default=5, help="how long before and after the storm (5)")
    options = parser.parse_args()
    with TemporaryFile() as log, gateway(log) as process:
        wrong = asyncio.run(storm(options, process, log))
    for fault in wrong[:20]:
        print(fault)
    print(f"{len(wrong)} faults")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
