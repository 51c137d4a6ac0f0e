"""Send frames to one connection or many.

Invariants: every send ends as sent, gone or failed, and the counts add up to the audience; one bad receiver never
stops the others; a connection is believed gone only when API Gateway said 410 twice, some time apart, because it
is known to say so falsely.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import islice
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import WebsocketDisconnectedError

from chalicelib import telemetry
from chalicelib.errors import ServiceError
from chalicelib.management import MAX_CONNECTIONS, WebsocketApi, prepare
from chalicelib.protocol import dump
from chalicelib.telemetry import Metric

# How many receivers are taken at once, so that memory does not grow with the audience.
BATCH = 1_000
CONFIRM_AFTER_SECONDS = 0.2
# What API Gateway answers with 429; botocore makes the number the code where it cannot read the answer.
_THROTTLED = {"LimitExceededException", "429"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Push:
    """A frame's text, for every receiver but `exclude`."""

    text: str
    exclude: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How many receivers got the frame, were gone, or could not be reached; together they are the audience."""

    sent: int = 0
    gone: int = 0
    failed: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.sent + other.sent, self.gone + other.gone, self.failed + other.failed)

    def as_dict(self) -> dict[str, int]:
        """`{"sent": 1, "gone": 0, "failed": 0}`"""
        return asdict(self)


class _Result(Enum):
    SENT = "sent"
    GONE = "gone"
    FAILED = "failed"
    THROTTLED = "failed, with 429"


# How many pushes a receiver has got, and what became of the next.
_Progress = dict[str, tuple[int, _Result]]


class Delivery:
    """Sends through Chalice's `websocket_api`.

    Args:
        websocket_api: `app.websocket_api`.
        resolve: gives the management endpoint, or raises ConfigurationError.
        prune: forgets a connection that is confirmed gone; returns whether there was something to forget.
        sleep: waits the given seconds.
    """

    def __init__(
        self,
        websocket_api: WebsocketApi,
        resolve: Callable[[], str],
        prune: Callable[[str], object],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api = websocket_api
        self._resolve = resolve
        self._prune = prune
        self._sleep = sleep

    def send(self, audience: Iterable[str], frame: Mapping[str, Any]) -> Outcome:
        """Every connection of the audience was tried; the frame was encoded once.

        A retry after a lost answer can repeat the frame; order among the receivers is not kept.

        Args:
            audience: connection ids, read in batches while sending.
            frame: the push, reply or error.

        Returns:
            Counts that add up to the audience.

        Raises:
            ConfigurationError: there is an audience, but nobody knows the management endpoint.
            TableError: the audience or the endpoint could not be read.
        """
        return self.send_all(audience, [Push(dump(frame))])[0]

    @telemetry.timed(Metric.DELIVERY_MS)
    def send_all(
        self,
        audience: Iterable[str],
        pushes: Sequence[Push],
        on_gone: Callable[[str], object] = lambda _: None,
        on_failed: Callable[[str], object] = lambda _: None,
    ) -> list[Outcome]:
        """Every connection of the audience was tried with each push, in their order, up to the first it did not get.

        Args:
            audience: as in `send`; whatever its iterator raises ends the sending.
            pushes: what to send.
            on_gone: called with a connection that is confirmed gone, beside pruning it.
            on_failed: called with a connection that did not get all, although it is there.

        Returns:
            An outcome for each push, whose counts add up to the audience without the one it excludes.

        Raises:
            ConfigurationError, TableError: as `send`.
        """
        receivers = iter(audience)
        outcomes = [Outcome()] * len(pushes)
        # A batch is so many sends, not receivers, so that the audience's iterator is asked again within seconds.
        size = max(MAX_CONNECTIONS, BATCH // max(1, len(pushes)))
        while pushes and (batch := list(islice(receivers, size))):
            prepare(self._api, self._resolve())
            progress = self._send_batch(batch, pushes, on_gone)
            for receiver, (_, result) in progress.items():
                if result in (_Result.FAILED, _Result.THROTTLED):
                    on_failed(receiver)
            outcomes = [
                outcome + _count(progress, index, push.exclude)
                for index, (outcome, push) in enumerate(zip(outcomes, pushes, strict=True))
            ]
        return outcomes

    def close(self, connection_id: str) -> bool:
        """The connection is closed; returns False if it was gone already.

        Raises:
            ConfigurationError, TableError: as `send`.
            botocore's ClientError or BotoCoreError: API Gateway refused or did not answer.
        """
        prepare(self._api, self._resolve())
        try:
            self._api.close(connection_id)
        except WebsocketDisconnectedError:
            return False
        return True

    def _send_batch(self, batch: list[str], pushes: Sequence[Push], on_gone: Callable[[str], object]) -> _Progress:
        progress = _each(batch, lambda receiver: self._send_from(receiver, pushes, 0))
        suspects = [receiver for receiver, (_, result) in progress.items() if result is _Result.GONE]
        if suspects:
            self._sleep(CONFIRM_AFTER_SECONDS)
            progress |= _each(
                suspects, lambda receiver: self._confirm(receiver, pushes, progress[receiver][0], on_gone)
            )
        return progress

    def _send_from(self, receiver: str, pushes: Sequence[Push], first: int) -> tuple[int, _Result]:
        for index, push in enumerate(pushes[first:], first):
            if push.exclude != receiver and (result := self._send_one(receiver, push.text)) is not _Result.SENT:
                return index, result
        return len(pushes), _Result.SENT

    def _confirm(
        self, receiver: str, pushes: Sequence[Push], first: int, on_gone: Callable[[str], object]
    ) -> tuple[int, _Result]:
        reached, result = self._send_from(receiver, pushes, first)
        if result is _Result.GONE:
            try:
                if self._prune(receiver):
                    telemetry.count(Metric.PRUNES)
                on_gone(receiver)
            except ServiceError as error:
                # TTL reaps the rows, or the next send tries again.
                log.warning("Pruning %s failed: %s", receiver, error)
        return reached, result

    def _send_one(self, receiver: str, text: str) -> _Result:
        try:
            self._api.send(receiver, text)
        except WebsocketDisconnectedError:
            return _Result.GONE
        except ClientError as error:
            code = error.response["Error"].get("Code")
            log.warning("Sending to %s failed: %s", receiver, code)
            if code in _THROTTLED:
                return _Result.THROTTLED
        except BotoCoreError as error:
            log.warning("Sending to %s failed: %s", receiver, type(error).__name__)
        else:
            return _Result.SENT
        return _Result.FAILED


def _each(receivers: list[str], attempt: Callable[[str], tuple[int, _Result]]) -> _Progress:
    if len(receivers) == 1:
        return {receivers[0]: attempt(receivers[0])}
    # Threads log and count for the invocation that sends: each task has its context, which no two may enter at once.
    runs = [copy_context().run for _ in receivers]
    with ThreadPoolExecutor(min(MAX_CONNECTIONS, len(receivers))) as workers:
        results = workers.map(lambda run, receiver: run(attempt, receiver), runs, receivers)
        return dict(zip(receivers, results, strict=True))


def _count(progress: _Progress, index: int, exclude: str | None) -> Outcome:
    counts = Counter(
        _Result.SENT if index < reached else result
        for receiver, (reached, result) in progress.items()
        if receiver != exclude
    )
    throttled = counts[_Result.THROTTLED]
    outcome = Outcome(counts[_Result.SENT], counts[_Result.GONE], counts[_Result.FAILED] + throttled)
    telemetry.count(Metric.SENDS_OK, outcome.sent)
    telemetry.count(Metric.SENDS_GONE, outcome.gone)
    telemetry.count(Metric.SENDS_FAILED, outcome.failed)
    telemetry.count(Metric.SENDS_THROTTLED, throttled)
    return outcome
