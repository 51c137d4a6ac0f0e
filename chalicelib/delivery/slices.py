"""An audience that is too large for one Lambda: it is cut into slices, and each slice is a job.

Invariants: whoever is in the audience from its cutting to its end is in a slice; a job sends to so many and no longer
than so, and leaves the rest as another job, so that one that comes again repeats no more than one job's sends.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from chalicelib.aws.queue import Jobs
from chalicelib.delivery.audience import Outcome
from chalicelib.protocol.receivers import Receiver

# How long a job sends, at most; one POST may take ten seconds more.
MAX_SECONDS: Final = 10.0
# How long it tries again whom API Gateway refuses with 429: nobody waits for a job.
PATIENCE_SECONDS: Final = 5.0

Job = Mapping[str, Any]
# Where in its audience a receiver stands: reading can go on after it.
Place = TypeVar("Place")
# Sends to some connections.
Send = Callable[[Iterable[Receiver]], Outcome]


class Slices:
    """Cuts audiences.

    Args:
        jobs: where slices go.
        size: how many receivers one invocation sends to, and so how many are read at a time.
        clock: seconds.
    """

    def __init__(self, jobs: Jobs, size: int, clock: Callable[[], float]) -> None:
        self._jobs = jobs
        self.size = size
        self._clock = clock

    def send_or_cut(self, audience: Iterator[Receiver], send: Send, slices: Iterable[Job]) -> Outcome | None:
        """A small audience was sent to; of a large one, each slice is a job.

        Args:
            audience: who gets it. So many as one invocation sends to are read before the first is sent to.
            send: sends to them.
            slices: the jobs that together send to the whole audience.

        Returns:
            What became of sending; None where that is for the jobs to do.

        Raises:
            JobsError: the queue failed; some slices may be sent all the same.
        """
        first = list(islice(audience, self.size + 1))
        if len(first) <= self.size:
            # So that it is not always the same who are told last.
            random.shuffle(first)
            return send(first)
        for job in slices:
            self._jobs.put(job)
        return None

    def send_slice(self, audience: Iterator[tuple[Receiver, Place]], send: Send, rest: Callable[[Place], Job]) -> None:
        """As many of the slice were sent to as one job may; the others are a job.

        Args:
            audience: who gets it, and where each stands.
            send: sends to them.
            rest: the job for those after a place.

        Raises:
            JobsError: the queue failed, so the others were not sent to.
        """
        some = _Some(audience, self.size, self._clock() + MAX_SECONDS, self._clock)
        send(some)
        if some.last is not None and some.is_cut:
            self._jobs.put(rest(some.last))


class _Some(Generic[Place]):
    """The first of an audience: so many, and none after a time."""

    def __init__(
        self, audience: Iterator[tuple[Receiver, Place]], size: int, until: float, clock: Callable[[], float]
    ) -> None:
        self._audience = audience
        self._size = size
        self._until = until
        self._clock = clock
        self.last: Place | None = None
        self.is_cut = False

    def __iter__(self) -> Iterator[Receiver]:
        for _ in range(self._size):
            # One is always taken, else a slice whose reading is slow would never get on.
            if self.last is not None and self._clock() >= self._until:
                break
            taken = next(self._audience, None)
            if taken is None:
                return
            receiver, self.last = taken
            yield receiver
        self.is_cut = True
