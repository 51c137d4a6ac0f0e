"""When a schedule is due: EventBridge's expressions, as its user guide explains them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgateway.runtime.schedules import BadSchedule, parse_schedule

# A Monday.
NOW = datetime(2026, 11, 23, 9, 30, 15, tzinfo=UTC)


class TestRates:
    @pytest.mark.parametrize(
        ("expression", "interval"),
        [
            ("rate(1 minute)", timedelta(minutes=1)),
            ("rate(5 minutes)", timedelta(minutes=5)),
            ("rate(1 hour)", timedelta(hours=1)),
            ("rate(7 days)", timedelta(days=7)),
        ],
    )
    def test_it_is_due_each_time_the_interval_has_passed(self, expression: str, interval: timedelta) -> None:
        assert parse_schedule(expression).next_after(NOW) == NOW + interval


class TestCron:
    @pytest.mark.parametrize(
        ("expression", "due"),
        [
            # The user guide's own examples.
            ("cron(0 10 * * ? *)", "2026-11-23T10:00"),
            ("cron(15 12 * * ? *)", "2026-11-23T12:15"),
            ("cron(0 18 ? * MON-FRI *)", "2026-11-23T18:00"),
            ("cron(0 8 1 * ? *)", "2026-12-01T08:00"),
            ("cron(0/15 * * * ? *)", "2026-11-23T09:45"),
            ("cron(0/10 * ? * MON-FRI *)", "2026-11-23T09:40"),
            ("cron(0/5 8-17 ? * MON-FRI *)", "2026-11-23T09:35"),
            ("cron(0 0/3 ? * * *)", "2026-11-23T12:00"),
            ("cron(0 9 ? * 2#1 *)", "2026-12-07T09:00"),
            ("cron(0 9 ? * 6L *)", "2026-11-27T09:00"),
            ("cron(0 9 L * ? *)", "2026-11-30T09:00"),
            ("cron(0 9 ? * L *)", "2026-11-28T09:00"),
            ("cron(0 9 28W * ? *)", "2026-11-27T09:00"),
            ("cron(0 9 1W 8 ? *)", "2027-08-02T09:00"),
            ("cron(0 9 29 2 ? *)", "2028-02-29T09:00"),
            ("cron(0 0 1 JAN,JUL ? 2027-2028)", "2027-01-01T00:00"),
        ],
    )
    def test_it_is_due_at_the_first_minute_that_satisfies_every_field(self, expression: str, due: str) -> None:
        assert parse_schedule(expression).next_after(NOW) == datetime.fromisoformat(due).replace(tzinfo=UTC)

    def test_the_minute_that_has_begun_is_over(self) -> None:
        at = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
        assert parse_schedule("cron(30 9 * * ? *)").next_after(at) == at + timedelta(days=1)

    def test_a_schedule_of_past_years_is_never_due(self) -> None:
        assert parse_schedule("cron(0 0 1 1 ? 2020)").next_after(NOW) is None

    @given(st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
    def test_it_is_always_due_later_than_now(self, moment: datetime) -> None:
        due = parse_schedule("cron(0/7 3,15 ? * TUE,SAT *)").next_after(moment)
        assert due
        assert due > moment
        assert (due.hour in (3, 15), due.minute % 7, due.isoweekday() in (2, 6)) == (True, 0, True)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "5 minutes",
        "rate(0 minutes)",
        "rate(1 minutes)",
        "rate(2 minute)",
        "rate(1 month)",
        "cron(* * * *)",
        "cron(0 0 * * * *)",
        "cron(0 0 ? * ? *)",
        "cron(60 0 * * ? *)",
        "cron(0 24 * * ? *)",
        "cron(0 0 32 * ? *)",
        "cron(0 0 ? * MOON *)",
        "cron(0 0 ? * 2#9 *)",
        "cron(5-1 0 * * ? *)",
        "cron(0/x 0 * * ? *)",
    ],
)
def test_what_eventbridge_would_refuse_is_refused(expression: str) -> None:
    with pytest.raises(BadSchedule):
        parse_schedule(expression)
