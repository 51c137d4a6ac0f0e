"""Who is to be sent what, and what became of it.

Invariants: every send ends as sent, gone or failed, and the counts add up to the audience. The audience is read while
it is sent to; what is kept of it are counts, and for a moment who is to be asked again.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from threading import Lock
from typing import Any, NamedTuple

from chalicelib import telemetry
from chalicelib.protocol.codec import Said, codec_of
from chalicelib.protocol.receivers import Receiver
from chalicelib.telemetry import Metric


class Push:
    """What every receiver is told but the connection `exclude`; its text is made once for each codec among them."""

    def __init__(self, said: Said, exclude: str | None = None) -> None:
        self.exclude = exclude
        self._said = said
        self._texts: dict[str, str] = {}

    def text(self, receiver: Receiver) -> str:
        """The frame's text, as the receiver reads it."""
        text = self._texts.get(receiver.codec)
        if text is None:
            # Threads that come here at once make the same text.
            codec = codec_of(receiver)
            text = self._texts[receiver.codec] = codec.dump(self._said(codec))
        return text


@dataclass(frozen=True)
class Outcome:
    """How many receivers got the frame, were gone, or could not be reached; together they are the audience."""

    sent: int = 0
    gone: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        """`{"sent": 1, "gone": 0, "failed": 0}`"""
        return asdict(self)


def counts(outcome: Outcome | None) -> dict[str, Any]:
    """What stands in replies: the counts, or that it is queued."""
    return outcome.as_dict() if outcome else {"queued": True}


class Result(StrEnum):
    SENT = "sent"
    GONE = "gone"
    FAILED = "failed"
    THROTTLED = "failed, with 429"


class Attempt(NamedTuple):
    """Try a receiver.

    Attributes:
        receiver: whom.
        first: from which push on.
        at: not before that, on the clock.
        is_doubted: whether it has answered 410 to that push.
        throttled_at: when it answered 429 first, if that was the last it did.
    """

    receiver: Receiver
    first: int = 0
    at: float = 0
    is_doubted: bool = False
    throttled_at: float | None = None


class Audience:
    """Receivers on whom some pushes are on their way: who is next, and what became of the others. Safe in threads.

    Args:
        receivers: asked for one more whenever someone is free to send, by one thread at a time.
        pushes: what each is sent, in order.
        until: when whoever was not tried has failed, on the clock.
        clock: seconds.
    """

    def __init__(
        self, receivers: Iterator[Receiver], pushes: Sequence[Push], until: float, clock: Callable[[], float]
    ) -> None:
        self._receivers = receivers
        self._pushes = pushes
        self._until = until
        self._clock = clock
        self._again: deque[Attempt] = deque()
        self._lock = Lock()
        self._ended: Counter[tuple[int, Result]] = Counter()
        # The few that some push excludes are known by name.
        self._excluded: dict[str | None, tuple[int, Result] | None] = {push.exclude: None for push in pushes}

    def next(self) -> Attempt | None:
        """Who to try now: whoever is due for a second time, else one more of the audience, else who is not yet due."""
        now = self._clock()
        if now >= self._until:
            self._give_up()
            return None
        if self._again and self._again[0].at <= now:
            return self._again.popleft()
        receiver = next(self._receivers, None)
        if receiver is not None:
            return Attempt(receiver)
        return self._again.popleft() if self._again else None

    def try_again(self, attempt: Attempt) -> None:
        """Somebody is to be tried once more; of two, whoever is due first comes first."""
        self._again.append(attempt)

    def end(self, receiver: Receiver, reached: int, result: Result) -> None:
        """The receiver got so many pushes, and that became of the next, if there was one."""
        with self._lock:
            self._ended[reached, result] += 1
            if receiver.connection_id in self._excluded:
                self._excluded[receiver.connection_id] = (reached, result)

    def outcomes(self) -> list[Outcome]:
        """What became of each push so far; it is counted for the invocation."""
        return [self._outcome(index, push) for index, push in enumerate(self._pushes)]

    def _give_up(self) -> None:
        # The audience is read on, so that the counts add up to it.
        while self._again:
            attempt = self._again.popleft()
            self.end(attempt.receiver, attempt.first, Result.FAILED)
        for receiver in self._receivers:
            self.end(receiver, 0, Result.FAILED)

    def _outcome(self, index: int, push: Push) -> Outcome:
        counts: Counter[Result] = Counter()
        for (reached, result), receivers in self._ended.items():
            counts[Result.SENT if index < reached else result] += receivers
        if excluded := self._excluded.get(push.exclude):
            reached, result = excluded
            counts[Result.SENT if index < reached else result] -= 1
        throttled = counts[Result.THROTTLED]
        outcome = Outcome(counts[Result.SENT], counts[Result.GONE], counts[Result.FAILED] + throttled)
        telemetry.count(Metric.SENDS_OK, outcome.sent)
        telemetry.count(Metric.SENDS_GONE, outcome.gone)
        telemetry.count(Metric.SENDS_FAILED, outcome.failed)
        telemetry.count(Metric.SENDS_THROTTLED, throttled)
        return outcome
