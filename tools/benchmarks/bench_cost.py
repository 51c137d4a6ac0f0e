"""Counts what each thing that clients do costs: DynamoDB's request units, API Gateway's messages, Lambda, SQS, dollars.

    python tools/benchmarks/bench_cost.py [--members 10000]

Request units are the engine's own figures (ReturnConsumedCapacity), so it must be one whose figures are real: dynoxide,
a native DynamoDB that npm installs into the user's cache, or whatever AWS_ENDPOINT_URL_DYNAMODB names. Sends count
and go nowhere. Beside Peal, in the same run: the chat of Chalice's tutorial (wschat), and a broadcast that scans its
table, as AWS's samples do, both written here after what they do to their tables. Lambda's time is not measured but
stated: see `LAMBDA_GB`. Nothing is asked of AWS.
"""

import argparse
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import boto3
from boto3.dynamodb.conditions import Key
from botocore.config import Config

from chalicelib.handlers import websocket
from chalicelib.peal import Peal, build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.settings import Settings
from chalicelib.store import keys
from localgateway.aws.resources import fit
from localgateway.aws.template import read_resources
from localgateway.testing import connect_event, disconnect_event, message_event
from localgateway.wire.tls import cache_directory
from tools.benchmarks.prices import LAMBDA_GB_S, LAMBDA_REQUEST, MESSAGE, READ_UNIT, SQS_REQUEST, WRITE_UNIT

REPOSITORY = Path(__file__).parents[2]
ENGINE = "@dynoxide/linux-x64@1.2.1"

# Stated, not measured: 1,024 MB, 3 ms, and what each call takes: DynamoDB 4 ms, SQS 8 ms, POSTs 10 ms, 16 at a time.
LAMBDA_GB, LAMBDA_MS, DYNAMODB_MS, SQS_MS, POST_MS, POSTS_AT_ONCE = 1.0, 3, 4, 8, 10, 16

CHAT, LIVE, FEED = "chat:lobby", "live:map", "feed:news"


@dataclass
class Bill:
    """What was used."""

    writes: float = 0
    reads: float = 0
    calls: int = 0
    sends: int = 0
    received: int = 0
    jobs: int = 0
    invocations: int = 0

    def dollars(self) -> float:
        """For a million times this, in USD."""
        milliseconds = self.invocations * LAMBDA_MS + self.calls * DYNAMODB_MS + self.jobs * SQS_MS
        milliseconds += math.ceil(self.sends / POSTS_AT_ONCE) * POST_MS
        return (
            self.writes * WRITE_UNIT
            + self.reads * READ_UNIT
            + (self.sends + self.received) * MESSAGE
            + self.jobs * 3 * SQS_REQUEST
            + self.invocations * LAMBDA_REQUEST
            + milliseconds / 1000 * LAMBDA_GB * LAMBDA_GB_S
        )


