"""Audiences that are too large for one Lambda: each is cut into slices, and each slice is a job.

Invariants: a receiver that is in the audience from start to end is in a slice. A job sends to at most `size` receivers,
for at most ten seconds, and leaves the rest to another job, so that a job that is retried repeats only its own sends.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from chalicelib.aws.queue import Jobs
from chalicelib.delivery.delivery import Outcome
from chalicelib.protocol.codec import Receiver

# How long a job sends at most; one POST may take ten seconds more.
MAX_SECONDS: Final = 10.0
# How long a job tries a receiver that is refused with 429: no caller waits for a job.
PATIENCE_SECONDS: Final = 5.0

Job = Mapping[str, Any]
# A receiver's position in its audience; reading can continue after it.
Place = TypeVar("Place")
# Sends to some receivers.
Send = Callable[[Iterable[Receiver]], Outcome]


@dataclass(frozen=True, slots=True)
class Slices:
    """Sends to audiences in slices.

    Attributes:
        jobs: where slices go.
        size: how many receivers one invocation sends to, and how many are read at a time.
        clock: seconds.
    """

    jobs: Jobs
    size: int
    clock: Callable[[], float]

    def send_or_cut(self, audience: Iterator[Receiver], send: Send, slices: Iterable[Job]) -> Outcome | None:
        """Send to a small audience; have `slices`, jobs that together send to all of it, send to a large one.

        As many receivers as one invocation sends to are read before the first is sent to.

        Returns:
            The outcome; None where jobs do the sending. After a JobsError some slices may be sent anyway.
        """
        first = list(islice(audience, self.size + 1))
        if len(first) <= self.size:
            # So that the last receivers are not always the same.
            random.shuffle(first)
            return send(first)
        for job in slices:
            self.jobs.put(job)
        return None

    def send_slice(self, audience: Iterator[tuple[Receiver, Place]], send: Send, rest: Callable[[Place], Job]) -> None:
        """Send to as much of a slice as one job may; `rest` builds the job for the receivers after a place."""
        until = self.clock() + MAX_SECONDS
        last: Place | None = None
        is_cut = False

        def part() -> Iterator[Receiver]:
            nonlocal last, is_cut
            for _ in range(self.size):
                # One is always taken, or a slice that is slow to read would never advance.
                if last is not None and self.clock() >= until:
                    break
                if (taken := next(audience, None)) is None:
                    return
                receiver, last = taken
                yield receiver
            is_cut = True

        send(part())
        if last is not None and is_cut:
            self.jobs.put(rest(last))
