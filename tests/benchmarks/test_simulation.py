"""tools/benchmarks/simulate.py: the model of a fan-out can be believed, and docs/SCALING.md says what it says."""

import math
import random
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from chalicelib.store.keys import ANONYMOUS_SHARDS
from tests.conftest import PROJECT
from tools.benchmarks import metering, prices, simulate
from tools.benchmarks.assumptions import CHANNEL, EVERYONE, KEPT, PEAL, SEQUENTIAL, THREADS, Audience, Sender
from tools.benchmarks.fanout_model import Plan, Tally, Throttle, cut
from tools.benchmarks.fanout_model import simulate as play

QUEUED = Plan(20_000, slices=4, concurrency=2)
STORM = Plan(20_000, slices=20, concurrency=20, dead=0.05)
STAGGERED = Plan(20_000, PEAL._replace(cpu_us=1, most_a_second=100), slices=40, concurrency=40, warm=40, dead=0)
PLANS = {
    "sent by whoever is asked": Plan(5_000),
    "through the queue": QUEUED,
    "in the shards of a channel with history": replace(QUEUED, audience=KEPT),
    "with few POSTs at once": Plan(2_000, SEQUENTIAL._replace(at_once=3)),
    "with many dead": replace(QUEUED, dead=0.3),
    "with nobody alive": Plan(3_000, dead=1),
    "more often refused than tried": STORM,
    "refused for longer than anybody is patient": replace(
        STORM, receivers=4_000, quota=500, burst=50, patience_seconds=1
    ),
    "queued again after so many": replace(QUEUED, most=700),
    "queued again after so long": replace(QUEUED, seconds=0.2, dead=0.05),
    "cut off without a queue": Plan(20_000, seconds=1),
    "with more slices than receivers": Plan(5, slices=16, concurrency=8),
    "in lumps that cannot be cut": replace(QUEUED, lumps=8),
    "with more workers than pollers": replace(STAGGERED, receivers=4_000),
    "to nobody": Plan(0, slices=4, concurrency=2),
    "to nobody, by whoever is asked": Plan(0),
}


class TestReceivers:
    @pytest.mark.slow
    @pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
    def test_end_once_each(self, plan: Plan) -> None:
        tally = play(plan)
        assert tally.sent + tally.gone + tally.failed == plan.receivers

    @pytest.mark.parametrize("plan", ["queued again after so many", "queued again after so long"])
    def test_that_a_job_leaves_are_another_job_and_none_fails(self, plan: str) -> None:
        tally = play(PLANS[plan])
        assert tally.failed == 0
        assert tally.invocations > 1 + 4 + 8

    def test_that_are_refused_are_sent_to_later_by_a_patient_sender(self) -> None:
        hasty, patient = play(STORM), play(replace(STORM, patience_seconds=5))
        assert hasty.failed > 0
        assert (patient.failed, patient.throttled > 0) == (0, True)

    def test_that_are_left_without_a_queue_have_failed(self) -> None:
        assert play(PLANS["cut off without a queue"]).failed > 0

    def test_that_are_dead_are_gone_after_a_second_post_and_three_writes(self) -> None:
        tally = play(PLANS["with nobody alive"])
        assert (tally.sent, tally.gone, tally.writes) == (0, 3_000, 3 * 3_000)
        assert sum(count for _, count in tally.admitted) == 2 * 3_000

    def test_are_of_about_the_same_size_but_for_lumps(self) -> None:
        chance = random.Random(1)
        sizes = cut(QUEUED, chance)
        assert sum(sizes) == 20_000
        assert all(0 < abs(size - 5_000) < 400 for size in sizes)
        lumps = cut(replace(QUEUED, lumps=ANONYMOUS_SHARDS, slices=16), chance)
        assert sum(lumps) == 20_000
        assert lumps.count(0) >= 16 - ANONYMOUS_SHARDS


@pytest.mark.slow
class TestSpeed:
    @pytest.mark.parametrize("memory_mb", [512, 1_024, 1_769, 3_008])
    @pytest.mark.parametrize("sender", [PEAL, THREADS, PEAL._replace(name="paced", most_a_second=1_500)])
    def test_of_one_invocation_is_what_arithmetic_says(self, sender: Sender, memory_mb: int) -> None:
        # One page: reading is no part of that arithmetic.
        tally = play(Plan(10_000, sender, memory_mb, quota=1e6, burst=1e6, dead=0, seconds=math.inf))
        assert tally.sent / (tally.reached_by(1) - tally.reached_by(0)) == pytest.approx(
            sender.rate(memory_mb), rel=0.04
        )

    def test_of_sending_one_after_another_is_a_post_and_its_cpu(self) -> None:
        tally = play(Plan(2_000, SEQUENTIAL, dead=0))
        assert tally.reached_by(1) / 2_000 == pytest.approx(0.0113 + 0.0025, rel=0.05)

    def test_is_that_of_five_jobs_at_first_and_of_five_more_a_second_later(self) -> None:
        in_the_third_second = sum(count for time, count in play(STAGGERED).reached if 2 <= time < 3)
        assert in_the_third_second == pytest.approx(100 * (5 + 5 * 2.4), rel=0.05)

    def test_is_less_after_a_cold_start(self) -> None:
        cold, warm = (play(replace(QUEUED, warm=warm)).reached_by(0) for warm in (0, 2))
        assert cold - warm == pytest.approx(0.4, abs=0.02)

    def test_of_reading_is_bounded_by_what_a_partition_gives(self) -> None:
        # 6,000 units, of which one partition gives 3,000 a second.
        plan = Plan(6_000, slices=4, concurrency=4, dead=0, audience=CHANNEL._replace(row_units=1, partitions=1))
        one, four = play(plan), play(replace(plan, audience=plan.audience._replace(partitions=4)))
        assert one.reached_by(1) > 2 > four.reached_by(1)

    def test_does_not_go_back_and_a_seed_repeats_it(self) -> None:
        first, same, other = play(STORM, 1), play(STORM, 1), play(STORM, 2)
        assert all(one[0] <= following[0] for one, following in pairwise(first.reached))
        assert (first.reached, first.throttled, first.lambda_seconds) == (
            same.reached,
            same.throttled,
            same.lambda_seconds,
        )
        assert first.reached != other.reached

    def test_of_sending_to_nobody_is_no_number(self) -> None:
        assert math.isnan(Tally(QUEUED).reached_by(0.5))


