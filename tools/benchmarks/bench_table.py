"""Measure what a request to the table costs: the CPU time of one call, by our client of DynamoDB and by boto3's.

    python tools/benchmarks/bench_table.py [--rounds 7]

DynamoDB is a stub in another process that answers at once, without TLS. Rounds alternate between the clients; medians
count.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import boto3

from chalicelib.aws.client import connect
from chalicelib.aws.dynamodb import DynamoDBClient
from chalicelib.settings import ClientKind
from chalicelib.store import keys
from chalicelib.store.table import Table
from tools.benchmarks.bench_cold_start import running

ROW = {
    **{name: {"S": text} for name, text in keys.connection_key("L0SM9cOFvHcCIhw=").items()},
    **{name: {"S": text} for name, text in keys.owner_keys("L0SM9cOFvHcCIhw=", "u_123").items()},
    **{"userId": {"S": "u_123"}, "deviceId": {"S": "phone"}, "connectedAt": {"S": "2026-11-24T09:30:00.000Z"}},
    "ttl": {"N": "9999999999"},
}
PAGE_ITEMS = 1_000
KEY = keys.connection_key("L0SM9cOFvHcCIhw=")
# What to measure, and how often in a round.
CALLS: dict[str, tuple[Callable[[Table], object], int]] = {
    "get of a connection": (lambda rows: rows.get(KEY), 500),
    "put of one": (lambda rows: rows.put_new({**KEY, "userId": "u_123", "ttl": 9_999_999_999}), 500),
    f"page of {PAGE_ITEMS:,} receivers": (lambda rows: sum(1 for _ in rows.connections_of("u_123")), 20),
    f"page of {PAGE_ITEMS:,} rows": (lambda rows: sum(1 for _ in rows.query("P", "0", "9")), 20),
}


class Stub(BaseHTTPRequestHandler):
    """Answer as DynamoDB does when the item exists."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    page = json.dumps({"Items": [ROW] * PAGE_ITEMS}).encode()
    narrow = json.dumps({"Items": [{"GSI1SK": ROW["GSI1SK"]}] * PAGE_ITEMS}).encode()
    row = json.dumps({"Item": ROW}).encode()

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        is_query = self.headers["X-Amz-Target"].endswith(".Query")
        body = (self.narrow if b"IndexName" in asked else self.page) if is_query else self.row
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amz-crc32", str(zlib.crc32(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured (7)")
    options = parser.parse_args(arguments)
    with running(Stub) as endpoint:
        os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = endpoint
        session = boto3.session.Session("bench", "bench", region_name="eu-central-1")
        kinds: tuple[ClientKind, ClientKind] = ("boto3", "lean")
        tables = [Table(connect(DynamoDBClient, session, kind), "t", time.time) for kind in kinds]
        print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, boto3 {boto3.__version__}\n")
        print("| CPU of a call, median, us | boto3 | Peal | ratio |\n|---|---|---|---|")
        for name, (call, times) in CALLS.items():
            rounds = [[measure(call, rows, times) for rows in tables] for _ in range(options.rounds + 1)][1:]
            theirs, ours = (statistics.median(each) for each in zip(*rounds, strict=True))
            print(f"| {name} | {theirs:,.0f} | {ours:,.0f} | {theirs / ours:.1f} |")


def measure(call: Callable[[Table], object], rows: Table, times: int) -> float:
    """Return the microseconds of CPU that one call takes."""
    began_at = time.process_time()
    for _ in range(times):
        call(rows)
    return (time.process_time() - began_at) / times * 1e6


if __name__ == "__main__":
    main()
