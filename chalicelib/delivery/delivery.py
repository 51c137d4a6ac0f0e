"""Send frames to one connection or many.

An audience is sent to in two passes. The first sends to every receiver once. The second, a moment later, asks again
those that answered 410, which API Gateway is known to say falsely, and those that were refused with 429.

Invariants: a receiver that did not get a push is sent no later one. The audience is read while it is sent to; only the
doubted of the first pass are kept, and no more than a slice of them.
"""

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from threading import Lock
from typing import Any, Final, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import WebsocketDisconnectedError

from chalicelib import telemetry
from chalicelib.aws.management import WebsocketApi, prepare
from chalicelib.delivery.threads import share
from chalicelib.errors import ServiceError
from chalicelib.protocol.codec import Receiver, Said, codec_of
from chalicelib.telemetry import Metric

# The pause before a receiver that answered 410 or 429 is asked again.
CONFIRM_AFTER_SECONDS: Final = 0.2
# A POST under way takes at most ten seconds; an invocation with less than three times that stops after two thirds.
RESERVED_SECONDS: Final = 10
# As many as a slice has receivers.
MAX_DOUBTED: Final = 5_000
# What API Gateway answers with 429. Botocore takes the status for the code where it cannot read the answer.
_THROTTLED: Final = {"LimitExceededException", "429"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Push:
    """What every receiver is sent but the connection `exclude`; encoded once for each codec among the receivers."""

    said: Said
    exclude: str | None = None
    _texts: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def text(self, receiver: Receiver) -> str:
        """Return the frame's text in the receiver's codec."""
        if receiver.codec not in self._texts:
            # Threads that arrive here together encode the same text; one of them stays.
            codec = codec_of(receiver)
            self._texts[receiver.codec] = codec.dump(self.said(codec))
        return self._texts[receiver.codec]


class Outcome(NamedTuple):
    """How many receivers got the frame, were gone, or could not be reached; together they are the audience."""

    sent: int = 0
    gone: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return `{"sent": 1, "gone": 0, "failed": 0}`."""
        return self._asdict()


def counts(outcome: Outcome | None) -> dict[str, Any]:
    """Return what a reply says of an outcome: its counts, or that the frame is queued if it has not been sent."""
    return outcome.as_dict() if outcome else {"queued": True}


class _Turn(NamedTuple):
    """A receiver's turn: its next push's index, whether it said 410 to that, and when patience with its 429s ends."""

    receiver: Receiver
    first: int = 0
    said_gone: bool = False
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class Delivery:
    """Sends through Chalice's `websocket_api`. Safe to share between threads.

    Attributes:
        websocket_api: `app.websocket_api`.
        resolve: returns the management endpoint, or raises ConfigurationError.
        prune: forgets a connection that is confirmed gone; returns something true if there was one to forget.
        workers: how many receivers are sent to at once.
        sleep: waits the given seconds.
        clock: seconds that never go back.
        max_doubted: when this many are doubted, their second pass comes before the rest of the audience.
    """

    websocket_api: WebsocketApi
    resolve: Callable[[], str]
    prune: Callable[[str], object]
    workers: int
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    max_doubted: int = MAX_DOUBTED

    @telemetry.timed(Metric.DELIVERY_MS)
    def reply(self, receiver: Receiver, frame: object) -> Outcome:
        """Send one frame, built by the receiver's codec, to that connection alone; the counts add up to one."""
        prepare(self.websocket_api, self.resolve())
        text = codec_of(receiver).dump(frame)
        fate = self._post(receiver.connection_id, text)
        if fate is Metric.SENDS_GONE:
            self.sleep(CONFIRM_AFTER_SECONDS)
            fate = self._post(receiver.connection_id, text)
        if fate is Metric.SENDS_GONE:
            fate = self._forget(receiver.connection_id)
        return _count(Counter([fate]))

    def send(
        self,
        receivers: Iterable[Receiver],
        said: Said,
        exclude: str | None = None,
        on_gone: Callable[[str], object] = lambda _: None,
        patience_seconds: float = 0,
    ) -> Outcome:
        """Send every receiver one frame, until the Lambda's time runs out; those not tried by then have failed.

        A retry after a lost answer can repeat the frame. See `send_all` for the arguments; `patience_seconds` is how
        long a receiver that is refused with 429 is tried again. API Gateway answers 429 when the account is over its
        quota, but also for one slow reader, which would delay a caller that waits.
        """
        left = telemetry.seconds_left()
        until = self.clock() + left - min(RESERVED_SECONDS, left / 3)
        return self.send_all(receivers, [Push(said, exclude)], on_gone, until=until, patience_seconds=patience_seconds)[
            0
        ]

    @telemetry.timed(Metric.DELIVERY_MS)
    def send_all(
        self,
        receivers: Iterable[Receiver],
        pushes: Sequence[Push],
        on_gone: Callable[[str], object] = lambda _: None,
        on_failed: Callable[[str], object] = lambda _: None,
        until: float = math.inf,
        patience_seconds: float = 0,
    ) -> list[Outcome]:
        """Send every receiver all pushes in their order, up to the first that it does not get.

        Args:
            receivers: the audience, read while sending; what its iterator raises ends the sending.
            pushes: what to send.
            on_gone: called with each connection that is confirmed gone, after it was pruned.
            on_failed: called with each connection that is there but did not get all pushes. Several threads call
                `on_gone` and `on_failed`; what they raise ends the sending, except for a ServiceError of `on_gone`.
            until: when the clock says so, the receivers that are left fail untried. A caller that sends several pushes
                gives none: it must be prepared for the Lambda to be killed anyway.
            patience_seconds: how long a receiver that is refused with 429 is tried again.

        Returns:
            One outcome for each push; its counts add up to the audience without the connection it excludes.
        """
        rest = iter(receivers)
        first = next(rest, None) if pushes else None
        if first is None:
            return [Outcome()] * len(pushes)
        prepare(self.websocket_api, self.resolve())
        everyone, doubted = chain([first], rest), deque[_Turn]()
        turns = self._turns(everyone, doubted)
        fates: list[Counter[Metric]] = [Counter() for _ in pushes]
        lock = Lock()

        def take() -> _Turn | None:
            return next(turns, None) if self.clock() < until else None

        def end(connection_id: str, reached: int, fate: Metric) -> None:
            with lock:
                for index, push in enumerate(pushes):
                    if push.exclude != connection_id:
                        fates[index][Metric.SENDS_OK if index < reached else fate] += 1

        def post(turn: _Turn) -> None:
            reached, fate = self._post_all(turn, pushes)
            if reached > turn.first:
                turn = _Turn(turn.receiver, reached)
            if fate is Metric.SENDS_GONE and not turn.said_gone:
                return doubted.append(turn._replace(said_gone=True))
            if fate is Metric.SENDS_THROTTLED:
                now = self.clock()
                turn = turn._replace(until=min(turn.until, now + patience_seconds))
                if now < turn.until:
                    return doubted.append(turn)
            connection_id = turn.receiver.connection_id
            if fate is Metric.SENDS_GONE:
                fate = self._forget(connection_id, on_gone)
            end(connection_id, reached, fate)
            if fate in (Metric.SENDS_FAILED, Metric.SENDS_THROTTLED):
                on_failed(connection_id)

        try:
            share(take, post, self.workers)
            for turn in chain(doubted, map(_Turn, everyone)):
                end(turn.receiver.connection_id, turn.first, Metric.SENDS_FAILED)
        finally:
            outcomes = [_count(of_push) for of_push in fates]
        return outcomes

    def close(self, connection_id: str) -> bool:
        """Close the connection; return False if it was gone already, which is believed the second time only."""
        return self._reaches(self.websocket_api.close, connection_id)

    def is_open(self, connection_id: str) -> bool:
        """Return whether the connection is there; that it is gone is believed the second time only."""
        return self._reaches(self.websocket_api.info, connection_id)

    def _reaches(self, call: Callable[[str], object], connection_id: str) -> bool:
        prepare(self.websocket_api, self.resolve())
        for pause in (0, CONFIRM_AFTER_SECONDS):
            self.sleep(pause)
            try:
                call(connection_id)
            except WebsocketDisconnectedError:
                continue
            return True
        return False

    def _turns(self, receivers: Iterator[Receiver], doubted: deque[_Turn]) -> Iterator[_Turn | None]:
        """Yield every receiver's first turn, then, after a pause, those of the doubted; None while there are none.

        There is no barrier between the passes: a receiver that is still being sent to does not delay the others. Where
        many are doubted, their turns come before the rest of the receivers: the iterator of these may renew a lease,
        and must not wait long to be asked.
        """
        while True:
            while len(doubted) < self.max_doubted and (receiver := next(receivers, None)) is not None:
                yield _Turn(receiver)
            if count := len(doubted):
                self.sleep(CONFIRM_AFTER_SECONDS)
                yield from (doubted.popleft() for _ in range(count))
            else:
                yield None

    def _post_all(self, turn: _Turn, pushes: Sequence[Push]) -> tuple[int, Metric]:
        """Return how many pushes the receiver is through with, and what became of the next, if there is one."""
        connection_id = turn.receiver.connection_id
        for index in range(turn.first, len(pushes)):
            if pushes[index].exclude != connection_id:
                fate = self._post(connection_id, pushes[index].text(turn.receiver))
                if fate is not Metric.SENDS_OK:
                    return index, fate
        return len(pushes), Metric.SENDS_OK

    def _post(self, connection_id: str, text: str) -> Metric:
        """Send a text; return the metric that counts what became of it."""
        try:
            self.websocket_api.send(connection_id, text)
        except WebsocketDisconnectedError:
            return Metric.SENDS_GONE
        except ClientError as error:
            code = error.response["Error"].get("Code")
            log.warning("Sending to %s failed: %s", connection_id, code)
            return Metric.SENDS_THROTTLED if code in _THROTTLED else Metric.SENDS_FAILED
        except BotoCoreError as error:
            log.warning("Sending to %s failed: %s", connection_id, type(error).__name__)
            return Metric.SENDS_FAILED
        return Metric.SENDS_OK

    def _forget(self, connection_id: str, on_gone: Callable[[str], object] = lambda _: None) -> Metric:
        """Close and prune a connection that is gone; where it cannot be closed, its send has failed instead."""
        try:
            # If the 410s were false, closing makes the client reconnect, so no unregistered socket survives.
            self.websocket_api.close(connection_id)
        except WebsocketDisconnectedError:
            pass
        except (ClientError, BotoCoreError) as error:
            log.warning("Closing %s failed: %s", connection_id, type(error).__name__)
            return Metric.SENDS_FAILED
        try:
            if self.prune(connection_id):
                telemetry.count(Metric.PRUNES)
            on_gone(connection_id)
        except ServiceError as error:
            # The rows expire, or the next send prunes them.
            log.warning("Pruning %s failed: %s", connection_id, error)
        return Metric.SENDS_GONE


def _count(fates: Counter[Metric]) -> Outcome:
    fates[Metric.SENDS_FAILED] += fates[Metric.SENDS_THROTTLED]
    for metric, receivers in fates.items():
        telemetry.count(metric, receivers)
    return Outcome(fates[Metric.SENDS_OK], fates[Metric.SENDS_GONE], fates[Metric.SENDS_FAILED])
