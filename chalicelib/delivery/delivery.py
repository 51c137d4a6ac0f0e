"""Send frames to one connection or many.

Invariants: every send ends as sent, gone or failed, and the counts add up to the audience; one bad receiver neither
stops nor holds up the others; a connection is believed gone only when API Gateway said 410 twice, some time apart,
because it is known to say so falsely. Memory does not grow with the audience.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import WebsocketDisconnectedError

from chalicelib import telemetry
from chalicelib.aws.management import WebsocketApi, prepare
from chalicelib.delivery.audience import Attempt, Audience, Outcome, Push, Result
from chalicelib.delivery.threads import share
from chalicelib.errors import ServiceError
from chalicelib.protocol.codec import Said
from chalicelib.protocol.receivers import Receiver
from chalicelib.telemetry import Metric

# Until whoever said 410 is asked whether it is so, or who was refused with 429 is tried again.
CONFIRM_AFTER_SECONDS: Final = 0.2
# A POST under way takes ten seconds at most; an invocation with less than three times as much ends after two thirds.
RESERVED_SECONDS: Final = 10
# What API Gateway answers with 429; botocore makes the number the code where it cannot read the answer.
_THROTTLED = {"LimitExceededException", "429"}

log = logging.getLogger(__name__)


class Delivery:
    """Sends through Chalice's `websocket_api`.

    Args:
        websocket_api: `app.websocket_api`.
        resolve: gives the management endpoint, or raises ConfigurationError.
        prune: forgets a connection that is confirmed gone; returns whether there was something to forget.
        workers: how many receivers are sent to at once.
        sleep: waits the given seconds.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        websocket_api: WebsocketApi,
        resolve: Callable[[], str],
        prune: Callable[[str], object],
        workers: int,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = websocket_api
        self._resolve = resolve
        self._prune = prune
        self._workers = workers
        self._sleep = sleep
        self._clock = clock

    def send(
        self,
        audience: Iterable[Receiver],
        said: Said,
        exclude: str | None = None,
        on_gone: Callable[[str], object] = lambda _: None,
        patience_seconds: float = 0,
    ) -> Outcome:
        """Every connection of the audience was tried, or has failed because the Lambda's time ran out.

        The frame is encoded once for each codec. A retry after a lost answer can repeat it; order among the receivers
        is not kept.

        Args:
            audience: read while sending.
            said: the push, reply or error, as a codec builds it.
            exclude: a connection that is not sent it.
            on_gone: called with a connection that is confirmed gone, beside pruning it.
            patience_seconds: for how long someone is tried again whom API Gateway refuses with 429 more often than
                the client tries by itself. It says so if the account is over its quota, but also of one slow reader,
                who would hold up whoever waits for the outcome.

        Returns:
            Counts that add up to the audience without the one that is excluded.

        Raises:
            ConfigurationError: there is an audience, but nobody knows the management endpoint.
            TableError: the audience or the endpoint could not be read.
        """
        left = telemetry.seconds_left()
        until = self._clock() + left - min(RESERVED_SECONDS, left / 3)
        return self._send(audience, [Push(said, exclude)], on_gone, lambda _: None, until, patience_seconds)[0]

    def send_all(
        self,
        audience: Iterable[Receiver],
        pushes: Sequence[Push],
        on_gone: Callable[[str], object] = lambda _: None,
        on_failed: Callable[[str], object] = lambda _: None,
    ) -> list[Outcome]:
        """Every connection of the audience was tried with each push, in their order, up to the first it did not get.

        Whoever wants that much knows what to do when the Lambda is killed meanwhile, so there is no other end to it.

        Args:
            audience: as in `send`; its iterator is asked for as long as someone is to be sent to, and whatever it
                raises ends the sending.
            pushes: what to send.
            on_gone: as in `send`.
            on_failed: called with a connection that did not get all, although it is there. Both are called by
                several threads, and what they raise ends the sending, save a ServiceError of `on_gone`.

        Returns:
            An outcome for each push, whose counts add up to the audience without the one it excludes.

        Raises:
            ConfigurationError, TableError: as `send`.
        """
        return self._send(audience, pushes, on_gone, on_failed, math.inf, 0)

    def close(self, connection_id: str) -> bool:
        """The connection is closed; returns False if it was gone already, which is believed as in `is_open`.

        Raises:
            ConfigurationError, TableError: as `send`.
            botocore's ClientError or BotoCoreError: API Gateway refused or did not answer.
        """
        return self._reaches(self._api.close, connection_id)

    def is_open(self, connection_id: str) -> bool:
        """Whether the connection is there; that it is not is believed when API Gateway has said so twice.

        Errors as `close`.
        """
        return self._reaches(self._api.info, connection_id)

    def _reaches(self, call: Callable[[str], object], connection_id: str) -> bool:
        prepare(self._api, self._resolve())
        for pause in (0, CONFIRM_AFTER_SECONDS):
            self._sleep(pause)
            try:
                call(connection_id)
            except WebsocketDisconnectedError:
                continue
            return True
        return False

    @telemetry.timed(Metric.DELIVERY_MS)
    def _send(
        self,
        audience: Iterable[Receiver],
        pushes: Sequence[Push],
        on_gone: Callable[[str], object],
        on_failed: Callable[[str], object],
        until: float,
        patience_seconds: float,
    ) -> list[Outcome]:
        rest = iter(audience)
        first = next(rest, None) if pushes else None
        if first is None:
            return [Outcome()] * len(pushes)
        prepare(self._api, self._resolve())
        receivers = Audience(chain([first], rest), pushes, until, self._clock)

        def attempt(which: Attempt) -> None:
            if (wait := which.at - self._clock()) > 0:
                self._sleep(wait)
            reached, result = self._send_from(which.receiver, pushes, which.first)
            now = self._clock()
            again = Attempt(which.receiver, reached, now + CONFIRM_AFTER_SECONDS, which.is_doubted)
            if reached > which.first:
                again = again._replace(is_doubted=False)
            if result is Result.GONE and not again.is_doubted:
                return receivers.try_again(again._replace(is_doubted=True))
            if result is Result.THROTTLED:
                since = now if which.throttled_at is None else which.throttled_at
                if now - since < patience_seconds:
                    return receivers.try_again(again._replace(throttled_at=since))
            if result is Result.GONE and not self._forget(which.receiver.connection_id, on_gone):
                result = Result.FAILED
            receivers.end(which.receiver, reached, result)
            if result in (Result.FAILED, Result.THROTTLED):
                on_failed(which.receiver.connection_id)

        try:
            share(receivers.next, attempt, self._workers)
        finally:
            outcomes = receivers.outcomes()
        return outcomes

    def _send_from(self, receiver: Receiver, pushes: Sequence[Push], first: int) -> tuple[int, Result]:
        for index, push in enumerate(pushes[first:], first):
            if push.exclude == receiver.connection_id:
                continue
            result = self._send_one(receiver.connection_id, push.text(receiver))
            if result is not Result.SENT:
                return index, result
        return len(pushes), Result.SENT

    def _forget(self, receiver: str, on_gone: Callable[[str], object]) -> bool:
        """Return whether it surely has no connection; it is forgotten then."""
        try:
            # Should it be there all the same, it comes back: nobody stays connected of whom we do not know.
            self._api.close(receiver)
        except WebsocketDisconnectedError:
            pass
        except (ClientError, BotoCoreError) as error:
            log.warning("Closing %s failed: %s", receiver, type(error).__name__)
            return False
        try:
            if self._prune(receiver):
                telemetry.count(Metric.PRUNES)
            on_gone(receiver)
        except ServiceError as error:
            # TTL reaps the rows, or the next send tries again.
            log.warning("Pruning %s failed: %s", receiver, error)
        return True

    def _send_one(self, receiver: str, text: str) -> Result:
        try:
            self._api.send(receiver, text)
        except WebsocketDisconnectedError:
            return Result.GONE
        except ClientError as error:
            code = error.response["Error"].get("Code")
            log.warning("Sending to %s failed: %s", receiver, code)
            if code in _THROTTLED:
                return Result.THROTTLED
        except BotoCoreError as error:
            log.warning("Sending to %s failed: %s", receiver, type(error).__name__)
        else:
            return Result.SENT
        return Result.FAILED