@dataclass
class Meter:
    """Counts what a boto3 session's DynamoDB clients, the websocket_api and the queue are asked for."""

    bill: Bill = field(default_factory=Bill)
    _lock: Lock = field(default_factory=Lock)

    def watch(self, session: boto3.session.Session) -> None:
        session.events.register("provide-client-params.dynamodb", self._ask)
        session.events.register("after-call.dynamodb", self._add)

    def _ask(self, params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any]:
        if "ReturnConsumedCapacity" in model.input_shape.members:
            params = params | {"ReturnConsumedCapacity": "TOTAL"}
        return params

    def _add(self, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        self.bill.calls += 1
        consumed = parsed.get("ConsumedCapacity", [])
        units = sum(each["CapacityUnits"] for each in (consumed if isinstance(consumed, list) else [consumed]))
        if model.name in ("GetItem", "Query", "Scan", "BatchGetItem"):
            self.bill.reads += units
        elif "Error" in parsed and not units:
            # A condition that did not hold costs what the write would have.
            self.bill.writes += 1
        else:
            self.bill.writes += units

    # As `app.websocket_api`.
    session: Any = None

    def configure(self, domain_name: str, stage: str) -> None:
        pass

    def send(self, connection_id: str, message: str) -> None:
        # Many threads send.
        with self._lock:
            self.bill.sends += math.ceil(len(message.encode()) / 32_768)

    def close(self, connection_id: str) -> None:
        pass

    # As the queue.
    def put(self, job: Any, delay_seconds: int = 0) -> None:
        self.bill.jobs += 1


class Bench:
    """Peal over a table of its own."""

    def __init__(self, meter: Meter, session: boto3.session.Session, client: Any, table: str) -> None:
        self._meter, self._client = meter, client
        settings = Settings(
            table,
            allow_anonymous=True,
            anonymous_grants=EVERYTHING,
            max_channels=1_000,
            # Both clients ask the same; into this one's calls the meter can look.
            table_client="boto3",
        )
        self.service: Peal = build(settings, meter, session, jobs=meter)

    def connect(self, connection_id: str, user: str) -> None:
        self._invoked(lambda: websocket.connect(self.service, connect_event(connection_id, {"userId": user})))

    def disconnect(self, connection_id: str) -> None:
        self._invoked(lambda: websocket.disconnect(self.service, disconnect_event(connection_id)))

    def frame(self, connection_id: str, action: str, **fields: Any) -> None:
        self._send(connection_id, {"action": action, **fields})

    def command(self, connection_id: str, name: str, **fields: Any) -> None:
        """As an SDK of Centrifugo's protocol sends it."""
        self._send(connection_id, {"id": 1, name: fields})

    def _send(self, connection_id: str, frame: dict[str, Any]) -> None:
        self._meter.bill.received += 1
        event = message_event(json.dumps(frame), connection_id)
        self._invoked(lambda: websocket.message(self.service, event))

    def seat(self, channel: str, count: int) -> None:
        """So many connections are members of the channel; their rows are written as they stand, which nobody counts."""
        ttl, rows = {"N": str(int(time.time()) + 7_800)}, []
        if channel.startswith("feed:"):
            self.service.publish(channel, "the first, which makes the channel's rows")
        for n in range(count):
            connection_id, user_id = f"{channel.replace(':', '-')}-{n}=", f"u_{channel.replace(':', '-')}-{n}"
            own = keys.connection_key(connection_id) | keys.owner_keys(connection_id, user_id)
            for key in (own, keys.membership_key(channel, 0, connection_id)):
                rows.append({name: {"S": text} for name, text in key.items()} | {"userId": {"S": user_id}, "ttl": ttl})
        fill(self._client, "peal", rows)

    def _invoked(self, door: Callable[[], Any]) -> None:
        self._meter.bill.invocations += 1
        door()


class Wschat:
    """What Chalice's tutorial does to its table: a row per connection and room, a full index the other way round."""

    def __init__(self, meter: Meter, session: boto3.session.Session, table: str) -> None:
        self._meter, self._table = meter, session.resource("dynamodb").Table(table)

    def connect(self, connection_id: str) -> None:
        self._meter.bill.invocations += 1
        self._table.put_item(Item={"PK": connection_id, "SK": "username_"})

    def join(self, connection_id: str) -> None:
        self._said(connection_id)
        self._table.put_item(Item={"PK": connection_id, "SK": "room_lobby"})
        self._meter.send(connection_id, "Joined chat room: lobby")

    def text(self, connection_id: str) -> None:
        self._said(connection_id)
        answer = self._table.query(IndexName="ReverseLookup", KeyConditionExpression=Key("SK").eq("room_lobby"))
        for item in answer["Items"]:
            self._meter.send(item["PK"], "somebody: hi")

    def disconnect(self, connection_id: str) -> None:
        self._meter.bill.invocations += 1
        for item in self._of(connection_id):
            self._table.delete_item(Key={"PK": item["PK"], "SK": item["SK"]})

    def _said(self, connection_id: str) -> None:
        self._meter.bill.invocations += 1
        self._meter.bill.received += 1
        self._of(connection_id)

    def _of(self, connection_id: str) -> list[Any]:
        return list(self._table.query(KeyConditionExpression=Key("PK").eq(connection_id))["Items"])


class Samples:
    """What AWS's samples do: a broadcast reads the whole table, whatever else is in it."""

    def __init__(self, meter: Meter, client: Any, table: str) -> None:
        self._meter, self._client, self._table = meter, client, table

    def broadcast(self) -> None:
        self._meter.bill.invocations += 1
        self._meter.bill.received += 1
        for page in self._client.get_paginator("scan").paginate(TableName=self._table):
            for item in page["Items"]:
                if "data" not in item:
                    self._meter.send(item["PK"]["S"], "hi")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=10_000, help="how many the largest channel has")
    options = parser.parse_args()
    with engine() as endpoint:
        if endpoint is None:
            return 1
        session = boto3.session.Session("local", "local", region_name="eu-central-1")
        meter = Meter()
        meter.watch(session)
        config = Config(max_pool_connections=64)
        client = session.client("dynamodb", endpoint_url=endpoint, config=config)
        os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = endpoint
        make_tables(client)
        peal = Bench(meter, session, client, "peal")
        print("| | writes | reads | messages in and out | jobs | USD per million |\n|---|---|---|---|---|---|")
        for name, bill in chain(
            peal_costs(peal, meter, options.members), other_costs(meter, session, client, options.members)
        ):
            print(
                f"| {name} | {bill.writes:g} | {bill.reads:g} | {bill.received} + {bill.sends:,} | {bill.jobs or ''} "
                f"| {bill.dollars():,.2f} |"
            )
        contention(peal, meter)
    return 0


