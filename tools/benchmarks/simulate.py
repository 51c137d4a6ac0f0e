"""Simulate how long one fan-out takes, what AWS refuses meanwhile, and what it costs.

    python tools/benchmarks/simulate.py [ways | threshold | jobs | workers | shards | latency]... [--quota 10000]
        [--post-ms 10] [--dead 0.005] [--seed 1]

The model is `fanout_model`; every number that it uses, with its source, is in `assumptions` and `prices`. Times are
seconds since the request for the fan-out. Nothing is sent and nothing is asked of AWS; a seed makes it repeatable.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from chalicelib.connections.broadcast import SEGMENTS
from chalicelib.delivery.slices import MAX_SECONDS, PATIENCE_SECONDS
from chalicelib.settings import DEFAULT_FANOUT_SIZE
from chalicelib.store.keys import ANONYMOUS_SHARDS
from tools.benchmarks.assumptions import ACCOUNT_QUOTA, CHANNEL, KEPT, PEAL, SEQUENTIAL, THREADS, WHOLE_CPU_MB
from tools.benchmarks.fanout_model import Plan, Tally, simulate

# As .chalice/config.json sets the functions that clients call; jobs have a whole CPU.
DIRECT_MB = 1_024
# As in app.py.
JOBS_AT_ONCE = 2

Rows = Iterator[tuple[str, Plan]]


def queued(receivers: int) -> Plan:
    """Return the plan of a broadcast through the queue, as Peal does it."""
    return Plan(
        receivers,
        slices=SEGMENTS,
        concurrency=JOBS_AT_ONCE,
        most=DEFAULT_FANOUT_SIZE,
        seconds=MAX_SECONDS,
        patience_seconds=PATIENCE_SECONDS,
    )


def ways() -> Rows:
    """A broadcast: one send after another as in guides, in threads, by one Lambda of Peal's, and by its jobs."""
    for receivers in (10_000, 100_000, 1_000_000):
        for sender in (SEQUENTIAL, THREADS, PEAL):
            yield f"{sender.name}, one Lambda", Plan(receivers, sender, DIRECT_MB)
        yield "Peal, jobs", queued(receivers)


def threshold() -> Rows:
    """The size of an audience from which jobs are worth their cost."""
    for receivers in (1_000, 2_000, 5_000, 10_000, 20_000):
        yield "one Lambda", Plan(receivers, memory_mb=DIRECT_MB)
        yield "jobs, cold", queued(receivers)
        yield "jobs, warm", replace(queued(receivers), warm=JOBS_AT_ONCE)


def jobs() -> Rows:
    """How many jobs a broadcast is cut into, and how many receivers each takes before another continues."""
    for receivers in (20_000, 100_000):
        for slices in (2, 4, 8, 16, 32):
            yield f"{slices} segments", replace(queued(receivers), slices=slices)
        for most in (2_000, 5_000, 10_000, 20_000):
            yield f"{most:,} receivers a job", replace(queued(receivers), most=most)
        yield "everyone anonymous", replace(queued(receivers), lumps=ANONYMOUS_SHARDS)


def workers() -> Rows:
    """A million receivers: jobs at once, and a higher quota. Two segments for each job, 10,000 receivers a job."""

    def at_once(count: int) -> Plan:
        return replace(queued(1_000_000), slices=2 * count, concurrency=count, most=10_000)

    for count in (2, 3, 5, 10, 20, 50):
        yield f"{count} at once", at_once(count)
    paced = PEAL._replace(most_a_second=ACCOUNT_QUOTA / 10)
    yield "10 at once, each keeping to a tenth of the quota", replace(at_once(10), sender=paced)
    yield f"2 at once, of {DIRECT_MB:,} MB", replace(at_once(2), memory_mb=DIRECT_MB)
    for quota in (20_000, 50_000, 100_000):
        plan = at_once(ceil(quota / PEAL.rate(WHOLE_CPU_MB)))
        yield f"quota {quota:,}: {plan.concurrency} at once", replace(plan, quota=quota, burst=quota / 2)


def shards() -> Rows:
    """A channel: with history one invocation delivers per shard, by jobs if there are several; without, jobs do."""
    for receivers in (10_000, 100_000):
        for count in (1, 4):
            plan = replace(queued(receivers), audience=CHANNEL, slices=count)
            yield f"no history, {count} shard{'s' * (count > 1)}", plan
        yield "history, 1 shard", Plan(receivers, memory_mb=DIRECT_MB, audience=KEPT)
        for count in (2, 4, 16):
            plan = Plan(receivers, slices=count, concurrency=JOBS_AT_ONCE, audience=KEPT)
            yield f"history, {count} shards", plan
        yield "history, 16 shards, 16 jobs at once", replace(plan, concurrency=16)


def latency() -> Rows:
    """A POST that takes longer, or less, than is assumed."""
    for post_ms in (5, 10, 20, 40):
        plan = replace(queued(100_000), post_seconds=post_ms / 1000)
        for count in (2, 4):
            yield f"{post_ms} ms, {count} jobs at once", replace(plan, concurrency=count, slices=2 * count)


TABLES: dict[str, Callable[[], Rows]] = {
    each.__name__: each for each in (ways, threshold, jobs, workers, shards, latency)
}


def time_row(name: str, tally: Tally) -> str:
    """Return the row of when receivers were sent the frame, and of what failed."""
    times = " | ".join(f"{tally.reached_by(share):,.2f}" for share in (0, 0.5, 0.99, 1))
    return f"| {tally.plan.receivers:,} | {name} | {times} | {tally.throttled:,} | {tally.failed:,} |"


def bill_row(name: str, tally: Tally) -> str:
    """Return the row of what was used, and its price in USD."""
    dollars = tally.dollars()
    parts = " | ".join(f"{dollars[service]:.4f}" for service in ("messages", "Lambda", "DynamoDB", "SQS"))
    requests = f"{tally.invocations:,} | {tally.gb_seconds:,.1f} | {tally.sqs_requests:,}"
    used = f"{requests} | {tally.reads:,.0f} | {tally.writes:,}"
    return f"| {tally.plan.receivers:,} | {name} | {used} | {parts} | {sum(dollars.values()):.4f} |"


TIMES = "| receivers | | first, s | half | 99 % | last | 429s | failed |\n|---|---|---|---|---|---|---|---|"
BILLS = (
    "| receivers | | invocations | GB-s | SQS | reads | writes | USD: messages | Lambda | DynamoDB | SQS | together |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(TABLES)}; by default all")
    parser.add_argument(
        "--quota", type=float, help="requests a second that the account may still make; burst is half of it"
    )
    parser.add_argument("--post-ms", type=float, help="the median time of a POST")
    parser.add_argument("--dead", type=float, help="the share of connections that are gone")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if unknown := set(options.tables) - set(TABLES):
        parser.error(f"There is no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}.")
    changes: dict[str, float] = {}
    if options.quota is not None:
        changes |= {"quota": options.quota, "burst": options.quota / 2}
    if options.post_ms is not None:
        changes["post_seconds"] = options.post_ms / 1000
    if options.dead is not None:
        changes["dead"] = options.dead
    for title in options.tables or TABLES:
        tallies = [
            (name, simulate(replace(plan, **changes), options.seed))  # type: ignore[arg-type]
            for name, plan in TABLES[title]()
        ]
        print(f"{title}: {TABLES[title].__doc__}\n\n{TIMES}")
        print(*(time_row(name, tally) for name, tally in tallies), sep="\n")
        print(f"\n{BILLS}")
        print(*(bill_row(name, tally) for name, tally in tallies), sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
