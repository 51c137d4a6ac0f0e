"""Measure a fan-out: one frame to many connections, by boto3 one after another, by boto3 in threads, and by Peal.

    python tools/benchmarks/bench_fanout.py [ways | workers | pinning | lambda] [--rounds 5]

@connections is a server of its own (at_connections.c, compiled with cc and OpenSSL's headers), over TLS, on the last
CPU, which answers at once or after 10 ms. Each measurement is a process of its own, on the first CPU: its first round
opens the connections and is shown separately, of the others medians count. The same run measures the floor: the same
bytes, made beforehand, over as many connections, by one thread and epoll. `workers` compares numbers of threads;
`pinning` lets the process use two CPUs; `lambda` does too, with the CPU time of some of Lambda's sizes (by cgroup,
which needs root).
Linux only; nothing is asked of AWS.
"""

import argparse
import http.client
import json
import os
import platform
import resource
import select
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import boto3
import trustme
from botocore.config import Config
from chalice.app import WebsocketAPI

from chalicelib.aws.http import trust
from chalicelib.aws.management import WORKERS, ManagementSession, prepare
from chalicelib.delivery import threads
from chalicelib.delivery.delivery import Delivery
from chalicelib.protocol.codec import Receiver
from chalicelib.protocol.frame import dump

HERE = Path(__file__).parent
FRAME = {"type": "broadcast", "time": "2026-11-23T09:30:10.123Z", "note": "hello", "data": {"n": 1, "text": "x" * 60}}
THREADS = 32
SIZES = (10, 100, 1_000, 10_000)
LATENCIES_MS = (0, 10)
WORKERS_COMPARED = (32, 64, 96, 128)
# The share of a CPU that Lambda gives to a function of that many MB; 1,769 MB have all of it.
LAMBDA_PERCENT = {512: 29, 1_024: 58, 1_769: 100}
# One after another takes 12 ms each: more receivers would only take longer.
MOST_IN_A_ROW = 1_000


@dataclass(frozen=True)
class Round:
    """One fan-out: milliseconds until the first and the last answer left, microseconds of CPU for each send."""

    first_ms: float
    last_ms: float
    cpu_us: float
    connections: int


@dataclass(frozen=True)
class Result:
    """What a process measured: its first fan-out, the median of the others, and its peak memory."""

    cold: Round
    warm: Round
    receivers: int
    rss_mb: float

    @property
    def per_second(self) -> float:
        return self.receivers / self.warm.last_ms * 1000


# Sends the frame to that many connections.
Send = Callable[[int], object]


def connection_ids(receivers: int) -> Iterator[str]:
    return (f"L0SM9{n:06d}vHcCIhw=" for n in range(receivers))


class ThreadsSession:
    """Return a boto3 session whose clients keep a connection per thread."""

    region_name = "eu-central-1"

    def client(self, name: str, endpoint_url: str) -> Any:
        return boto3.session.Session().client(
            name, endpoint_url=endpoint_url, config=Config(max_pool_connections=THREADS)
        )


def door(endpoint: str, session: Any) -> WebsocketAPI:
    api = WebsocketAPI()
    api.session = session
    prepare(api, endpoint)
    return api


def boto3_in_a_row(endpoint: str) -> Send:
    api, text = door(endpoint, boto3.session.Session()), dump(FRAME)

    def send(receivers: int) -> None:
        for connection_id in connection_ids(receivers):
            api.send(connection_id, text)

    return send


def boto3_in_threads(endpoint: str) -> Send:
    api, text = door(endpoint, ThreadsSession()), dump(FRAME)
    # Chalice does not lock; without this each thread would make a client.
    api._get_client()

    def send(receivers: int) -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            for _ in threads.map(lambda connection_id: api.send(connection_id, text), connection_ids(receivers)):
                pass

    return send


def peal(endpoint: str, workers: int = WORKERS["lean"]) -> Send:
    api = door(endpoint, ManagementSession(boto3.session.Session(), lambda: endpoint, "lean"))
    delivery = Delivery(api, lambda: endpoint, lambda _: None, workers)

    def send(receivers: int) -> None:
        outcome = delivery.send(map(Receiver, connection_ids(receivers)), lambda codec: FRAME)
        if outcome.sent != receivers:
            raise SystemExit(f"{outcome} of {receivers}")

    return send


