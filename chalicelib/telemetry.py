"""What one invocation did, told in one line when it ends: who asked for what, how it went, what was counted.

Invariant: a line has names, ids, codes and numbers. There is no fact for what a client sent, so no payload, token,
query or header can become one. The line is a log record with the attribute `invocation`; `logs` writes it.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import Any, Final, Literal

log = logging.getLogger(__name__)

# `requestId` is API Gateway's, `lambdaRequestId` Lambda's. `error` is an error code of a frame, or an exception's name.
Fact = Literal[
    "function",
    "route",
    "requestId",
    "lambdaRequestId",
    "connectionId",
    "userId",
    "channel",
    "action",
    "status",
    "outcome",
    "error",
    "reason",
    "durationMs",
]
Facts = dict[str, str | int | float]


class Metric(StrEnum):
    """Everything that is counted, by its name in CloudWatch. docs/OPERATIONS.md says what each means."""

    CONNECTS = "Connects"
    REFUSALS = "Refusals"
    FRAMES = "Frames"
    FRAME_ERRORS = "FrameErrors"
    INTERNAL_ERRORS = "InternalErrors"
    PUBLISHES = "Publishes"
    SENDS_OK = "SendsOk"
    SENDS_GONE = "SendsGone"
    SENDS_FAILED = "SendsFailed"
    SENDS_THROTTLED = "SendsThrottled"
    PRUNES = "Prunes"
    DELIVERY_MS = "DeliveryMs"
    COLD_STARTS = "ColdStarts"


@dataclass
class Invocation:
    """One invocation as far as it has come. Threads that run in its context share it."""

    clock: Callable[[], float] = time.perf_counter
    ms_left: Callable[[], float] = lambda: math.inf
    facts: Facts = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    @property
    def name(self) -> str:
        """What was invoked: the action, else the route, else the function."""
        return str(next((self.facts[fact] for fact in _NAMES if fact in self.facts), "invocation"))

    def __str__(self) -> str:
        told = {name: value for name, value in self.facts.items() if name not in _TOLD_OTHERWISE} | self.counts
        ending = f"{self.facts.get('outcome')} in {self.facts.get('durationMs')} ms"
        return f"{self.name} {ending}: {' '.join(f'{name}={value}' for name, value in told.items())}"


_NAMES: Final = ("action", "route", "function")
# In text, what the line begins with, and what nobody needs on a desk.
_TOLD_OTHERWISE: Final = {*_NAMES, "outcome", "durationMs", "lambdaRequestId"}
_current: Final[ContextVar[Invocation | None]] = ContextVar("invocation", default=None)


def facts() -> Facts:
    """What is known of the invocation so far, for lines that are logged meanwhile; outside of one, nothing."""
    invocation = _current.get()
    return invocation.facts if invocation else {}


def note(fact: Fact, value: str | int | None) -> None:
    """The invocation's line has the fact, whatever was noted for it before. None says nothing."""
    invocation = _current.get()
    if invocation and value is not None:
        invocation.facts[fact] = value


def count(metric: Metric, amount: float = 1) -> None:
    """The invocation's line has `amount` more of the metric. Safe in threads; does nothing outside of an invocation."""
    invocation = _current.get()
    if invocation and amount:
        with invocation.lock:
            invocation.counts[metric] = round(invocation.counts.get(metric, 0) + amount, 3)


def seconds_left() -> float:
    """How long the Lambda lets the invocation go on; without end outside of one."""
    invocation = _current.get()
    return invocation.ms_left() / 1000 if invocation else math.inf


@contextmanager
def timed(metric: Metric) -> Iterator[None]:
    """The invocation's line has the milliseconds more of the metric that the block took."""
    clock = (_current.get() or Invocation()).clock
    started_at = clock()
    try:
        yield
    finally:
        count(metric, (clock() - started_at) * 1000)


def refuse(code: str, reason: str | None = None) -> None:
    """The invocation ended for the caller's fault.

    Args:
        code: one of PROTOCOL.md's error codes.
        reason: what the caller may not be told or we want to read in words; nothing that the caller sent.
    """
    note("outcome", "refused")
    note("error", code)
    note("reason", reason or None)


def fail(failure: Exception) -> None:
    """The invocation failed for our or AWS's fault: it is counted, and logged with its stack."""
    count(Metric.INTERNAL_ERRORS)
    note("outcome", "failed")
    note("error", type(failure).__name__)
    log.error("%s failed", (_current.get() or Invocation()).name, exc_info=failure)


class Observer:
    """Chalice middleware around every door: each invocation ends with its line, also one that raises.

    What a door raises goes on to Lambda, which then counts an error of the function.

    Args:
        clock: seconds, for durations.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._is_cold = True

    def __call__(self, event: Any, get_response: Callable[[Any], Any]) -> Any:
        invocation = Invocation(self._clock, facts=_about(event))
        invocation.ms_left = getattr(_lambda_context(event), "get_remaining_time_in_millis", invocation.ms_left)
        token = _current.set(invocation)
        started_at = self._clock()
        if self._is_cold:
            self._is_cold = False
            count(Metric.COLD_STARTS)
        try:
            response = get_response(event)
            _judge(response)
            return response
        except Exception as failure:
            fail(failure)
            raise
        finally:
            invocation.facts["durationMs"] = round((self._clock() - started_at) * 1000, 3)
            log.info("%s", invocation, extra={"invocation": invocation})
            _current.reset(token)


def _lambda_context(event: Any) -> Any:
    # Chalice hands REST doors its request and all others the raw event in an object of its own.
    context = getattr(event, "context", None)
    return event.lambda_context if isinstance(context, Mapping) else context


def _about(event: Any) -> Facts:
    context, on_lambda = getattr(event, "context", None), _lambda_context(event)
    if isinstance(context, Mapping):
        request = context
        route: object = f"{request.get('httpMethod')} {request.get('resourcePath')}"
    else:
        # Whoever invokes a function directly may send it any JSON.
        raw = event.to_dict() if context else None
        told = raw.get("requestContext") if isinstance(raw, Mapping) else None
        request = told if isinstance(told, Mapping) else {}
        route = request.get("routeKey")
    known = {
        "function": getattr(on_lambda, "function_name", None),
        "route": route,
        "requestId": request.get("requestId"),
        "lambdaRequestId": getattr(on_lambda, "aws_request_id", None),
        "connectionId": request.get("connectionId"),
    }
    return {fact: value for fact, value in known.items() if isinstance(value, str)}


def _judge(response: Any) -> None:
    told = response.get("statusCode") if isinstance(response, Mapping) else getattr(response, "status_code", None)
    status = told if isinstance(told, int) else None
    note("status", status)
    if "outcome" in facts():
        return
    # No door has said how it ended: it went well, or Chalice answered by itself.
    if status is None or status < 400:
        note("outcome", "ok")
    elif status < 500:
        note("outcome", "refused")
    else:
        note("outcome", "failed")
        count(Metric.INTERNAL_ERRORS)
