"""Find what nobody else has noticed: connections that ended silently or overstayed, interrupted deliveries.

Invariants: a run checks at most 2,000 connections, for at most 20 s; the next continues where it stopped, so that a few
runs check them all; a living connection is left as it is.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.queue import Jobs
from chalicelib.connections.closing import RUN_OUT, Closing
from chalicelib.delivery.delivery import Delivery
from chalicelib.delivery.threads import share
from chalicelib.errors import Invalid, ServiceError
from chalicelib.limits import LIMITS, Limits
from chalicelib.protocol.jobs import Advance, dump_job
from chalicelib.store.lease import Leases
from chalicelib.store.members import Members
from chalicelib.store.registry import IndexEntry, Registry

log = logging.getLogger(__name__)

# Checking is mostly waiting.
WORKERS: Final = 16
# What a run counts: connections checked; of those, expired ones closed and ended ones pruned; deliveries resumed;
# checks that failed, which a later run repeats.
COUNTS: Final = ("checked", "closed", "pruned", "resumed", "failed")


@dataclass(eq=False, repr=False)
class Reaper:
    """Checks connections. `clock` returns epoch seconds."""

    registry: Registry
    members: Members
    leases: Leases
    delivery: Delivery
    closing: Closing
    queue: Jobs
    clock: Callable[[], float]
    limits: Limits = LIMITS

    def reap(self) -> dict[str, int]:
        """Check the next connections and return counts by COUNTS. Two runs at once do the same work twice, and no harm.

        After a TableError the next run begins where this one did.
        """
        checks: list[str] = []
        resumed: set[tuple[str, int]] = set()
        count, deadline = self.limits.reaped, self.clock() + self.limits.reap_seconds
        place = self.registry.reaper_place()

        def walk() -> Iterator[IndexEntry]:
            nonlocal place
            walked = 0
            for entry in islice(self.registry.entries(after=place, page_items=count), count):
                if self.clock() >= deadline:
                    return
                place, walked = entry.place, walked + 1
                yield entry
            if walked < count:
                place = None

        entries = walk()

        def check(entry: IndexEntry) -> None:
            checks.append("checked")
            try:
                checks.extend(self._check(entry, resumed))
            except (ServiceError, ClientError, BotoCoreError) as error:
                log.warning("Checking %s failed: %s", entry.receiver.connection_id, type(error).__name__)
                checks.append("failed")

        share(lambda: next(entries, None), check, WORKERS)
        self.registry.keep_reaper_place(place)
        counted = Counter(checks)
        return {name: counted[name] for name in COUNTS}

    def _check(self, entry: IndexEntry, resumed: set[tuple[str, int]]) -> list[str]:
        if entry.ttl <= self.clock():
            self.closing.close(entry.receiver, *RUN_OUT)
            return ["closed"]
        connection_id = entry.receiver.connection_id
        if not self.delivery.is_open(connection_id):
            # If the 410 was false, closing makes the client reconnect, so no unregistered socket survives.
            self.delivery.close(connection_id)
            return ["pruned"] if self.closing.departures.prune(connection_id) else []
        return self._resume(connection_id, resumed)

    def _resume(self, connection_id: str, resumed: set[tuple[str, int]]) -> list[str]:
        connection = self.registry.get(connection_id)
        counted = []
        for name in sorted(connection.channels) if connection else ():
            try:
                channel = self.members.resolve(name)
            except Invalid:
                # Its namespace is no longer declared.
                continue
            shard = channel.shard_of(connection_id)
            if not channel.options.history_size or (name, shard) in resumed:
                continue
            resumed.add((name, shard))
            if self.leases.is_left_behind(channel, shard):
                self.queue.put(dump_job(Advance(name, shard)))
                counted.append("resumed")
        return counted
