"""Threads that share work: each takes one piece after another until none is left.

Invariant: no piece waits for another to be done. The next one is asked for only when a thread is free, so memory does
not grow with the work, and its source (a table, page by page) may take as long as it needs.
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
    """Do all pieces, up to `workers` at a time, in the caller's thread and in others with copies of its context.

    Args:
        take: returns the next piece, or None while nothing is due. A thread that has done a piece asks again, so
            doing a piece may add another. Called by one thread at a time.
        work: does a piece. No piece is begun after `take` or this has raised; those begun are done.
        workers: the most threads, with the caller's.
    """
    lock = Lock()
    # No more threads than pieces: an audience may be a few connections.
    first = deque(islice(iter(take, None), workers))
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
    # A context each: no two threads may enter the same one.
    with one_cpu(), ThreadPoolExecutor(others) as threads:
        running = [threads.submit(copy_context().run, drain) for _ in range(others)]
        drain()
    for thread in running:
        thread.result()


@contextmanager
def one_cpu() -> Iterator[None]:
    """Keep this thread, and those it starts meanwhile, on one CPU.

    Lambda shows two CPUs and gives the time of one or less. Threads on both fight for the interpreter's lock, which
    costs two to three times the CPU. Where the system cannot do it (macOS), nothing happens.
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
