"""Every number that the model of a fan-out uses, with its source; prices are in `prices`.

`Measured` names the benchmark. `AWS` is said on a page of AWS. `Memory` is what is generally known and was not checked.
Nothing was measured on AWS.
"""

import math
from typing import Final, NamedTuple

from chalicelib.aws.management import WORKERS, ManagementClient
from chalicelib.delivery.delivery import CONFIRM_AFTER_SECONDS as CONFIRM_AFTER_SECONDS

# API Gateway. Memory: the median time of a POST to @connections, and the spread of a lognormal around it: the mean is
# 13 % more, one in a hundred takes three times as long.
POST_SECONDS: Final = 0.010
POST_SIGMA: Final = 0.5
# AWS: requests a second, and at once, of an account in one Region; callbacks count as requests.
ACCOUNT_QUOTA: Final = 10_000
ACCOUNT_BURST: Final = 5_000

# Lambda. Memory: a whole CPU from this size on; Python cannot use more.
WHOLE_CPU_MB: Final = 1_769
# Measured, bench_cold_start.py: a fifth of a second of import; the rest is memory. Measured: a TLS handshake's CPU.
COLD_SECONDS: Final = 0.4
HANDSHAKE_SECONDS: Final = 0.00084
# AWS: invocations at once in an account.
ACCOUNT_CONCURRENCY: Final = 1_000
# The timeout of 60 s without the 10 s that delivery keeps for sends under way.
SENDING_SECONDS: Final = 50

# SQS and its poller. AWS: 5 batches at once, up to 300 more a minute. Memory: the times.
SEND_SECONDS: Final = 0.008
POLL_SECONDS: Final = 0.05
FIRST_POLLERS: Final = 5
POLLERS_A_SECOND: Final = 5.0

# DynamoDB. AWS: a page, and the read units that one partition gives in a second. Memory: the times, and how many
# partitions the index of a new table has; they grow with use.
PAGE_BYTES: Final = 1_048_576
PARTITION_READ_UNITS: Final = 3_000
INDEX_PARTITIONS: Final = 4
PAGE_SECONDS: Final = 0.010
PAGE_MB_SECONDS: Final = 0.060
# Measured locally: CPU of the calls that close and forget a connection.
PRUNE_SECONDS: Final = 0.0004


class Sender(NamedTuple):
    """How one invocation sends.

    Attributes:
        name: as in the tables.
        at_once: how many POSTs are under way at most.
        cpu_us: microseconds of a whole CPU for each.
        tries, pause_seconds, begin_seconds: how often a POST is tried that is answered 429; anything up to the pause,
            which doubles, lies between two tries; none begins later than that after the first.
        most_a_second: how many POSTs are begun in a second; 0 is as many as can be.
    """

    name: str
    at_once: int
    cpu_us: float
    tries: int = ManagementClient.limits.tries
    pause_seconds: float = ManagementClient.limits.first_pause_seconds
    begin_seconds: float = ManagementClient.limits.begin_seconds
    most_a_second: float = 0

    def rate(self, memory_mb: int, post_seconds: float = POST_SECONDS) -> float:
        """Return the POSTs a second while none is refused, by arithmetic: a closed queue before one CPU."""
        cpu_seconds, waiting, rate = self.cpu_us / 1e6 / cpu_share(memory_mb), 0.0, 0.0
        for under_way in range(1, self.at_once + 1):
            turn_seconds = cpu_seconds * (1 + waiting)
            rate = under_way / (mean_of(post_seconds) + turn_seconds)
            waiting = rate * turn_seconds
        return min(rate, self.most_a_second) if self.most_a_second else rate


# Measured: bench_fanout.py at 10 ms; Peal's 81 us with a CPU of its own, 110 where a control group gives it one of two.
# boto3's pause is up to a second, and three tries are its default (memory).
PEAL: Final = Sender("Peal", WORKERS["lean"], 110)
THREADS: Final = Sender("boto3, 32 threads", 32, 1_132, tries=3, pause_seconds=1)
SEQUENTIAL: Final = Sender("boto3, one after another", 1, 2_532, tries=3, pause_seconds=1)


class Audience(NamedTuple):
    """What reading one receiver costs, and what is written for it.

    Attributes:
        name: as in the tables.
        row_bytes, row_units: the size of its row, and the read units for it.
        row_us, job_row_us: microseconds of a whole CPU for it, and in a job, which reads its position too.
        partitions: the number that the rows are spread over; 0: each slice, a shard, is one.
        writes, slice_writes: write units of a fan-out, and of each of its slices, without another publisher. A lease
            that is held for more than 7.5 s costs some more.
    """

    name: str
    row_bytes: int
    row_units: float
    row_us: float
    job_row_us: float
    partitions: int = 0
    writes: int = 0
    slice_writes: int = 0

    @property
    def page_rows(self) -> int:
        """Return how many receivers are read at a time."""
        return PAGE_BYTES // self.row_bytes


# Measured: bench_cost.py; longer ids make longer rows. CPU is local, through Registry and Members.
EVERYONE: Final = Audience("everyone", 91, 229.5 / 20_204, 2, 8, INDEX_PARTITIONS)
CHANNEL: Final = Audience("channel", 74, 182 / 10_000, 2, 2)
KEPT: Final = Audience("channel with history", 74, 181 / 10_000, 2, 2, writes=2, slice_writes=2)


def read_seconds(size_bytes: int) -> float:
    """Return how long DynamoDB takes to answer with that much."""
    return PAGE_SECONDS + PAGE_MB_SECONDS * size_bytes / PAGE_BYTES


def cpu_share(memory_mb: int) -> float:
    """Return the share of a CPU that Python has in a function of that size."""
    return min(1, memory_mb / WHOLE_CPU_MB)


def mean_of(post_seconds: float) -> float:
    """Return the mean time of a POST with that median."""
    return post_seconds * math.exp(POST_SIGMA**2 / 2)
