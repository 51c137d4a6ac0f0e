"""A delivery over a fake of Chalice's websocket_api, and time that only a test moves."""

from collections.abc import Callable, Iterable

from chalice.app import LambdaFunctionEvent

from chalicelib import telemetry
from chalicelib.delivery.delivery import MAX_DOUBTED, Delivery, Outcome, Push
from chalicelib.protocol.codec import Codec, Receiver
from tests.support.fakes import FakeWebsocketApi

ENDPOINT = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api"
WORKERS = 16
FRAME = {"type": "broadcast", "note": "é"}


def said(codec: Codec) -> object:
    """Return the frame, whichever codec is asked."""
    return FRAME


def push(text: str, exclude: str | None = None) -> Push:
    """Return a push that is a JSON string."""
    return Push(lambda codec: text, exclude)


class Outbox:
    """A delivery, what it has pruned, and the pauses it has made. Time passes in pauses only."""

    def __init__(
        self,
        api: FakeWebsocketApi,
        resolve: Callable[[], str] = lambda: ENDPOINT,
        workers: int = WORKERS,
        max_doubted: int = MAX_DOUBTED,
    ) -> None:
        self.api = api
        self.pruned: list[str] = []
        self.pauses: list[float] = []
        self.delivery = Delivery(
            api, resolve, self.pruned.append, workers, self.pauses.append, lambda: sum(self.pauses), max_doubted
        )

    def send(self, *receivers: str, patience_seconds: float = 0) -> Outcome:
        """Send the frame to receivers that read action frames."""
        return self.delivery.send(map(Receiver, receivers), said, patience_seconds=patience_seconds)


class Lambda:
    """A Lambda's context with that many seconds left, on a clock that a test moves."""

    def __init__(self, seconds: float) -> None:
        self.now, self.ends_at = 0.0, seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self.ends_at - self.now) * 1000)

    def delivery(self, api: FakeWebsocketApi) -> Delivery:
        """Return a delivery on that clock, which does not move in pauses."""
        return Delivery(api, lambda: ENDPOINT, lambda _: None, WORKERS, lambda _: None, lambda: self.now)

    def send(self, api: FakeWebsocketApi, receivers: Iterable[str]) -> Outcome:
        """Send the frame within an invocation."""
        delivery = self.delivery(api)
        event = LambdaFunctionEvent({}, context=self)
        outcome: Outcome = telemetry.Observer()(event, lambda _: delivery.send(map(Receiver, receivers), said))
        return outcome
