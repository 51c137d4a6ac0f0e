"""Work that threads share: each piece is done once, waits for no other, and errors end it in order."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar

import pytest

from chalicelib.delivery.threads import one_cpu, share


def takes(*pieces: str) -> Callable[[], str | None]:
    """Return what takes one piece after another, then None."""
    left = deque(pieces)
    return lambda: left.popleft() if left else None


class TestSharing:
    @pytest.mark.parametrize("workers", [1, 2, 8])
    @pytest.mark.parametrize("pieces", [0, 1, 2, 100])
    def test_every_piece_is_done_once(self, workers: int, pieces: int) -> None:
        done: list[str] = []
        share(takes(*map(str, range(pieces))), done.append, workers)
        assert sorted(done, key=int) == list(map(str, range(pieces)))

    def test_at_most_so_many_pieces_run_at_once(self) -> None:
        together = threading.Barrier(8, timeout=10)
        share(takes(*"abcdefgh" * 5), lambda _: together.wait(), 8)
        now: list[int] = []
        most = 0

        def work(_: str) -> None:
            nonlocal most
            now.append(1)
            most = max(most, len(now))
            time.sleep(0.001)
            now.pop()

        share(takes(*"abcdefgh" * 5), work, 4)
        assert most <= 4

    def test_one_piece_needs_no_thread(self) -> None:
        threads: list[threading.Thread] = []
        share(takes("a"), lambda _: threads.append(threading.current_thread()), 8)
        assert threads == [threading.current_thread()]

    def test_a_slow_piece_delays_no_other(self) -> None:
        others_done = threading.Event()
        done: list[str] = []

        def work(piece: str) -> None:
            if piece == "slow":
                assert others_done.wait(timeout=10)
            done.append(piece)
            if len(done) == 100:
                others_done.set()

        share(takes("slow", *map(str, range(100))), work, 2)
        assert done[-1] == "slow"

    def test_a_piece_may_add_another(self) -> None:
        left = deque("ab")
        done: list[str] = []

        def work(piece: str) -> None:
            done.append(piece)
            if piece in "ab":
                left.append(piece.upper())

        share(lambda: left.popleft() if left else None, work, 4)
        assert sorted(done) == ["A", "B", "a", "b"]

    def test_threads_run_in_the_callers_context(self) -> None:
        name: ContextVar[str] = ContextVar("name")
        name.set("mine")
        together, seen = threading.Barrier(4, timeout=10), []

        def work(_: str) -> None:
            together.wait()
            seen.append(name.get())

        share(takes(*"abcd"), work, 4)
        assert seen == ["mine"] * 4

    def test_what_a_piece_raises_ends_it_and_is_raised(self) -> None:
        done: list[str] = []

        def work(piece: str) -> None:
            if piece == "bad":
                raise ValueError(piece)
            time.sleep(0.001)
            done.append(piece)

        with pytest.raises(ValueError, match="bad"):
            share(takes("a", "bad", *"abcdefgh" * 100), work, 4)
        assert len(done) < 100

    @pytest.mark.parametrize("after", [0, 1, 30])
    def test_what_the_source_raises_ends_it_and_is_raised(self, after: int) -> None:
        pieces = iter("a" * after)

        def take() -> str:
            if (piece := next(pieces, None)) is None:
                raise LookupError("the table is away")
            return piece

        done: list[str] = []
        with pytest.raises(LookupError, match="away"):
            share(take, done.append, 4)
        assert len(done) <= after


class TestOneCpu:
    @pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot say")
    def test_all_threads_run_on_one_cpu_and_then_on_any(self) -> None:
        before, seen = os.sched_getaffinity(0), []
        share(takes(*"abcdefgh"), lambda _: seen.append(frozenset(os.sched_getaffinity(0))), 4)
        assert len(set(seen)) == 1
        assert len(seen[0]) == 1
        assert seen[0] <= before
        assert os.sched_getaffinity(0) == before

    @pytest.mark.parametrize("error", [OSError("not allowed"), AttributeError("not on this system")])
    def test_where_the_system_cannot_do_it_nothing_happens(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object) -> None:
            raise error

        monkeypatch.setattr(os, "sched_getaffinity", fails, raising=False)
        with one_cpu():
            pass