@pytest.mark.slow
class TestTheThrottle:
    @pytest.mark.parametrize("plan", [STORM, replace(STORM, quota=2_500, burst=1_250)])
    def test_admits_no_more_in_any_second_than_the_quota_and_the_burst(self, plan: Plan) -> None:
        tally = play(plan)
        assert tally.throttled > 0
        first, within = 0, 0
        for time, count in tally.admitted:
            within += count
            while tally.admitted[first][0] <= time - 1:
                within -= tally.admitted[first][1]
                first += 1
            assert within <= plan.quota + plan.burst

    def test_admits_the_quota_once_the_burst_is_used(self) -> None:
        tally = play(replace(STORM, receivers=45_000, concurrency=4, slices=4))
        assert sum(count for time, count in tally.admitted if 2 <= time < 4) == pytest.approx(20_000, rel=0.02)

    def test_holds_no_more_than_its_burst(self) -> None:
        bucket = Throttle(rate=10, burst=5)
        assert [bucket.take(*asked) for asked in [(0, 8), (0.1, 8), (100, 8)]] == [5, 1, 5]

    def test_makes_many_jobs_at_once_lose_frames_and_two_none(self) -> None:
        many, two = (play(Plan(35_000, slices=count, concurrency=count)) for count in (20, 2))
        assert (many.failed > 100, two.failed) == (True, 0)


class TestTheBill:
    @pytest.mark.parametrize("audience", [EVERYONE, CHANNEL, KEPT])
    def test_is_counts_times_prices(self, audience: Audience) -> None:
        tally = play(replace(QUEUED, audience=audience))
        # Whoever is asked reads a page too.
        assert tally.reads == pytest.approx((20_000 + audience.page_rows) * audience.row_units)
        assert tally.writes == audience.writes + 4 * audience.slice_writes + 3 * tally.gone
        # Each of the four jobs is sent, received and deleted.
        assert (tally.sqs_requests, tally.invocations) == (4 * 3, 1 + 4)
        assert tally.dollars() == {
            "messages": pytest.approx(tally.sent * prices.MESSAGE / 1e6),
            "Lambda": pytest.approx(
                (5 * prices.LAMBDA_REQUEST + tally.lambda_seconds * 1_769 / 1_024 * prices.LAMBDA_GB_S) / 1e6
            ),
            "DynamoDB": pytest.approx((tally.reads * prices.READ_UNIT + tally.writes * prices.WRITE_UNIT) / 1e6),
            "SQS": pytest.approx(12 * prices.SQS_REQUEST / 1e6),
        }

    def test_of_jobs_that_take_few_is_no_more_than_they_take(self) -> None:
        tally = play(Plan(20_000, concurrency=2, most=5_000, dead=0))
        assert tally.invocations == 1 + 4
        assert tally.reads == pytest.approx((EVERYONE.page_rows + 20_000) * EVERYONE.row_units, rel=0.001)

    def test_has_the_prices_of_the_other_benchmark(self) -> None:
        assert metering.MESSAGE is prices.MESSAGE


class TestTheDocument:
    """docs/SCALING.md: rows are as they are printed."""

    PAGE = (PROJECT / "docs" / "SCALING.md").read_text()

    @pytest.mark.slow
    @pytest.mark.parametrize("table", ["ways", "threshold", "jobs", "shards"])
    def test_has_what_the_model_says_of_up_to_20_000(self, table: str) -> None:
        shown = 0
        for name, plan in simulate.TABLES[table]():
            start = f"| {plan.receivers:,} | {name} | "
            if plan.receivers <= 20_000 and start in self.PAGE:
                row, shown = simulate.time_row(name, play(plan)), shown + 1
                assert row in self.PAGE, f"python tools/benchmarks/simulate.py {table} says {row}"
        assert shown > 2

    def test_says_of_every_table_how_it_is_made(self) -> None:
        assert set(re.findall(r"simulate\.py (\w+)`", self.PAGE)) == set(simulate.TABLES)

    def test_is_of_as_many_jobs_at_once_as_there_are(self) -> None:
        assert f"\nJOBS_AT_ONCE = {simulate.JOBS_AT_ONCE}\n" in (PROJECT / "app.py").read_text()
