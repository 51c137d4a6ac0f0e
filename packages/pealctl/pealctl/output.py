"""What a command prints: lines for people or JSON for programs on stdout, all else on stderr.

Invariant: no character of what clients sent reaches a terminal that would act upon it.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any


def to_json(value: Any) -> str:
    """The value as JSON in one line; what is not printable stands in it escaped."""
    return _printable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def to_cell(value: Any) -> str:
    """The value for people: text as it stands, nothing as `-`, all else as JSON."""
    if value is None or value in ("", [], {}):
        return "-"
    return _printable(value) if isinstance(value, str) else to_json(value)


class Output:
    """Where a command prints to.

    Args:
        is_json: whether stdout gets one JSON object a line.
    """

    def __init__(self, is_json: bool) -> None:
        self._is_json = is_json
        # Where lines run over the screen they show by themselves that something is going on.
        self._shows_progress = sys.stderr.isatty() and not sys.stdout.isatty()
        self._progress = ""

    def entry(self, value: Mapping[str, Any], *cells: Any) -> None:
        """One of several things has been printed: as JSON, or as a line of those cells."""
        self._print(to_json(value) if self._is_json else "  ".join(to_cell(cell) for cell in cells))

    def record(self, value: Mapping[str, Any]) -> None:
        """One thing has been printed: as JSON, or with a line for each of its members."""
        if self._is_json:
            self._print(to_json(value))
            return
        width = max(len(name) for name in value)
        for name, member in value.items():
            self._print(f"{name:<{width}}  {to_cell(member)}")

    def answer(self, value: Mapping[str, Any], sentence: str) -> None:
        """What came of it has been printed: as JSON, or as a sentence."""
        self._print(to_json(value) if self._is_json else sentence)

    def progress(self, text: str) -> None:
        """How far it has come stands on the screen, in place of what stood there before; only on a terminal."""
        if self._shows_progress:
            print(f"\r{text:<{len(self._progress)}}", end="", file=sys.stderr, flush=True)
            self._progress = text

    def note(self, sentence: str) -> None:
        """The person knows; programs that read stdout do not."""
        self.end_progress()
        print(_printable(sentence), file=sys.stderr, flush=True)

    def end_progress(self) -> None:
        """The line that showed the progress is empty."""
        if self._progress:
            print(f"\r{'':<{len(self._progress)}}\r", end="", file=sys.stderr, flush=True)
            self._progress = ""

    def _print(self, line: str) -> None:
        # Flushed, for whoever reads a pipe wants a line when it is there.
        print(line, flush=True)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
