"""Deliver a channel's publications in order.

The holder of a shard's lease reads what is written after the cursor, sends it to the members, moves the cursor, and
repeats while more is wanted; one round may carry many publications. Between two rounds it admits waiting subscribers.

Invariants: each member is sent the publications in the order of their offsets, with none missing, and none twice except
after a crash. If a push fails the connection is closed, so that the client reconnects and recovers; it gets no later
push.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from chalicelib.aws.queue import Jobs
from chalicelib.channels.admission import Admission
from chalicelib.delivery.delivery import Delivery, Outcome, Push
from chalicelib.errors import ServiceError
from chalicelib.limits import LIMITS, Limits
from chalicelib.protocol.codec import Receiver
from chalicelib.protocol.jobs import Advance, dump_job
from chalicelib.protocol.namespaces import Channel
from chalicelib.protocol.publication import Publication
from chalicelib.store.lease import LEASE_MS, Lease, LeaseLost, Leases
from chalicelib.store.log import Log
from chalicelib.store.members import Members

LOOK_AGAIN_SECONDS: Final = 0.02


@dataclass(eq=False, repr=False)
class Sequencer:
    """Delivers under a lease. `clock` returns epoch seconds, `sleep` waits that many seconds."""

    log: Log
    leases: Leases
    members: Members
    admission: Admission
    delivery: Delivery
    queue: Jobs
    clock: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep
    limits: Limits = LIMITS

    def resume(self, channel: Channel, shard: int) -> None:
        """Deliver what was published in the shard and admit those who wait, unless somebody is doing that."""
        position = self.log.position(channel)
        lease = self.leases.announce(channel, shard, position) or self.leases.claim(channel, shard, position)
        if lease:
            with suppress(LeaseLost):
                self.go_on(lease)

    def resume_later(self, channel: Channel, shard: int) -> None:
        """Put a job that resumes the shard once the present holder of its lease must be done or dead."""
        self.queue.put(dump_job(Advance(channel.name, shard)), delay_seconds=LEASE_MS // 1000 + 1)

    def catch_up(self, lease: Lease) -> Lease:
        """Deliver what was wanted when the lease was taken, and keep the lease. On an error it is given up."""
        wanted = lease.wanted
        while lease.delivered < wanted:
            delivered, _ = self._round(lease, None)
            lease = self.leases.keep(lease, delivered)
        return lease

    def go_on(
        self, lease: Lease, publication: Publication | None = None, admitted: Sequence[str] = ()
    ) -> dict[int | None, Outcome]:
        """Deliver all that is wanted, admit those who wait, and let the lease go.

        Args:
            lease: the caller's; not to be used afterwards.
            publication: one that the caller has just written; saves reading it.
            admitted: the connections that the caller has admitted under this lease.

        Returns the outcome of sending each publication, by offset. Raises LeaseLost: another holder continues; on any
        other error the lease is given up.
        """
        deadline = self.clock() + self.limits.deliver_seconds
        outcomes: dict[int | None, Outcome] = {}
        joins_done = -1 if lease.waits else 0
        try:
            while True:
                delivered, of_round = self._round(lease, publication)
                outcomes |= of_round
                more_wait = False
                if lease.joins > joins_done:
                    some, more_wait = self._admit_some(replace(lease, delivered=delivered))
                    admitted = [*admitted, *some]
                    joins_done = joins_done if more_wait else lease.joins
                is_done = delivered >= lease.wanted and not more_wait
                if not is_done and self.clock() > deadline:
                    self.leases.abandon(lease, delivered)
                    self.queue.put(dump_job(Advance(lease.channel.name, lease.shard)))
                    return outcomes
                kept = self.leases.let_go(lease, delivered) if is_done else self.leases.keep(lease, delivered)
                if kept is None:
                    return outcomes
                lease, admitted = kept, ()
        except LeaseLost:
            # They may have missed what another holder has delivered meanwhile.
            for connection_id in admitted:
                self.admission.close(lease.channel, connection_id)
            raise

    def _round(self, lease: Lease, publication: Publication | None) -> tuple[int, dict[int | None, Outcome]]:
        with self._gives_up(lease):
            run = self._run(lease, publication)
            full = [publication for publication in run if not publication.is_empty]
            outcomes = self.delivery.send_all(
                self._receivers(lease),
                [_push(lease, publication) for publication in full],
                on_gone=lambda receiver: self.members.remove(lease.channel, receiver),
                on_failed=lambda receiver: self.admission.close(lease.channel, receiver),
            )
        counts = {publication.offset: outcome for publication, outcome in zip(full, outcomes, strict=True)}
        return lease.delivered + len(run), counts

    def _admit_some(self, lease: Lease) -> tuple[list[str], bool]:
        with self._gives_up(lease):
            return self.admission.admit_some(lease)

    @contextmanager
    def _gives_up(self, lease: Lease) -> Iterator[None]:
        """Give up the lease on an error; otherwise everyone would wait for it to run out."""
        try:
            yield
        except Exception:
            with suppress(ServiceError):
                self.leases.abandon(lease, lease.delivered)
            raise

    def _run(self, lease: Lease, publication: Publication | None) -> list[Publication]:
        """Return what is wanted next, without a hole."""
        first, last = lease.delivered + 1, min(lease.wanted, lease.delivered + self.limits.run)
        if publication and publication.offset == first == last:
            return [publication]
        patience = self.clock() + self.limits.publication_seconds
        while first <= last:
            run: list[Publication] = []
            for written in self.log.read(lease.channel, lease.epoch, first, last):
                if written.offset != first + len(run):
                    break
                run.append(written)
            if run:
                return run
            if self.clock() < patience:
                self.sleep(LOOK_AGAIN_SECONDS)
            else:
                self.log.fill(lease.channel, lease.epoch, first)
        return []

    def _receivers(self, lease: Lease) -> Iterator[Receiver]:
        # The lease is renewed before another could take it, or its loss is noticed.
        for receiver in self.members.receivers(lease.channel, lease.shard):
            lease = self.leases.renew(lease)
            yield receiver


def _push(lease: Lease, publication: Publication) -> Push:
    return Push(lambda codec: codec.publication(lease.channel.name, lease.epoch, publication), publication.exclude)
