"""Count what each thing that clients do costs: DynamoDB's request units, API Gateway's messages, Lambda, SQS, dollars.

    python tools/benchmarks/bench_cost.py [--members 10000]

Request units are the engine's own figures (ReturnConsumedCapacity), so it must be one whose figures are real: dynoxide,
a native DynamoDB that npm installs into the user's cache, or the one that AWS_ENDPOINT_URL_DYNAMODB names. Sends are
counted and go nowhere. Two other apps run beside Peal: the chat of Chalice's tutorial (wschat), and a broadcast that
scans its table, as AWS's samples do; both are written here after what they do to their tables. Lambda's time is not
measured but stated: see `LAMBDA_GB`. Nothing is asked of AWS.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import boto3
from botocore.config import Config

from tools.benchmarks.cost_apps import PealApp, Samples, Wschat
from tools.benchmarks.engines import engine, fill, make_tables
from tools.benchmarks.metering import Bill, Meter, measure

CHAT, LIVE, FEED = "chat:lobby", "live:map", "feed:news"


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
        app = PealApp(meter, session, client, "peal")
        print("| | writes | reads | messages in and out | jobs | USD per million |\n|---|---|---|---|---|---|")
        for name, bill in chain(
            peal_costs(app, meter, options.members), other_costs(meter, session, client, options.members)
        ):
            print(
                f"| {name} | {bill.writes:g} | {bill.reads:g} | {bill.received} + {bill.sends:,} | {bill.jobs or ''} "
                f"| {bill.dollars():,.2f} |"
            )
        contention(app, meter)
    return 0


def peal_costs(app: PealApp, meter: Meter, members: int) -> Iterator[tuple[str, Bill]]:
    """Yield the cost of each thing that clients do, in an order in which one prepares the next."""
    app.connect("warm-up=", "u_0")
    yield "connect", measure(meter, lambda: app.connect("a=", "alice"))
    app.connect("b=", "bob")
    yield "`ping` without an id", measure(meter, lambda: app.frame("a=", "ping"))
    yield (
        "`sendMessage` to a user's one connection",
        measure(meter, lambda: app.frame("a=", "sendMessage", targetUserId="bob", text="hi")),
    )
    for channel in (LIVE, FEED, CHAT):
        # The first of all makes the channel's rows.
        app.frame("b=", "subscribe", channel=channel)
    yield "`subscribe`, no history", measure(meter, lambda: app.frame("a=", "subscribe", channel=LIVE))
    yield "`subscribe`, history", measure(meter, lambda: app.frame("a=", "subscribe", channel=FEED))
    yield "`subscribe`, history and join", measure(meter, lambda: app.frame("a=", "subscribe", channel=CHAT))
    yield "`presence` of 2", measure(meter, lambda: app.frame("a=", "presence", id=1, channel=CHAT))
    yield "`unsubscribe`", measure(meter, lambda: app.frame("a=", "unsubscribe", channel=FEED))
    app.frame("b=", "unsubscribe", channel=LIVE)
    app.frame("b=", "unsubscribe", channel=CHAT)
    yield "`publish` to 1, no history", measure(meter, lambda: app.frame("a=", "publish", channel=LIVE, data="hi"))
    yield "`publish` to 1, history", measure(meter, lambda: app.frame("a=", "publish", channel=CHAT, data="hi"))
    yield (
        "the same with a messageId",
        measure(meter, lambda: app.frame("a=", "publish", channel=CHAT, data="hi", messageId="m-1")),
    )
    yield (
        "the same again",
        measure(meter, lambda: app.frame("a=", "publish", channel=CHAT, data="hi", messageId="m-1")),
    )
    epoch = app.peal.history(CHAT, limit=0).epoch
    for _ in range(10):
        app.frame("a=", "publish", channel=CHAT, data="hi")
    yield "`history`, a page of 10", measure(meter, lambda: app.frame("a=", "history", id=1, channel=CHAT, limit=10))

    def come_back() -> None:
        app.connect("b2=", "bob")
        recover = {"epoch": epoch, "offset": app.peal.history(CHAT, limit=0).offset - 10}
        meter.bill.calls, meter.bill.reads = meter.bill.calls - 2, meter.bill.reads - 1
        app.frame("b2=", "subscribe", id=1, channel=CHAT, recover=recover)

    yield "reconnect: connect, and subscribe with 10 missed", measure(meter, come_back)
    app.connect("sdk=", "sam")
    yield "an SDK's `connect` command", measure(meter, lambda: app.command("sdk=", "connect"))
    yield "an SDK's `subscribe`, history", measure(meter, lambda: app.command("sdk=", "subscribe", channel=FEED))
    app.frame("b2=", "unsubscribe", channel=CHAT)
    for count in (0, 1, 10):
        app.connect(f"d{count}=", "dave")
        for n in range(count):
            app.frame(f"d{count}=", "subscribe", channel=f"live:{n}")
        yield f"disconnect, {count} channels", measure(meter, lambda count=count: app.disconnect(f"d{count}="))  # type: ignore[misc]
    app.connect("e=", "eve")
    app.frame("e=", "subscribe", channel=CHAT)
    yield "disconnect, 1 channel with leave", measure(meter, lambda: app.disconnect("e="))
    for count in (100, members):
        for channel in (f"live:{count}", f"feed:{count}"):
            app.seat(channel, count)
        yield (
            f"`publish` to {count:,}, no history",
            measure(
                meter,
                lambda count=count: app.frame("a=", "publish", channel=f"live:{count}", data="hi"),  # type: ignore[misc]
            ),
        )
        yield (
            f"a server's publish to {count:,}, history",
            measure(
                meter,
                lambda count=count: serve(app, meter, f"feed:{count}"),  # type: ignore[misc]
            ),
        )
    everyone = measure(meter, lambda: app.frame("a=", "broadcastAll"))
    yield f"`broadcastAll` to {everyone.sends:,}", everyone


def serve(app: PealApp, meter: Meter, channel: str) -> None:
    meter.bill.invocations += 1
    app.peal.publish(channel, "hi")


def other_costs(meter: Meter, session: boto3.session.Session, client: Any, members: int) -> Iterator[tuple[str, Bill]]:
    """Yield the same for the two other apps, as far as they do it."""
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


def contention(app: PealApp, meter: Meter, publishers: int = 50, each: int = 4) -> None:
    """Print what publishing costs while fifty do it at once."""

    def publish(_: int) -> None:
        for _ in range(each):
            app.peal.publish("chat:busy", "hi")

    app.peal.publish("chat:busy", "first")
    meter.bill = Bill()
    started_at = time.perf_counter()
    with ThreadPoolExecutor(publishers) as threads:
        list(threads.map(publish, range(publishers)))
    seconds, count = time.perf_counter() - started_at, publishers * each
    print(
        f"\n{count} publications by {publishers} at once in one channel: {meter.bill.writes / count:.1f} writes and "
        f"{meter.bill.reads / count:.1f} reads each, {count / seconds:,.0f} a second, bounded by this process's CPU."
    )


if __name__ == "__main__":
    sys.exit(main())
