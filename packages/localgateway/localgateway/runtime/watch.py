"""Notices when a project's files change: what ships to Lambda, and the configuration of its stage."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

# Polling the file system is cheap, works everywhere and needs no library: a project has a few dozen files.
POLL_SECONDS = 0.25


class Watcher:
    """Calls `changed` from a thread of its own, once the files have stopped changing."""

    def __init__(self, directory: Path, changed: Callable[[], None]) -> None:
        self._directory = directory
        self._changed = changed
        self._is_over = Event()
        self._thread = Thread(target=self._watch, name="watch", daemon=True)

    def start(self) -> None:
        """Start watching: every change after this returns is noticed."""
        self._seen = self._look()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; wait for a call of `changed` that has begun."""
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        reported = self._seen
        while not self._is_over.wait(POLL_SECONDS):
            before, self._seen = self._seen, self._look()
            # An editor or a checkout writes several files: wait until two looks agree.
            if self._seen == before and self._seen != reported:
                reported = self._seen
                self._changed()

    def _look(self) -> dict[Path, tuple[int, int]]:
        return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in self._files()}

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for pattern in ("app.py", "chalicelib/**/*.py", "vendor/**/*.py", ".chalice/config.json"):
            for path in self._directory.glob(pattern):
                # A file may disappear between the listing and the look.
                with suppress(OSError):
                    yield path, path.stat()