def floor(endpoint: str, workers: int = WORKERS["lean"]) -> Send:
    """Return what sends with the least that Python could need: no signature, no parsing, no thread."""
    netloc = endpoint.split("/")[2]
    body = dump(FRAME)
    request = (
        f"POST /api/@connections/L0SM9000000vHcCIhw%3D HTTP/1.1\r\nHost: {netloc}\r\nX-Amz-Date: 20261123T093010Z\r\n"
        f"Authorization: AWS4-HMAC-SHA256 Credential=bench/20261123/eu-central-1/execute-api/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}\r\n"
        f"User-Agent: Peal\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    kept: list[ssl.SSLSocket] = []

    def send(receivers: int) -> None:
        while len(kept) < min(workers, receivers):
            kept.append(connect(netloc))
        poll = select.epoll()
        by_number = {connection.fileno(): connection for connection in kept[:receivers]}
        left = receivers - len(by_number)
        for number, connection in by_number.items():
            poll.register(number, select.EPOLLIN)
            connection.send(request)
        answers = 0
        while answers < receivers:
            for number, _ in poll.poll():
                connection = by_number[number]
                try:
                    connection.recv(16_384)
                except ssl.SSLWantReadError:
                    continue
                answers += 1
                if left:
                    left -= 1
                    connection.send(request)
        poll.close()

    return send


def connect(netloc: str) -> ssl.SSLSocket:
    host, _, port = netloc.partition(":")
    connection = trust().wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection


WAYS: dict[str, Callable[..., Send]] = {
    "boto3, one after another": boto3_in_a_row,
    f"boto3, {THREADS} threads": boto3_in_threads,
    "Peal": peal,
    "floor": floor,
}


class Server:
    """The running server: the requests it received, and how long it takes to answer."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def ask(self, path: str) -> Any:
        connection = http.client.HTTPSConnection(self.endpoint.split("/")[2], context=trust(), timeout=10)
        connection.request("GET", path)
        told = json.loads(connection.getresponse().read())
        connection.close()
        return told


@contextmanager
def serving(directory: Path) -> Iterator[Server]:
    """Compile the server and run it on the last CPU."""
    program = directory / "at_connections"
    compiler = ["cc", "-O2", "-o", program, HERE / "at_connections.c", "-lssl", "-lcrypto"]
    try:
        subprocess.run(compiler, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise SystemExit("This needs a C compiler and OpenSSL's headers: apt install gcc libssl-dev") from None
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(directory / "certificate.pem")
    authority.cert_pem.write_to_path(directory / "authority.pem")
    os.environ["AWS_CA_BUNDLE"] = str(directory / "authority.pem")
    process = subprocess.Popen(
        [program, directory / "certificate.pem", directory / "key.pem"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
    )
    assert process.stdin
    assert process.stdout
    try:
        yield Server(f"https://127.0.0.1:{int(process.stdout.readline())}/api")
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


@contextmanager
def quota(percent: int) -> Iterator[Path]:
    """Make a control group whose processes have that share of one CPU, in periods of 20 ms as on Lambda."""
    old, new = Path("/sys/fs/cgroup/cpu/peal-bench"), Path("/sys/fs/cgroup/peal-bench")
    try:
        if old.parent.is_dir():
            group = old
            group.mkdir()
            (group / "cpu.cfs_period_us").write_text("20000")
            (group / "cpu.cfs_quota_us").write_text(str(200 * percent))
        else:
            group = new
            group.mkdir()
            (group / "cpu.max").write_text(f"{200 * percent} 20000")
    except OSError as error:
        raise SystemExit(f"This needs control groups and the right to make one: {error}") from None
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("compare", nargs="?", choices=COMPARISONS, default="ways", help="what to compare (ways)")
    parser.add_argument("--rounds", type=int, default=5, help="fan-outs of each process that count (5)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(asdict(measure(**json.loads(options.measure)))))
        return
    variables = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    os.environ |= dict(zip(variables, ("eu-central-1", "eu-central-1", "bench", "bench"), strict=True))
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.machine()}")
    print(f"load before {os.getloadavg()[0]:.1f}")
    with TemporaryDirectory() as directory, serving(Path(directory)) as server:
        COMPARISONS[options.compare](server, options.rounds)
    print(f"load after {os.getloadavg()[0]:.1f}")


def compare_ways(server: Server, rounds: int) -> None:
    for latency_ms in LATENCIES_MS:
        table(f"{latency_ms} ms")
        for receivers in SIZES:
            for way in WAYS:
                in_a_row = WAYS[way] is boto3_in_a_row
                if not in_a_row or receivers < MOST_IN_A_ROW:
                    show(way, run(server, way, receivers, latency_ms, rounds))
                elif receivers == MOST_IN_A_ROW:
                    show(way, run(server, way, receivers, latency_ms, 1))
    print("\n| Peal, 0 ms | memory at most, MB |\n|---|---|")
    for receivers in (100, 1_000, 10_000, 100_000):
        print(f"| {receivers:,} | {run(server, 'Peal', receivers, 0, 1).rss_mb:.1f} |", flush=True)


def compare_workers(server: Server, rounds: int) -> None:
    table("10 ms, one CPU")
    for workers in WORKERS_COMPARED:
        show(f"Peal, {workers} workers", run(server, "Peal", SIZES[-1], 10, rounds, workers=workers))


def compare_pinning(server: Server, rounds: int) -> None:
    table("10 ms, two CPUs")
    for receivers in SIZES[1:]:
        for name, is_pinned in (("on both", False), ("on one of them", True)):
            show(name, run(server, "Peal", receivers, 10, rounds, cpus=2, is_pinned=is_pinned))


def compare_lambda(server: Server, rounds: int) -> None:
    for megabytes, percent in LAMBDA_PERCENT.items():
        table(f"10 ms, {megabytes:,} MB")
        with quota(percent) as group:
            for workers in WORKERS_COMPARED[1:]:
                for receivers in SIZES[2:]:
                    show(
                        f"Peal, {workers} workers",
                        run(server, "Peal", receivers, 10, rounds, workers=workers, cpus=2, group=str(group)),
                    )
            way = f"boto3, {THREADS} threads"
            show(way, run(server, way, MOST_IN_A_ROW, 10, 1, cpus=2, group=str(group)))


COMPARISONS = {"ways": compare_ways, "workers": compare_workers, "pinning": compare_pinning, "lambda": compare_lambda}


def table(title: str) -> None:
    print(f"\n| {title} | receivers | first ms | last ms | last ms, cold | sends/s | CPU us/send |\n|---{6 * '|---'}|")


def show(name: str, result: Result) -> None:
    warm = result.warm
    print(
        f"| {name} | {result.receivers:,} | {warm.first_ms:.1f} | {warm.last_ms:,.1f} | {result.cold.last_ms:,.1f} "
        f"| {result.per_second:,.0f} | {warm.cpu_us:,.0f} |",
        flush=True,
    )


def run(server: Server, way: str, receivers: int, latency_ms: int, rounds: int, **more: Any) -> Result:
    """Measure in a process of its own."""
    server.ask(f"/latency/{latency_ms * 1000}")
    what = {"way": way, "endpoint": server.endpoint, "receivers": receivers, "rounds": rounds} | more
    done = subprocess.run(
        [sys.executable, __file__, "--measure", json.dumps(what)], stdout=subprocess.PIPE, text=True, check=True
    )
    told = json.loads(done.stdout)
    return Result(Round(**told.pop("cold")), Round(**told.pop("warm")), **told)


def measure(
    way: str,
    endpoint: str,
    receivers: int,
    rounds: int,
    workers: int | None = None,
    cpus: int = 1,
    is_pinned: bool = True,
    group: str | None = None,
) -> Result:
    if group:
        Path(group).write_text(str(os.getpid()))
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cpus]))
    if not is_pinned:
        threads.one_cpu = nullcontext  # type: ignore[assignment]
    server = Server(endpoint)
    send = WAYS[way](endpoint, *([workers] if workers else []))
    cold, *warm = [one_round(server, send, receivers) for _ in range(rounds + 1)]
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    medians = [statistics.median(figures) for figures in zip(*(asdict(one).values() for one in warm), strict=True)]
    return Result(cold, Round(*medians), receivers, rss_mb)  # type: ignore[arg-type]


def one_round(server: Server, send: Send, receivers: int) -> Round:
    server.ask("/stats")
    cpu, started_at = time.process_time(), time.clock_gettime(time.CLOCK_MONOTONIC)
    send(receivers)
    cpu_us = (time.process_time() - cpu) * 1e6 / receivers
    told = server.ask("/stats")
    if told["answered"] != receivers:
        raise SystemExit(f"{told['answered']} of {receivers} were answered")
    first_ms, last_ms = (told[name] / 1000 - started_at * 1000 for name in ("first_us", "last_us"))
    return Round(first_ms, last_ms, cpu_us, told["connections"])


if __name__ == "__main__":
    main()
