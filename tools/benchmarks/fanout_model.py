"""A fan-out as a queue of events: when receivers are reached, what AWS refuses, and what is used of it.

One frame to many receivers: slices of the audience become jobs, jobs become invocations, and each of these reads its
receivers page by page and POSTs to several at once. POSTs are simulated four at a time: they share one latency, and
are admitted and answered one by one. Two runs with the same seed are equal.

Invariant: every receiver ends once, as reached, gone or failed.
"""

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from typing import Final, NamedTuple

from tools.benchmarks import assumptions as aws
from tools.benchmarks import prices
from tools.benchmarks.assumptions import Audience, Sender, cpu_share

# With one at a time the rate is that of `Sender.rate`; with four 3 % less where CPU and waiting are about equal.
AT_A_TIME: Final = 4


@dataclass(frozen=True)
class Plan:
    """One fan-out.

    Attributes:
        receivers: the number of connections.
        sender, memory_mb: how an invocation sends, and the size of its function.
        slices: the number of jobs that the audience is cut into at first.
        concurrency: the most jobs at once; 0: no jobs, the calling function sends itself.
        most, seconds: how many receivers a job takes, and for how long; the rest becomes another job, or without jobs
            has failed.
        patience_seconds: how long to try again after every try of the sender was refused.
        audience: the rows that are read.
        lumps: the number of equal partitions of the audience, none of which can be cut; 0: cut it anywhere.
        quota, burst: the account's limits: requests a second, and at once.
        post_seconds: the median time of a POST.
        dead, memberships: the share of connections that are gone and not forgotten, and in how many channels each is.
        warm: the number of environments that are warm at first.
    """

    receivers: int
    sender: Sender = aws.PEAL
    memory_mb: int = aws.WHOLE_CPU_MB
    slices: int = 1
    concurrency: int = 0
    most: float = math.inf
    seconds: float = aws.SENDING_SECONDS
    patience_seconds: float = 0
    audience: Audience = aws.EVERYONE
    lumps: int = 0
    quota: float = aws.ACCOUNT_QUOTA
    burst: float = aws.ACCOUNT_BURST
    post_seconds: float = aws.POST_SECONDS
    dead: float = 0.005
    memberships: int = 1
    warm: int = 0


@dataclass
class Tally:
    """The outcome: how receivers ended, when, and what was used.

    Attributes:
        reached, admitted: a time in seconds, and how many frames were written then, or POSTs not refused.
        gone, failed: how many receivers ended this way.
        throttled: how many POSTs were answered 429.
        invocations, lambda_seconds: the calling function is included.
        sqs_requests, reads, writes: requests, and units of DynamoDB.
    """

    plan: Plan
    reached: list[tuple[float, int]] = field(default_factory=list)
    admitted: list[tuple[float, int]] = field(default_factory=list)
    gone: int = 0
    failed: int = 0
    throttled: int = 0
    invocations: int = 0
    lambda_seconds: float = 0
    sqs_requests: int = 0
    reads: float = 0
    writes: int = 0

    @property
    def sent(self) -> int:
        return sum(count for _, count in self.reached)

    @property
    def gb_seconds(self) -> float:
        return self.lambda_seconds * self.plan.memory_mb / 1024

    def reached_by(self, share: float) -> float:
        """Return the time, in seconds, when that share of the reached receivers was reached; 0 is the first."""
        wanted, so_far = share * self.sent, 0
        for time, count in self.reached:
            so_far += count
            if so_far >= wanted:
                return time
        return math.nan

    def dollars(self) -> dict[str, float]:
        """Return USD by service, if only POSTs that wrote a frame are billed."""
        millionths = {
            "messages": self.sent * prices.MESSAGE,
            "Lambda": self.invocations * prices.LAMBDA_REQUEST + self.gb_seconds * prices.LAMBDA_GB_S,
            "DynamoDB": self.reads * prices.READ_UNIT + self.writes * prices.WRITE_UNIT,
            "SQS": self.sqs_requests * prices.SQS_REQUEST,
        }
        return {service: amount / 1e6 for service, amount in millionths.items()}


class Job(NamedTuple):
    """Receivers of a slice that are still to be reached."""

    slice: int
    receivers: int


class Again(NamedTuple):
    """Receivers to try again: they answered 410, or have been refused since that time."""

    due_at: float
    count: int
    is_second: bool
    refused_at: float | None = None


class Throttle:
    """A token bucket, as AWS describes API Gateway's; the real one follows it only roughly."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, 0.0

    def take(self, now: float, count: int) -> int:
        """Return how many of the requests are admitted."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        admitted = min(count, int(self._tokens))
        self._tokens -= admitted
        return admitted


