"""Connections that are kept: the latest first, none that has ended, none that a freeze may have lost."""

import socket
from collections.abc import Iterator

import pytest

from chalicelib.aws import keepalive
from chalicelib.aws.keepalive import Keepalive
from tests.conftest import Clock


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Three connections, each with its other end."""
    pairs = [socket.socketpair() for _ in range(3)]
    yield pairs
    for ends in pairs:
        for end in ends:
            end.close()


@pytest.fixture
def kept(clock: Clock) -> Keepalive:
    return Keepalive("127.0.0.1", 1, None, clock)


Pairs = list[tuple[socket.socket, socket.socket]]


def test_of_none_there_is_none_to_take(kept: Keepalive) -> None:
    assert kept.take() is None


def test_the_latest_is_taken_first_and_each_once(kept: Keepalive, pairs: Pairs) -> None:
    for ours, _ in pairs:
        kept.give(ours)
    assert [kept.take() for _ in range(4)] == [pairs[2][0], pairs[1][0], pairs[0][0], None]


def test_one_that_has_ended_meanwhile_is_passed_over(kept: Keepalive, pairs: Pairs, clock: Clock) -> None:
    for ours, _ in pairs:
        kept.give(ours)
    pairs[2][1].close()
    clock.now += keepalive.TRUSTED_SECONDS
    assert kept.take() is pairs[1][0]
    assert pairs[2][0].fileno() == -1


def test_one_with_something_to_read_that_nobody_asked_for_is_passed_over(
    kept: Keepalive, pairs: Pairs, clock: Clock
) -> None:
    kept.give(pairs[0][0])
    pairs[0][1].sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    clock.now += keepalive.TRUSTED_SECONDS
    assert kept.take() is None


def test_after_a_minute_none_is_taken_and_all_are_closed(kept: Keepalive, pairs: Pairs, clock: Clock) -> None:
    kept.give(pairs[0][0])
    clock.now += keepalive.MAX_IDLE_SECONDS
    kept.give(pairs[1][0])
    assert kept.take() is pairs[1][0]
    kept.give(pairs[1][0])
    clock.now += 0.1
    assert kept.take() is pairs[1][0]
    assert pairs[0][0].fileno() == -1


def test_an_app_that_is_dropped_leaves_none_open(pairs: Pairs) -> None:
    kept = Keepalive("127.0.0.1", 1, None)
    kept.give(pairs[0][0])
    del kept
    assert pairs[0][0].fileno() == -1


def test_time_that_has_run_out_is_not_exceeded(kept: Keepalive, clock: Clock) -> None:
    with pytest.raises(TimeoutError):
        kept.dial(connect_seconds=1, until=clock.now)


def test_each_address_of_a_host_is_tried(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Of localhost's addresses, ::1 comes first on most machines, and nobody listens there.
        connection = Keepalive("localhost", listener.getsockname()[1], None, clock).dial(1, clock.now + 5)
        connection.close()


def test_a_host_without_an_address_is_an_error(clock: Clock) -> None:
    with pytest.raises(OSError, match="not known|resolution"):
        Keepalive("nobody.invalid", 443, None, clock).dial(1, clock.now + 5)
