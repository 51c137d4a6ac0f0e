"""What a handler writes while it runs: overheard line by line, and written where it goes anyway.

Only what passes through sys.stdout and sys.stderr is overheard; what writes to their file descriptors is not.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, TextIO, cast

# What is kept of one line, and of all lines of one invocation, in characters.
LINE_CHARS = 2_000
TRANSCRIPT_CHARS = 16_384

Hear = Callable[[str], None]


class Transcript:
    """The last lines of one invocation, up to TRANSCRIPT_CHARS; any thread may add, any may read."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._chars = 0
        self._left_out = 0
        self._lock = Lock()

    def add(self, line: str) -> None:
        """Keep one more line, at the cost of the first ones."""
        with self._lock:
            self._lines.append(line)
            # An empty line is not for nothing: a million of them must not be kept.
            self._chars += len(line) + 1
            while self._chars > TRANSCRIPT_CHARS:
                self._chars -= len(self._lines.popleft()) + 1
                self._left_out += 1

    def to_lines(self) -> tuple[str, ...]:
        """Return what is kept, behind a line that says how many came before."""
        with self._lock:
            before = (f"({self._left_out} lines before these)",) if self._left_out else ()
            return before + tuple(self._lines)


class Lines:
    """Cuts the text of one writer into lines, each heard when it ends; one that is too long is cut short."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self._rest = ""
        self._lock = Lock()

    def write(self, text: str) -> None:
        """Take the next piece of text, from any thread."""
        with self._lock:
            *whole, rest = (self._rest + text).split("\n")
            self._rest = rest[: LINE_CHARS + 1]
        for line in whole:
            self._hear(shorten(line))

    def end(self) -> None:
        """Take what has been written so far for a line, if it is anything."""
        with self._lock:
            rest, self._rest = self._rest, ""
        if rest:
            self._hear(shorten(rest))


def shorten(line: str) -> str:
    return line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}…"


class Overheard:
    """A text stream in front of another, which `find` may give someone who listens."""

    def __init__(self, stream: TextIO, find: Callable[[], Lines | None]) -> None:
        self._stream = stream
        self._find = find

    def write(self, text: str) -> int:
        """Write, and let the listener hear it."""
        if lines := self._find():
            lines.write(text)
        return self._stream.write(text)

    def writelines(self, texts: Any) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_of_thread: ContextVar[Lines | None] = ContextVar("localgateway_lines", default=None)
_of_process: Lines | None = None


def overhear() -> None:
    """Put Overheard before stdout and stderr, for good; before anything takes hold of either, like a log handler."""
    sys.stdout = cast(TextIO, Overheard(sys.stdout, find_lines))
    sys.stderr = cast(TextIO, Overheard(sys.stderr, find_lines))


def find_lines() -> Lines | None:
    return _of_thread.get() or _of_process


@contextmanager
def heard_in_thread(hear: Hear) -> Iterator[None]:
    """Have what this thread writes heard, and what runs in a copy of its context."""
    lines = Lines(hear)
    token = _of_thread.set(lines)
    try:
        yield
    finally:
        _of_thread.reset(token)
        lines.end()


@contextmanager
def heard(hear: Hear) -> Iterator[None]:
    """Have what this process writes heard, whichever thread it is; for processes that do one thing at a time."""
    global _of_process
    _of_process = lines = Lines(hear)
    try:
        yield
    finally:
        _of_process = None
        lines.end()
