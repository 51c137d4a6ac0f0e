"""Measure how a publication's cost grows with the channel: request units, and a process's CPU time and memory.

    python tools/benchmarks/bench_growth.py [--members 100 1000 10000 100000] [--rounds 5]

Each measurement is a process of its own with a channel with history of that size, on the engine of bench_cost.py.
What is sent goes nowhere, so CPU is that of reading members and of dividing them; bench_fanout.py measures sending. The
first publication is a warm-up, of the others medians count. Linux only; nothing is
asked of AWS.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import boto3

from chalicelib.peal import build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.settings import Settings
from tools.benchmarks.cost_apps import PealApp
from tools.benchmarks.engines import engine, make_tables
from tools.benchmarks.metering import Meter, measure

TABLE = "peal"


class Nowhere:
    """Accept what is sent, in place of `app.websocket_api`."""

    session: object = None

    def configure(self, domain_name: str, stage: str) -> None:
        pass

    def send(self, connection_id: str, message: str) -> None:
        pass


def session_of() -> boto3.session.Session:
    return boto3.session.Session("local", "local", region_name="eu-central-1")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    # What a process measures.
    parser.add_argument("--channel", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.channel:
        print(json.dumps(publish(options.channel, options.rounds)))
        return 0
    with engine() as endpoint:
        if endpoint is None:
            return 1
        os.environ |= {"AWS_ENDPOINT_URL_DYNAMODB": endpoint, "AWS_DEFAULT_REGION": "eu-central-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
        session, meter = session_of(), Meter()
        client = session.client("dynamodb")
        make_tables(client)
        meter.watch(session)
        app = PealApp(meter, session, client, TABLE)
        # Stores the endpoint that all send to.
        app.connect("a=", "alice")
        print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()}, Python {platform.python_version()}\n")
        print("| members | read units | write units | requests | CPU, ms | µs a member | memory at most, MB |")
        print("|---|---|---|---|---|---|---|")
        for members in options.members:
            channel = f"feed:{members}"
            app.seat(channel, members)
            bill = measure(meter, lambda channel=channel: app.peal.publish(channel, "counted"))  # type: ignore[misc]
            assert bill.sends == members, bill
            cpu_ms, memory_mb = run(channel, options.rounds)
            print(
                f"| {members:,} | {bill.reads:,g} | {bill.writes:g} | {bill.calls} | {cpu_ms:,.1f} "
                f"| {cpu_ms * 1000 / members:.1f} | {memory_mb:.0f} |"
            )
    return 0


def run(channel: str, rounds: int) -> tuple[float, float]:
    """Measure in a process of its own: CPU milliseconds of a publication, and the peak memory in MB."""
    command = [sys.executable, __file__, "--channel", channel, "--rounds", str(rounds)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cpu_ms, memory_mb = json.loads(answer)
    return cpu_ms, memory_mb


def publish(channel: str, rounds: int) -> tuple[float, float]:
    """Measure here what `run` returns."""
    peal = build(Settings(TABLE, allow_anonymous=True, anonymous_grants=EVERYTHING), Nowhere(), session_of())
    times = []
    for n in range(1 + rounds):
        began = time.process_time()
        peal.publish(channel, n)
        times.append((time.process_time() - began) * 1000)
    return statistics.median(times[1:]), most_memory_mb()


def most_memory_mb() -> float:
    """Return this process's peak memory; ru_maxrss would include that of its parent."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
