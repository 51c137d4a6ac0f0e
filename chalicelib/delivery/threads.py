"""Many do the same thing at once: threads that take one piece of work after another until there is none.

Invariant: nobody waits for another's piece. The next is asked for only when someone is free, so memory does not grow
with the work, and where it comes from (a table, page by page) is asked again and again for as long as it takes.
"""

import os
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from itertools import islice
from threading import Event, Lock
from typing import TypeVar

Piece = TypeVar("Piece")


def share(take: Callable[[], Piece | None], work: Callable[[Piece], None], workers: int) -> None:
    """All pieces are done, up to `workers` of them at a time, one of them by the caller.

    Threads run in a copy of the caller's context.

    Args:
        take: gives the next piece, or None: there is none now. Whoever did a piece asks again, so doing one may
            bring another. It is asked by one thread at a time.
        work: does a piece.
        workers: how many threads at most, the caller's among them.

    Raises:
        Exception: what `take` or `work` raised first. Nothing is begun after that; what had begun is done.
    """
    lock = Lock()
    # No more threads than pieces: most audiences are one connection.
    first = deque(islice(_until_none(take), workers))
    stopped = Event()

    def drain() -> None:
        try:
            while not stopped.is_set():
                with lock:
                    piece = first.popleft() if first else take()
                if piece is None:
                    return
                work(piece)
        except BaseException:
            stopped.set()
            raise

    others = len(first) - 1
    if others < 1:
        return drain()
    # Each has its context: no two threads may enter the same.
    with one_cpu(), ThreadPoolExecutor(others) as threads:
        running = [threads.submit(copy_context().run, drain) for _ in range(others)]
        drain()
    for thread in running:
        thread.result()


@contextmanager
def one_cpu() -> Iterator[None]:
    """This thread, and those that it starts meanwhile, run on one CPU, whichever.

    Lambda shows two CPUs and gives the time of one or less: threads on both fight for the interpreter's lock, which
    costs two to three times the CPU. Where it cannot be done (macOS), nothing happens.
    """
    allowed: set[int] = set()
    with suppress(AttributeError, OSError):
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {random.choice(sorted(allowed))})
    try:
        yield
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)


def _until_none(take: Callable[[], Piece | None]) -> Iterator[Piece]:
    while (piece := take()) is not None:
        yield piece