class FanOut:
    """One fan-out: the clock, what all invocations share, and the queue between them."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.tally = Tally(plan)
        self.random = random.Random(seed)
        self.now = 0.0
        self.throttle = Throttle(plan.quota, plan.burst)
        # When each partition will have answered its requests so far.
        self.partitions = [0.0] * (plan.audience.partitions or plan.slices)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._jobs: deque[Job] = deque()
        self._running = 0
        self._used, self._warm = 0, plan.warm

    def run(self) -> Tally:
        """Run until every receiver has ended."""
        plan = self.plan
        self.tally.writes += plan.audience.writes + plan.audience.slice_writes * plan.slices
        if plan.concurrency:
            self._ask([Job(number, count) for number, count in enumerate(cut(plan, self.random)) if count])
        else:
            # The calling function already runs; the connections that it keeps may have ended.
            Invocation(self, Job(0, plan.receivers), has_connections=False).start()
        while self._events:
            self.now, _, act = heappop(self._events)
            act()
        return self.tally

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Schedule `act` that much later."""
        self._scheduled += 1
        heappush(self._events, (self.now + seconds, self._scheduled, act))

    def ended(self, rest: Job) -> None:
        """End an invocation that leaves `rest` to another."""
        if not self.plan.concurrency:
            self.tally.failed += rest.receivers
            return
        self._used += 1
        self._running -= 1
        if rest.receivers:
            self._queue(rest, aws.SEND_SECONDS)
        self._dispatch()

    def _ask(self, jobs: list[Job]) -> None:
        """Have the calling function read a page, see that there are too many receivers, and queue the jobs."""
        audience = self.plan.audience
        rows = min(self.plan.receivers, audience.page_rows)
        self.tally.invocations += 1
        self.tally.reads += rows * audience.row_units
        seconds = aws.read_seconds(rows * audience.row_bytes) + rows * audience.row_us / 1e6
        for job in jobs:
            seconds += aws.SEND_SECONDS
            self._queue(job, seconds)
        self.tally.lambda_seconds += seconds

    def _queue(self, job: Job, seconds: float) -> None:
        self.tally.sqs_requests += 1
        self.after(seconds + aws.POLL_SECONDS, partial(self._put, job))

    def _put(self, job: Job) -> None:
        self._jobs.append(job)
        self._dispatch()

    def _dispatch(self) -> None:
        most = min(self.plan.concurrency, aws.ACCOUNT_CONCURRENCY)
        pollers = aws.FIRST_POLLERS + aws.POLLERS_A_SECOND * self.now
        while self._jobs and self._running < min(most, int(pollers)):
            self._running += 1
            # Received, and deleted at the end.
            self.tally.sqs_requests += 2
            self._start(self._jobs.popleft())
        if self._jobs and int(pollers) < most and self._running >= int(pollers):
            self.after((int(pollers) + 1.001 - pollers) / aws.POLLERS_A_SECOND, self._dispatch)

    def _start(self, job: Job) -> None:
        init_seconds = 0 if self._used or self._warm else aws.COLD_SECONDS
        Invocation(self, job, has_connections=self._used > 0, init_seconds=init_seconds).start()
        if self._used:
            self._used -= 1
        elif self._warm:
            self._warm -= 1


