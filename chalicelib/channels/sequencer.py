"""Deliver a channel's publications in order: the one primitive of channels with history.

Whoever holds the lease of a shard reads what is written after the cursor, sends it to the members, moves the cursor,
and goes round again while more is wanted; one round may carry many publications.

Who waits to be let in is let in between two rounds.

Invariants: each member is sent the publications in the order of their offsets, none is left out and none comes twice,
save after a crash; a connection that cannot be sent one is broken off, so that it comes back and recovers, and is not
sent the next.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

from chalicelib.aws.queue import Jobs
from chalicelib.channels.admission import Joining
from chalicelib.delivery.delivery import Delivery, Outcome, Push
from chalicelib.errors import ServiceError
from chalicelib.protocol.codec import Receiver
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Publication
from chalicelib.store.lease import LEASE_MS, Cursors, Lease, LeaseLost
from chalicelib.store.log import History
from chalicelib.store.members import Channels

# So many publications are read and sent in one round: memory stays flat, and a lease is looked at in between.
MAX_RUN: Final = 100
# How long a number may go without its publication, which is written right after it was taken, before it is filled.
GRACE_SECONDS: Final = 0.5
LOOK_AGAIN_SECONDS: Final = 0.02
# How long one Lambda goes on delivering what others publish, before a job takes over.
MAX_SECONDS: Final = 10.0


class Advance:
    """Delivers."""

    def __init__(
        self,
        history: History,
        cursors: Cursors,
        channels: Channels,
        joining: Joining,
        delivery: Delivery,
        jobs: Jobs,
        clock: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._history = history
        self._cursors = cursors
        self._channels = channels
        self._joining = joining
        self._delivery = delivery
        self._jobs = jobs
        self._clock = clock
        self._sleep = sleep

    def catch_up(self, lease: Lease) -> Lease:
        """What was wanted when the lease was taken is delivered, and the lease is kept.

        Raises:
            LeaseLost: somebody else goes on.
            ConfigurationError, TableError: as `Delivery.send`. The lease is given up.
        """
        wanted = lease.wanted
        while lease.delivered < wanted:
            delivered, _ = self._round(lease, None)
            lease = self._cursors.keep(lease, delivered)
        return lease

    def go_on(
        self, lease: Lease, mine: Publication | None = None, entered: Sequence[str] = ()
    ) -> dict[int | None, Outcome]:
        """All that is wanted is delivered, who waits is let in, and the lease is let go.

        Args:
            lease: the caller's; not to be used any more.
            mine: a publication that the caller has just written; it saves reading it.
            entered: whom the caller has let in under this lease.

        Returns:
            What became of sending each publication, by offset.

        Raises:
            LeaseLost, ConfigurationError, TableError: as `catch_up`.
        """
        give_up = self._clock() + MAX_SECONDS
        outcomes: dict[int | None, Outcome] = {}
        let_in = -1 if lease.waits else 0
        try:
            while True:
                delivered, of_round = self._round(lease, mine)
                outcomes |= of_round
                more_wait = False
                if lease.joins > let_in:
                    some, more_wait = self._let_in_some(replace(lease, delivered=delivered))
                    entered = [*entered, *some]
                    let_in = let_in if more_wait else lease.joins
                is_done = delivered >= lease.wanted and not more_wait
                if not is_done and self._clock() > give_up:
                    self._cursors.abandon(lease, delivered)
                    self._jobs.put(advance_job(lease.channel, lease.shard))
                    return outcomes
                kept = self._cursors.let_go(lease, delivered) if is_done else self._cursors.keep(lease, delivered)
                if kept is None:
                    return outcomes
                lease, entered = kept, ()
        except LeaseLost:
            # What somebody else has delivered meanwhile may have missed them.
            for connection_id in entered:
                self._joining.break_off(lease.channel, connection_id)
            raise

    def go_on_later(self, channel: Channel, shard: int) -> None:
        """What is left undone in the shard will be done, by a job, once whoever delivers must be through or dead.

        Raises JobsError.
        """
        self._jobs.put(advance_job(channel, shard), delay_seconds=LEASE_MS // 1000 + 1)

    def _round(self, lease: Lease, mine: Publication | None) -> tuple[int, dict[int | None, Outcome]]:
        with self._given_up(lease):
            run = self._run(lease, mine)
            full = [publication for publication in run if not publication.is_empty]
            outcomes = self._delivery.send_all(
                self._receivers(lease),
                [_push(lease, publication) for publication in full],
                on_gone=lambda receiver: self._channels.remove(lease.channel, receiver),
                on_failed=lambda receiver: self._joining.break_off(lease.channel, receiver),
            )
        counts = {publication.offset: outcome for publication, outcome in zip(full, outcomes, strict=True)}
        return lease.delivered + len(run), counts

    def _let_in_some(self, lease: Lease) -> tuple[list[str], bool]:
        with self._given_up(lease):
            return self._joining.let_in_some(lease)

    @contextmanager
    def _given_up(self, lease: Lease) -> Iterator[None]:
        """On an error the lease is given up; else everyone would wait for it to run out."""
        try:
            yield
        except Exception:
            with suppress(ServiceError):
                self._cursors.abandon(lease, lease.delivered)
            raise

    def _run(self, lease: Lease, mine: Publication | None) -> list[Publication]:
        """Return what is wanted next, without a hole."""
        first, last = lease.delivered + 1, min(lease.wanted, lease.delivered + MAX_RUN)
        if mine and mine.offset == first == last:
            return [mine]
        patience = self._clock() + GRACE_SECONDS
        while first <= last:
            run: list[Publication] = []
            for publication in self._history.read(lease.channel, lease.epoch, first, last):
                if publication.offset != first + len(run):
                    break
                run.append(publication)
            if run:
                return run
            if self._clock() < patience:
                self._sleep(LOOK_AGAIN_SECONDS)
            else:
                self._history.fill(lease.channel, lease.epoch, first)
        return []

    def _receivers(self, lease: Lease) -> Iterator[Receiver]:
        # Before a lease is old enough to be taken by another, it is renewed, or it is noticed that it was.
        for receiver in self._channels.receivers(lease.channel, lease.shard):
            lease = self._cursors.renew(lease)
            yield receiver


def advance_job(channel: Channel, shard: int) -> dict[str, object]:
    """The job that delivers in one shard whatever is not delivered yet."""
    return {"job": "advance", "channel": channel.name, "shard": shard}


def _push(lease: Lease, publication: Publication) -> Push:
    return Push(lambda codec: codec.publication(lease.channel.name, lease.epoch, publication), publication.exclude)
