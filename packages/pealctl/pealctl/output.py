"""What a command prints: lines for people or JSON for programs on stdout, all else on stderr.

Invariant: a terminal never receives a control character that a client sent.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any


def to_json(value: Any) -> str:
    """Return the value as one line of JSON, with unprintable characters escaped."""
    return _printable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def to_cell(value: Any) -> str:
    """Return the value for people: text as it is, nothing as `-`, everything else as JSON."""
    if value is None or value in ("", [], {}):
        return "-"
    return _printable(value) if isinstance(value, str) else to_json(value)


class Output:
    """Where a command prints to.

    Args:
        is_json: whether stdout receives one JSON object a line.
    """

    def __init__(self, is_json: bool) -> None:
        self._is_json = is_json
        # Lines that scroll by on a terminal show progress enough.
        self._shows_progress = sys.stderr.isatty() and not sys.stdout.isatty()
        self._progress = ""

    def entry(self, value: Mapping[str, Any], *cells: Any) -> None:
        """Print one of several things: as JSON, or as a line of those cells."""
        self._print(to_json(value) if self._is_json else "  ".join(to_cell(cell) for cell in cells))

    def record(self, value: Mapping[str, Any]) -> None:
        """Print one thing: as JSON, or with a line for each of its members."""
        if self._is_json:
            self._print(to_json(value))
            return
        width = max(len(name) for name in value)
        for name, member in value.items():
            self._print(f"{name:<{width}}  {to_cell(member)}")

    def answer(self, value: Mapping[str, Any], sentence: str) -> None:
        """Print the outcome: as JSON, or as a sentence."""
        self._print(to_json(value) if self._is_json else sentence)

    def tell(self, line: str) -> None:
        """Print, as it is, what a deployment has done."""
        self._print(line)

    def progress(self, text: str) -> None:
        """Show on a terminal how far the command has come, in place of the previous progress."""
        if self._shows_progress:
            print(f"\r{text:<{len(self._progress)}}", end="", file=sys.stderr, flush=True)
            self._progress = text

    def note(self, sentence: str) -> None:
        """Print a sentence for the person, on stderr: programs read stdout."""
        self.end_progress()
        print(_printable(sentence), file=sys.stderr, flush=True)

    def end_progress(self) -> None:
        """Clear the line that shows the progress."""
        if self._progress:
            print(f"\r{'':<{len(self._progress)}}\r", end="", file=sys.stderr, flush=True)
            self._progress = ""

    def _print(self, line: str) -> None:
        # Flushed, because the reader of a pipe wants each line when it is there, and Chalice writes to the same one.
        print(line, flush=True)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
