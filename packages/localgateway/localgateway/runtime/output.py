"""What a handler writes while it runs: recorded line by line, and still written to the original stream.

Only what passes through sys.stdout and sys.stderr is recorded, not what is written to their file descriptors.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, TextIO, cast

# The most that is kept of one line, and of one invocation's lines, in characters.
LINE_CHARS = 2_000
TRANSCRIPT_CHARS = 16_384

Hear = Callable[[str], None]


class Transcript:
    """The last lines of one invocation, up to TRANSCRIPT_CHARS. Thread-safe."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._chars = 0
        self._left_out = 0
        self._lock = Lock()

    def add(self, line: str) -> None:
        """Add a line, dropping the first ones if there are too many."""
        with self._lock:
            self._lines.append(line)
            # Empty lines count too, or a million of them would be kept.
            self._chars += len(line) + 1
            while self._chars > TRANSCRIPT_CHARS:
                self._chars -= len(self._lines.popleft()) + 1
                self._left_out += 1

    def to_lines(self) -> tuple[str, ...]:
        """Return the lines, after one that says how many were dropped."""
        with self._lock:
            before = (f"({self._left_out} lines before these)",) if self._left_out else ()
            return before + tuple(self._lines)


class Lines:
    """Splits the text of one writer into lines and reports each when it ends; lines that are too long are cut short."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self._rest = ""
        self._lock = Lock()

    def write(self, text: str) -> None:
        """Add the next piece of text. Thread-safe."""
        with self._lock:
            *whole, rest = (self._rest + text).split("\n")
            self._rest = rest[: LINE_CHARS + 1]
        for line in whole:
            self._hear(shorten(line))

    def end(self) -> None:
        """Report an unfinished line, if there is one."""
        with self._lock:
            rest, self._rest = self._rest, ""
        if rest:
            self._hear(shorten(rest))


def shorten(line: str) -> str:
    return line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}…"


class Overheard:
    """A text stream around another one; what is written also goes to the listener that `find` returns."""

    def __init__(self, stream: TextIO, find: Callable[[], Lines | None]) -> None:
        self._stream = stream
        self._find = find

    def write(self, text: str) -> int:
        """Write, and pass the text to the listener."""
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
    """Put Overheard around stdout and stderr, for good. Call it before anything keeps a reference to them, such as a
    log handler."""
    sys.stdout = cast(TextIO, Overheard(sys.stdout, find_lines))
    sys.stderr = cast(TextIO, Overheard(sys.stderr, find_lines))


def find_lines() -> Lines | None:
    return _of_thread.get() or _of_process


@contextmanager
def heard_in_thread(hear: Hear) -> Iterator[None]:
    """Record what this thread writes, and what runs in a copy of its context."""
    lines = Lines(hear)
    token = _of_thread.set(lines)
    try:
        yield
    finally:
        _of_thread.reset(token)
        lines.end()


@contextmanager
def heard(hear: Hear) -> Iterator[None]:
    """Record what any thread of this process writes; for processes that do one thing at a time."""
    global _of_process
    _of_process = lines = Lines(hear)
    try:
        yield
    finally:
        _of_process = None
        lines.end()
