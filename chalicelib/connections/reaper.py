"""Find what nobody else has noticed: connections that ended without a word, that overstayed, deliveries that broke off.

Invariants: a run looks at so many connections and no longer than so; the next goes on where it stopped, so that in the
course of some runs all are looked at; a living connection is left as it is.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from threading import Lock
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.queue import Jobs
from chalicelib.channels.sequencer import advance_job
from chalicelib.connections.closing import RUN_OUT, Closing
from chalicelib.connections.departures import Departures
from chalicelib.delivery.delivery import Delivery
from chalicelib.delivery.threads import share
from chalicelib.errors import Invalid, ServiceError
from chalicelib.store import keys
from chalicelib.store.lease import Cursors
from chalicelib.store.members import Channels
from chalicelib.store.registry import Listed, Place, Registry
from chalicelib.store.table import Table

log = logging.getLogger(__name__)

# In one run, which is every five minutes: 2,000 requests of API Gateway, a fifth of what it takes in a second.
MAX_CONNECTIONS: Final = 2_000
MAX_SECONDS: Final = 20.0
# Asking about them is waiting.
WORKERS: Final = 16


@dataclass
class Reaped:
    """What a run has done.

    Attributes:
        checked: connections that were looked at.
        closed: those of them whose time had run out; they were closed and forgotten.
        pruned: those that were not there any more; they were forgotten.
        resumed: deliveries that somebody had broken off.
        failed: connections that could not be asked about or closed; a later run will.
    """

    checked: int = 0
    closed: int = 0
    pruned: int = 0
    resumed: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        """`{"checked": 2, "closed": 0, "pruned": 1, "resumed": 0, "failed": 0}`"""
        return asdict(self)


class Reaping:
    """Reaps."""

    def __init__(
        self,
        rows: Table,
        registry: Registry,
        channels: Channels,
        cursors: Cursors,
        delivery: Delivery,
        closing: Closing,
        departures: Departures,
        jobs: Jobs,
        clock: Callable[[], float],
    ) -> None:
        self._rows = rows
        self._registry = registry
        self._channels = channels
        self._cursors = cursors
        self._delivery = delivery
        self._closing = closing
        self._departures = departures
        self._jobs = jobs
        self._clock = clock

    def reap(self) -> Reaped:
        """The next connections were looked at. Two runs at once do the same work twice and no harm.

        Raises:
            ConfigurationError: nobody knows the management endpoint.
            TableError: the connections could not be read. The next run begins where this one did.
        """
        reaped, lock, seen = Reaped(), Lock(), set[tuple[str, int]]()
        entries = _Walk(self._registry.rows(after=self._place(), page_items=MAX_CONNECTIONS), self._clock)

        def look(entry: Listed) -> None:
            try:
                found = self._look(entry, seen)
            except (ServiceError, ClientError, BotoCoreError) as error:
                log.warning("Looking at %s failed: %s", entry.receiver.connection_id, type(error).__name__)
                found = Reaped(failed=1)
            with lock:
                reaped.checked += 1
                reaped.closed += found.closed
                reaped.pruned += found.pruned
                reaped.resumed += found.resumed
                reaped.failed += found.failed

        share(lambda: next(entries, None), look, WORKERS)
        self._keep(entries.place)
        return reaped

    def _look(self, entry: Listed, seen: set[tuple[str, int]]) -> Reaped:
        if entry.ttl <= self._clock():
            self._closing.close(entry.receiver, *RUN_OUT)
            return Reaped(closed=1)
        connection_id = entry.receiver.connection_id
        if not self._delivery.is_open(connection_id):
            # Should it be there all the same, it comes back: nobody stays connected of whom we do not know.
            self._delivery.close(connection_id)
            return Reaped(pruned=1 if self._departures.prune(connection_id) else 0)
        return Reaped(resumed=self._resume(connection_id, seen))

    def _resume(self, connection_id: str, seen: set[tuple[str, int]]) -> int:
        connection = self._registry.get(connection_id)
        resumed = 0
        for name in sorted(connection.channels) if connection else ():
            try:
                channel = self._channels.resolve(name)
            except Invalid:
                # Its namespace is declared no more.
                continue
            shard = channel.shard_of(connection_id)
            if not channel.options.history_size or (name, shard) in seen:
                continue
            seen.add((name, shard))
            if self._cursors.is_left_behind(channel, shard):
                self._jobs.put(advance_job(channel, shard))
                resumed += 1
        return resumed

    def _place(self) -> Place | None:
        row = self._rows.get(keys.reaper_key()) or {}
        try:
            match json.loads(str(row.get("after"))):
                case [str(owner), str(connection)] if connection.startswith("CONN#"):
                    return owner, connection
        except ValueError:
            pass
        return None

    def _keep(self, place: Place | None) -> None:
        self._rows.put({**keys.reaper_key(), "after": json.dumps(place)})


class _Walk:
    """Some entries; where it stopped stands in `place`, which is None once it came to the end."""

    def __init__(self, entries: Iterator[Listed], clock: Callable[[], float]) -> None:
        self._entries = islice(entries, MAX_CONNECTIONS)
        self._clock = clock
        self._until = clock() + MAX_SECONDS
        self._left = MAX_CONNECTIONS
        self.place: Place | None = None

    def __next__(self) -> Listed:
        if self._clock() >= self._until:
            raise StopIteration
        entry = next(self._entries, None)
        if entry is None:
            if self._left:
                self.place = None
            raise StopIteration
        self._left -= 1
        self.place = entry.place
        return entry
