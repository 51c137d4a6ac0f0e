"""Send one frame to one connection or many.

Invariants: every send ends as sent, gone or failed, and the counts add up to the audience; one bad receiver never
stops the others; a connection is believed gone only when API Gateway said 410 twice, some time apart, because it
is known to say so falsely.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import islice
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import WebsocketDisconnectedError

from chalicelib.errors import TableError
from chalicelib.management import MAX_CONNECTIONS, WebsocketApi, prepare
from chalicelib.protocol import dump

# How many receivers are taken at once, so that memory does not grow with the audience.
BATCH = 1_000
CONFIRM_AFTER_SECONDS = 0.2

log = logging.getLogger(__name__)


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


class Delivery:
    """Sends through Chalice's `websocket_api`.

    Args:
        websocket_api: `app.websocket_api`.
        resolve: gives the management endpoint, or raises ConfigurationError.
        prune: forgets a connection that is confirmed gone.
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
        text = dump(frame)
        receivers = iter(audience)
        outcome = Outcome()
        while batch := list(islice(receivers, BATCH)):
            prepare(self._api, self._resolve())
            outcome += self._send_batch(batch, text)
        return outcome

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

    def _send_batch(self, batch: list[str], text: str) -> Outcome:
        results = _each(batch, lambda receiver: self._send_one(receiver, text))
        suspects = [receiver for receiver, result in results.items() if result is _Result.GONE]
        if suspects:
            self._sleep(CONFIRM_AFTER_SECONDS)
            results |= _each(suspects, lambda receiver: self._confirm(receiver, text))
        counts = Counter(results.values())
        return Outcome(counts[_Result.SENT], counts[_Result.GONE], counts[_Result.FAILED])

    def _confirm(self, receiver: str, text: str) -> _Result:
        result = self._send_one(receiver, text)
        if result is _Result.GONE:
            try:
                self._prune(receiver)
            except TableError as error:
                # TTL reaps the row, or the next send tries again.
                log.warning("Pruning %s failed: %s", receiver, error)
        return result

    def _send_one(self, receiver: str, text: str) -> _Result:
        try:
            self._api.send(receiver, text)
        except WebsocketDisconnectedError:
            return _Result.GONE
        except ClientError as error:
            log.warning("Sending to %s failed: %s", receiver, error.response["Error"].get("Code"))
        except BotoCoreError as error:
            log.warning("Sending to %s failed: %s", receiver, type(error).__name__)
        else:
            return _Result.SENT
        return _Result.FAILED


def _each(receivers: list[str], attempt: Callable[[str], _Result]) -> dict[str, _Result]:
    if len(receivers) == 1:
        return {receivers[0]: attempt(receivers[0])}
    with ThreadPoolExecutor(min(MAX_CONNECTIONS, len(receivers))) as workers:
        return dict(zip(receivers, workers.map(attempt, receivers), strict=True))
