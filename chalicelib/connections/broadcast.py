"""Send to everyone.

Everyone is read from the index. Its segments are what large audiences are cut into: together they hold each connection
once, and each can be read by a Lambda of its own.
"""

from collections.abc import Callable
from typing import Any, Final

from chalicelib.delivery.delivery import Delivery, Outcome
from chalicelib.delivery.slices import PATIENCE_SECONDS, Send, Slices
from chalicelib.store.registry import Place, Registry

# Twice as many as jobs run at once (JOBS_AT_ONCE in app.py), so that none waits for the longest. More would only send
# more slowly: each slice has pages of its own to read, and waits for its own confirmations of 410.
SEGMENTS: Final = 4
# Of jobs that another version has made.
MAX_SEGMENTS: Final = 1_000


class Broadcasting:
    """Broadcasts."""

    def __init__(self, registry: Registry, delivery: Delivery, slices: Slices, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._delivery = delivery
        self._slices = slices
        self._clock = clock

    def broadcast(self, note: str | None, data: Any) -> Outcome | None:
        """Every connection was sent a `broadcast` frame, or will be; errors as `Delivery.send` and JobsError.

        Returns:
            Counts that add up to everyone who is here; None where jobs do it.
        """
        time = self._clock()
        return self._slices.send_or_cut(
            self._registry.everyone(),
            self._sender(note, data, time),
            (_job(note, data, time, segment, SEGMENTS) for segment in range(SEGMENTS)),
        )

    def send_slice(
        self, note: str | None, data: Any, time: float, segment: int, segments: int, after: Place | None
    ) -> None:
        """Some connections of the segment were sent the frame, and the others will be; errors as `broadcast`."""
        entries = self._registry.listed(segment, segments, after, page_items=self._slices.size)
        self._slices.send_slice(
            ((entry.receiver, entry.place) for entry in entries),
            self._sender(note, data, time, PATIENCE_SECONDS),
            lambda place: _job(note, data, time, segment, segments, place),
        )

    def _sender(self, note: str | None, data: Any, time: float, patience_seconds: float = 0) -> Send:
        return lambda receivers: self._delivery.send(
            receivers, lambda codec: codec.broadcast(note, data, time), patience_seconds=patience_seconds
        )


def _job(
    note: str | None, data: Any, time: float, segment: int, segments: int, after: Place | None = None
) -> dict[str, Any]:
    return {
        "job": "broadcast",
        "note": note,
        "data": data,
        "time": time,
        "segment": segment,
        "segments": segments,
        "after": after,
    }
