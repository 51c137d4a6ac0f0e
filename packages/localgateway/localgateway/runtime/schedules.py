"""When a schedule is due: EventBridge's `rate(...)` and `cron(...)` expressions. Pure; all times are UTC.

Source: "Setting a schedule pattern for scheduled rules" of the EventBridge user guide.
"""

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
LAST_YEAR = 2199


class Schedule(Protocol):
    """Tells when a schedule is due."""

    def next_after(self, moment: datetime) -> datetime | None:
        """Return when it is next due after a moment, None if never."""


class BadSchedule(ValueError):
    """The expression is not one that EventBridge accepts."""


def parse_schedule(expression: str) -> Schedule:
    """Read `rate(5 minutes)` or `cron(0 18 ? * MON-FRI *)`.

    Raises:
        BadSchedule: if it is neither.
    """
    rate = re.fullmatch(r"rate\(([1-9]\d*) (minute|hour|day)(s?)\)", expression.strip())
    if rate and (rate[1] == "1") is (rate[3] == ""):
        return Rate(int(rate[1]) * UNITS[rate[2]])
    cron = re.fullmatch(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)", expression.strip())
    if cron:
        return parse_cron(*cron.groups())
    raise BadSchedule(f"{expression!r} is no schedule: write rate(5 minutes) or cron(0 18 ? * MON-FRI *).")


@dataclass(frozen=True)
class Rate:
    """Due each time an interval has passed."""

    interval: timedelta

    def next_after(self, moment: datetime) -> datetime:
        return moment + self.interval


@dataclass(frozen=True)
class Cron:
    """Due at minutes, hours and days; a day must match month, year and the day field that is not `?`."""

    minutes: frozenset[int]
    hours: frozenset[int]
    day_of_month: str
    months: frozenset[int]
    day_of_week: str
    years: frozenset[int]

    def next_after(self, moment: datetime) -> datetime | None:
        start = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        for day in self._days_from(start.date()):
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    due = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                    if due >= start:
                        return due
        return None

    def _days_from(self, day: date) -> Iterator[date]:
        for year in sorted(self.years):
            for month in sorted(self.months):
                if (year, month) < (day.year, day.month):
                    continue
                for number in range(1, monthrange(year, month)[1] + 1):
                    candidate = date(year, month, number)
                    if candidate >= day and self._is_day(candidate):
                        yield candidate

    def _is_day(self, day: date) -> bool:
        if self.day_of_month != "?":
            return is_day_of_month(self.day_of_month, day)
        return is_day_of_week(self.day_of_week, day)


def parse_cron(minutes: str, hours: str, day_of_month: str, months: str, day_of_week: str, years: str) -> Cron:
    """Read the six fields of EventBridge's cron.

    Raises:
        BadSchedule: if a field is invalid, or not exactly one of the two day fields is `?`.
    """
    if (day_of_month == "?") is (day_of_week == "?"):
        raise BadSchedule("Exactly one of cron's day-of-month and day-of-week must be `?`.")
    # Read it once, so that a mistake is reported now and not when it is due.
    is_day_of_month(day_of_month, date(2026, 1, 1))
    is_day_of_week(day_of_week, date(2026, 1, 1))
    return Cron(
        minutes=parse_field(minutes, 0, 59),
        hours=parse_field(hours, 0, 23),
        day_of_month=day_of_month,
        months=parse_field(months, 1, 12, MONTHS),
        day_of_week=day_of_week,
        years=parse_field(years, 1970, LAST_YEAR),
    )


def parse_field(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    """Read lists, ranges and steps of numbers, or of names that stand for `low`, `low + 1` and so on.

    Raises:
        BadSchedule: if it is something else, or out of range.
    """

    def number(word: str) -> int:
        value = names.index(word.upper()) + low if word.upper() in names else int(word)
        if not low <= value <= high:
            raise ValueError(word)
        return value

    values: set[int] = set()
    try:
        for part in text.split(","):
            span, _, step = part.partition("/")
            first, dash, last = span.partition("-")
            if span == "*":
                start, end = low, high
            else:
                start = number(first)
                end = number(last) if dash else high if step else start
            values.update(range(start, end + 1, int(step or 1)))
    except ValueError:
        raise BadSchedule(f"{text!r} is no cron field of {low} to {high}.") from None
    if not values:
        raise BadSchedule(f"{text!r} is no cron field of {low} to {high}.")
    return frozenset(values)


def is_day_of_month(field: str, day: date) -> bool:
    """Tell whether a day matches: numbers, `?`, `L` for the last, `15W` for the weekday nearest the 15th."""
    last = monthrange(day.year, day.month)[1]
    if field == "?":
        return True
    if field == "L":
        return day.day == last
    if field.endswith("W"):
        (target,) = parse_field(field[:-1], 1, 31)
        return day == nearest_weekday(day.replace(day=min(target, last)))
    return day.day in parse_field(field, 1, 31)


def is_day_of_week(field: str, day: date) -> bool:
    """Tell whether a day matches: 1 to 7 from Sunday, `?`, `6L` for the last Friday, `6#2` for the second."""
    weekday = day.isoweekday() % 7 + 1
    if field == "?":
        return True
    if field == "L":
        return weekday == 7
    if field.endswith("L"):
        is_last = day.day + 7 > monthrange(day.year, day.month)[1]
        return weekday in parse_field(field[:-1], 1, 7, WEEKDAYS) and is_last
    name, nth, which = field.partition("#")
    if nth:
        (number,) = parse_field(which, 1, 5)
        return weekday in parse_field(name, 1, 7, WEEKDAYS) and (day.day - 1) // 7 + 1 == number
    return weekday in parse_field(field, 1, 7, WEEKDAYS)


def nearest_weekday(day: date) -> date:
    """Return the day itself, or the Friday or Monday beside a weekend day, without leaving the month."""
    shift = {6: -1, 7: 1}.get(day.isoweekday(), 0)
    moved = day + timedelta(days=shift)
    return moved if moved.month == day.month else day - timedelta(days=shift * 2)