class Invocation:
    """One run of the function over one job."""

    def __init__(self, fan_out: FanOut, job: Job, has_connections: bool, init_seconds: float = 0) -> None:
        self._of, self._plan, self._tally = fan_out, fan_out.plan, fan_out.tally
        self._sender, self._slice = fan_out.plan.sender, job.slice
        self._stretch = 1 / cpu_share(self._plan.memory_mb)
        # All are read before the first send, to see whether they are too many; with history none is.
        self._reads_ahead = not (self._plan.concurrency or self._plan.audience.slice_writes)
        self._row_us = self._plan.audience.job_row_us if self._plan.concurrency else self._plan.audience.row_us
        self._batch = min(AT_A_TIME, self._sender.at_once)
        self._idle, self._is_over = self._sender.at_once, False
        self._unread, self._ready, self._is_reading = job.receivers, 0, False
        self._may_take = min(self._plan.most, job.receivers)
        self._again: deque[Again] = deque()
        self._began_at, self._init_seconds = fan_out.now, init_seconds
        # When the CPU, and the pace, allow the next POST.
        self._cpu_at = self._pace_at = fan_out.now + init_seconds
        if not has_connections:
            self._compute(aws.HANDSHAKE_SECONDS * min(self._sender.at_once, job.receivers))
        self._until = self._cpu_at + self._plan.seconds

    def start(self) -> None:
        self._tally.invocations += 1
        self._of.after(self._init_seconds, self._go_on)

    def _go_on(self) -> None:
        """Send to the next receivers as far as threads are idle; end the invocation when none is left."""
        now = self._of.now
        if now >= self._until:
            self._may_take = 0
        while self._idle >= self._batch:
            if self._again and (self._again[0].due_at <= now or not self._may_take):
                self._take(self._again.popleft())
            elif self._ready and self._may_take:
                some = int(min(self._batch, self._ready, self._may_take))
                self._ready -= some
                self._may_take -= some
                self._take(Again(now, some, is_second=False))
            else:
                if self._may_take and not self._is_reading:
                    self._read()
                break
        is_done = not (self._may_take or self._again or self._is_reading)
        if is_done and self._idle == self._sender.at_once and not self._is_over:
            self._is_over = True
            self._tally.lambda_seconds += now - self._began_at
            self._of.ended(Job(self._slice, self._ready + self._unread))

    def _read(self) -> None:
        audience, now, partitions = self._plan.audience, self._of.now, self._of.partitions
        # A job with that many receivers takes no more.
        rows = int(min(self._unread, audience.page_rows, self._plan.most))
        units = rows * audience.row_units
        self._tally.reads += units
        which = self._slice % len(partitions)
        partitions[which] = max(now, partitions[which]) + units / aws.PARTITION_READ_UNITS
        self._is_reading = True
        seconds = aws.read_seconds(rows * audience.row_bytes)
        self._of.after(max(seconds, partitions[which] - now), partial(self._parse, rows))

    def _parse(self, rows: int) -> None:
        self._compute(rows * self._row_us / 1e6)
        self._of.after(self._cpu_at - self._of.now, partial(self._came, rows))

    def _came(self, rows: int) -> None:
        self._is_reading, self._unread, self._ready = False, self._unread - rows, self._ready + rows
        if self._reads_ahead and self._unread:
            self._read()
        else:
            self._go_on()

    def _take(self, some: Again) -> None:
        self._idle -= some.count
        if some.due_at > self._of.now:
            self._of.after(some.due_at - self._of.now, partial(self._post, some))
        else:
            self._post(some)

    def _post(self, some: Again, tries: int = 1, first_at: float | None = None) -> None:
        begin_at = max(self._of.now, self._cpu_at, self._pace_at)
        if self._sender.most_a_second:
            self._pace_at = begin_at + some.count / self._sender.most_a_second
        self._cpu_at = begin_at
        self._compute(some.count * self._sender.cpu_us / 1e6)
        answered_at = self._cpu_at + self._of.random.lognormvariate(math.log(self._plan.post_seconds), aws.POST_SIGMA)
        first_at = begin_at if first_at is None else first_at
        self._of.after(answered_at - self._of.now, partial(self._answered, some, tries, first_at))

    def _answered(self, some: Again, tries: int, first_at: float) -> None:
        now, sender = self._of.now, self._sender
        admitted = self._of.throttle.take(now, some.count)
        refused = some.count - admitted
        if admitted:
            self._tally.admitted.append((now, admitted))
            self._end(admitted, some.is_second)
        if refused:
            self._tally.throttled += refused
            pause = self._of.random.random() * sender.pause_seconds * 2 ** (tries - 1)
            since = now if some.refused_at is None else some.refused_at
            if tries < sender.tries and now + pause <= first_at + sender.begin_seconds:
                self._of.after(pause, partial(self._post, some._replace(count=refused), tries + 1, first_at))
            elif now - since < self._plan.patience_seconds:
                self._idle += refused
                self._again.append(Again(now + aws.CONFIRM_AFTER_SECONDS, refused, some.is_second, since))
            else:
                self._tally.failed += refused
                self._idle += refused
        self._go_on()

    def _end(self, count: int, is_second: bool) -> None:
        """Count the admitted requests: each reached its receiver, or was answered 410."""
        now = self._of.now
        self._idle += count
        if is_second:
            self._tally.gone += count
            self._tally.writes += count * (2 + self._plan.memberships)
            self._compute(count * aws.PRUNE_SECONDS)
            return
        dead = sum(self._of.random.random() < self._plan.dead for _ in range(count))
        if dead:
            self._again.append(Again(now + aws.CONFIRM_AFTER_SECONDS, dead, is_second=True))
        if count > dead:
            self._tally.reached.append((now, count - dead))

    def _compute(self, seconds: float) -> None:
        self._cpu_at = max(self._of.now, self._cpu_at) + seconds * self._stretch


def simulate(plan: Plan, seed: int = 1) -> Tally:
    """Simulate a fan-out, from the request until every receiver has ended."""
    return FanOut(plan, seed).run()


def cut(plan: Plan, chance: random.Random) -> list[int]:
    """Return the number of receivers of each slice; hashes of their keys decide, so they vary a little."""
    sizes = [0] * plan.slices
    if plan.lumps:
        for lump in range(plan.lumps):
            first, last = (plan.receivers * edge // plan.lumps for edge in (lump, lump + 1))
            sizes[chance.randrange(plan.slices)] += last - first
        return sizes
    left = plan.receivers
    for number in range(plan.slices - 1):
        mean, rest = left / (plan.slices - number), 1 - 1 / (plan.slices - number)
        sizes[number] = min(left, max(0, round(chance.gauss(mean, math.sqrt(mean * rest)))))
        left -= sizes[number]
    sizes[-1] = left
    return sizes