def measure(meter: Meter, act: Callable[[], None]) -> Bill:
    meter.bill = Bill()
    act()
    bill, meter.bill = meter.bill, Bill()
    return bill


def peal_costs(peal: Bench, meter: Meter, members: int) -> Iterator[tuple[str, Bill]]:
    """Each thing that clients do, in an order in which the one prepares the other."""
    peal.connect("warm-up=", "u_0")
    yield "connect", measure(meter, lambda: peal.connect("a=", "alice"))
    peal.connect("b=", "bob")
    yield "`ping` without an id", measure(meter, lambda: peal.frame("a=", "ping"))
    yield (
        "`sendMessage` to a user's one connection",
        measure(meter, lambda: peal.frame("a=", "sendMessage", targetUserId="bob", text="hi")),
    )
    for channel in (LIVE, FEED, CHAT):
        # The first of all makes the channel's rows.
        peal.frame("b=", "subscribe", channel=channel)
    yield "`subscribe`, no history", measure(meter, lambda: peal.frame("a=", "subscribe", channel=LIVE))
    yield "`subscribe`, history", measure(meter, lambda: peal.frame("a=", "subscribe", channel=FEED))
    yield "`subscribe`, history and join", measure(meter, lambda: peal.frame("a=", "subscribe", channel=CHAT))
    yield "`presence` of 2", measure(meter, lambda: peal.frame("a=", "presence", id=1, channel=CHAT))
    yield "`unsubscribe`", measure(meter, lambda: peal.frame("a=", "unsubscribe", channel=FEED))
    peal.frame("b=", "unsubscribe", channel=LIVE)
    peal.frame("b=", "unsubscribe", channel=CHAT)
    yield "`publish` to 1, no history", measure(meter, lambda: peal.frame("a=", "publish", channel=LIVE, data="hi"))
    yield "`publish` to 1, history", measure(meter, lambda: peal.frame("a=", "publish", channel=CHAT, data="hi"))
    yield (
        "the same with a messageId",
        measure(meter, lambda: peal.frame("a=", "publish", channel=CHAT, data="hi", messageId="m-1")),
    )
    yield (
        "the same again",
        measure(meter, lambda: peal.frame("a=", "publish", channel=CHAT, data="hi", messageId="m-1")),
    )
    epoch = peal.service.history(CHAT, limit=0).epoch
    for _ in range(10):
        peal.frame("a=", "publish", channel=CHAT, data="hi")
    yield "`history`, a page of 10", measure(meter, lambda: peal.frame("a=", "history", id=1, channel=CHAT, limit=10))

    def come_back() -> None:
        peal.connect("b2=", "bob")
        recover = {"epoch": epoch, "offset": peal.service.history(CHAT, limit=0).offset - 10}
        meter.bill.calls, meter.bill.reads = meter.bill.calls - 2, meter.bill.reads - 1
        peal.frame("b2=", "subscribe", id=1, channel=CHAT, recover=recover)

    yield "reconnect: connect, and subscribe with 10 missed", measure(meter, come_back)
    peal.connect("sdk=", "sam")
    yield "an SDK's `connect` command", measure(meter, lambda: peal.command("sdk=", "connect"))
    yield "an SDK's `subscribe`, history", measure(meter, lambda: peal.command("sdk=", "subscribe", channel=FEED))
    peal.frame("b2=", "unsubscribe", channel=CHAT)
    for count in (0, 1, 10):
        peal.connect(f"d{count}=", "dave")
        for n in range(count):
            peal.frame(f"d{count}=", "subscribe", channel=f"live:{n}")
        yield f"disconnect, {count} channels", measure(meter, lambda count=count: peal.disconnect(f"d{count}="))  # type: ignore[misc]
    peal.connect("e=", "eve")
    peal.frame("e=", "subscribe", channel=CHAT)
    yield "disconnect, 1 channel with leave", measure(meter, lambda: peal.disconnect("e="))
    for count in (100, members):
        for channel in (f"live:{count}", f"feed:{count}"):
            peal.seat(channel, count)
        yield (
            f"`publish` to {count:,}, no history",
            measure(
                meter,
                lambda count=count: peal.frame("a=", "publish", channel=f"live:{count}", data="hi"),  # type: ignore[misc]
            ),
        )
        yield (
            f"a server's publish to {count:,}, history",
            measure(
                meter,
                lambda count=count: serve(peal, meter, f"feed:{count}"),  # type: ignore[misc]
            ),
        )
    everyone = measure(meter, lambda: peal.frame("a=", "broadcastAll"))
    yield f"`broadcastAll` to {everyone.sends:,}", everyone


