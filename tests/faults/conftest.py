"""What fault tests share: the whole service over a way to DynamoDB that fails when told, and receivers that end."""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import boto3
import pytest

from chalicelib.limits import LIMITS
from chalicelib.peal import Peal
from chalicelib.peal import build as build_peal
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.settings import Settings
from tests.conftest import Clock
from tests.support.dynamodb_way import Way, leading_to, lost, refused
from tests.support.fakes import FakeJobs
from tests.support.followers import Sockets

DOWN = 10_000


class Killed(BaseException):
    """The Lambda ends here: nothing of it runs any more."""


@pytest.fixture(scope="session")
def open_way(aws: None) -> Iterator[Way]:
    with leading_to(os.environ["AWS_ENDPOINT_URL_DYNAMODB"]) as way:
        yield way


@pytest.fixture
def way(open_way: Way, monkeypatch: pytest.MonkeyPatch) -> Way:
    """The way that all clients of DynamoDB take which are made in this test."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", open_way.endpoint)
    open_way.clear()
    open_way.asked.clear()
    return open_way


@pytest.fixture
def api() -> Sockets:
    return Sockets()


Build = Callable[..., Peal]


@pytest.fixture
def build(way: Way, table_name: str, api: Sockets, session: boto3.session.Session, jobs: FakeJobs) -> Build:
    """Builds the service as a Lambda instance would, over the same table."""

    def build(
        clock: Callable[[], float], publication_seconds: float = LIMITS.publication_seconds, **options: Any
    ) -> Peal:
        settings = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING, **options)
        limits = LIMITS._replace(publication_seconds=publication_seconds)
        return build_peal(settings, api, session, clock, jobs=jobs, sleep=lambda _: None, limits=limits)

    return build


RowsOf = Callable[[str], list[str]]


@pytest.fixture
def rows_of(dynamodb: Any, table_name: str) -> RowsOf:
    """Where rows of a connection stand: its own, and its memberships."""

    def scan(connection_id: str) -> list[str]:
        items = dynamodb.scan(TableName=table_name, ConsistentRead=True)["Items"]
        found = [(item["PK"]["S"], item["SK"]["S"]) for item in items]
        return [pk for pk, sk in found if f"CONN#{connection_id}" in (pk, sk)]

    return scan


@pytest.fixture
def peal(build: Build, clock: Clock) -> Peal:
    # The clock stands still, so waiting for it would take for ever.
    return build(clock, publication_seconds=0)


class Round:
    """While its block runs, requests to DynamoDB fail after a number that succeed.

    They are refused, take place and their answer is lost, or are refused as are all that follow.
    """

    FAULTS: ClassVar = {"refused": (refused(), 1), "lost": (lost, 1), "down": (refused(), DOWN)}

    def __init__(self, way: Way, name: str, after: int) -> None:
        self.name, self.after = name, after
        self._way = way
        self.struck: list[str] = []

    def __enter__(self) -> None:
        fault, times = self.FAULTS[self.name]
        self._strikes = self._way.fails(fault, after=self.after, times=times)

    def __exit__(self, *_: object) -> None:
        self._way.clear()
        self.struck = self._strikes.struck

    def __repr__(self) -> str:
        return f"{self.name}, request {self.after + 1}: {self.struck[:1]}"


def each_request_fails(way: Way) -> Iterator[Round]:
    """Rounds in which each request fails that their block makes, in each way that it can, until there is no such."""
    for name in Round.FAULTS:
        for after in itertools.count():
            round_ = Round(way, name, after)
            yield round_
            if not round_.struck:
                assert after, "nothing was asked"
                break
