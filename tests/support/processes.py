"""What tests of processes share."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any


@contextmanager
def killed_after(seconds: float, process: subprocess.Popen[Any]) -> Iterator[None]:
    """Kill a process that is still running after that time, so that reading from it cannot wait for ever."""
    timer = Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