def serve(peal: Bench, meter: Meter, channel: str) -> None:
    meter.bill.invocations += 1
    peal.service.publish(channel, "hi")


def other_costs(meter: Meter, session: boto3.session.Session, client: Any, members: int) -> Iterator[tuple[str, Bill]]:
    """The same, where others do the same."""
    wschat = Wschat(meter, session, "wschat")
    yield "wschat: connect", measure(meter, lambda: wschat.connect("a="))
    yield "wschat: join a room", measure(meter, lambda: wschat.join("a="))
    for n in range(99):
        wschat.connect(f"{n}=")
        wschat.join(f"{n}=")
    yield "wschat: a text to 100", measure(meter, lambda: wschat.text("a="))
    yield "wschat: disconnect, 1 room", measure(meter, lambda: wschat.disconnect("a="))
    samples = Samples(meter, client, "samples")
    fill(client, "samples", [{"PK": {"S": f"{n}="}} for n in range(members)])
    yield f"table scan: a broadcast to {members:,}", measure(meter, samples.broadcast)
    rows = [{"PK": {"S": f"history-{n}"}, "data": {"S": "x" * 400}} for n in range(members)]
    fill(client, "samples", rows)
    bill = measure(meter, samples.broadcast)
    yield f"table scan: the same, with {members:,} other rows in the table", bill


def contention(peal: Bench, meter: Meter, publishers: int = 50, each: int = 4) -> None:
    """What publishing costs while fifty do it at once."""

    def publish(_: int) -> None:
        for _ in range(each):
            peal.service.publish("chat:busy", "hi")

    peal.service.publish("chat:busy", "first")
    meter.bill = Bill()
    started_at = time.perf_counter()
    with ThreadPoolExecutor(publishers) as threads:
        list(threads.map(publish, range(publishers)))
    seconds, count = time.perf_counter() - started_at, publishers * each
    print(
        f"\n{count} publications by {publishers} at once in one channel: {meter.bill.writes / count:.1f} writes and "
        f"{meter.bill.reads / count:.1f} reads each, {count / seconds:,.0f} a second, bounded by this process's CPU."
    )


def make_tables(client: Any) -> None:
    (definition,) = read_resources(REPOSITORY / "resources.json", stage="bench", region="eu-central-1").tables.values()
    shape = client.meta.service_model.operation_model("CreateTable").input_shape
    client.create_table(**fit(definition, shape) | {"TableName": "peal"})
    keys = [{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")]
    client.create_table(
        TableName="wschat",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=keys,
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "ReverseLookup",
                "KeySchema": [{"AttributeName": "SK", "KeyType": "HASH"}, {"AttributeName": "PK", "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    client.create_table(
        TableName="samples",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=keys[:1],
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
    )


def fill(client: Any, table: str, items: list[Any]) -> None:
    for start in range(0, len(items), 25):
        requests = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        client.batch_write_item(RequestItems={table: requests})


@contextmanager
def engine() -> Iterator[str | None]:
    """The endpoint of an engine whose capacity figures are real; None where there is none."""
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_DYNAMODB"):
        yield endpoint
        return
    npm, home = shutil.which("npm"), cache_directory() / "dynoxide"
    binary = home / "node_modules" / "@dynoxide" / "linux-x64" / "dynoxide"
    if not binary.exists() and npm:
        subprocess.run([npm, "install", "--silent", "--prefix", home, ENGINE], check=False)
    if not binary.exists():
        print("There is no dynoxide for this machine: AWS_ENDPOINT_URL_DYNAMODB can name another engine.")
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([binary, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
