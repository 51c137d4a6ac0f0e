"""One log line per invocation, written when it ends: who asked for what, how it went, what was counted.

Invariant: a line holds names, ids, codes and numbers. No fact holds what a client sent, so no payload, token, query or
header can get into it. The line is a log record with the attribute `invocation`; `logs` writes it.
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
from typing import Any, Final, Literal, get_args

log = logging.getLogger(__name__)

# `requestId` is API Gateway's, `lambdaRequestId` Lambda's. `error` is an error code of a frame, or an exception's name.
Name = Literal["action", "route", "function"]
Id = Literal["requestId", "lambdaRequestId", "connectionId", "userId", "channel"]
Ending = Literal["status", "outcome", "error", "reason", "durationMs"]
Fact = Literal[Name, Id, Ending]
Facts = dict[str, str | int | float]


class Metric(StrEnum):
    """Everything that is counted, by its name in CloudWatch. docs/OPERATIONS.md explains each."""

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
    """One invocation so far. Threads that run in its context share it."""

    clock: Callable[[], float] = time.perf_counter
    ms_left: Callable[[], float] = lambda: math.inf
    facts: Facts = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    @property
    def name(self) -> str:
        """Return what was invoked: the action, else the route, else the function."""
        return str(next((self.facts[fact] for fact in _NAMES if fact in self.facts), "invocation"))

    def __str__(self) -> str:
        details = {name: value for name, value in self.facts.items() if name not in _NO_DETAILS} | self.counts
        ending = f"{self.facts.get('outcome')} in {self.facts.get('durationMs')} ms"
        return f"{self.name} {ending}: {' '.join(f'{name}={value}' for name, value in details.items())}"


_NAMES: Final = get_args(Name)
# A line of text begins with these, and nobody needs Lambda's id locally.
_NO_DETAILS: Final = {*_NAMES, "outcome", "durationMs", "lambdaRequestId"}
_current: Final[ContextVar[Invocation | None]] = ContextVar("invocation", default=None)


def facts() -> Facts:
    """Return what is known of the current invocation, for lines logged meanwhile; empty outside an invocation."""
    invocation = _current.get()
    return invocation.facts if invocation else {}


def note(fact: Fact, value: str | int | None) -> None:
    """Put a fact into the invocation's line in place of any earlier value; None changes nothing."""
    invocation = _current.get()
    if invocation and value is not None:
        invocation.facts[fact] = value


def count(metric: Metric, amount: float = 1) -> None:
    """Add `amount` to a metric of the invocation. Safe in threads; does nothing outside an invocation."""
    invocation = _current.get()
    if invocation and amount:
        with invocation.lock:
            invocation.counts[metric] = round(invocation.counts.get(metric, 0) + amount, 3)


def seconds_left() -> float:
    """Return the seconds until Lambda ends the invocation; infinity outside an invocation."""
    invocation = _current.get()
    return invocation.ms_left() / 1000 if invocation else math.inf


@contextmanager
def timed(metric: Metric) -> Iterator[None]:
    """Add the milliseconds that the block takes to a metric."""
    clock = (_current.get() or Invocation()).clock
    started_at = clock()
    try:
        yield
    finally:
        count(metric, (clock() - started_at) * 1000)


def refuse(code: str, reason: str | None = None) -> None:
    """Note that the invocation ended by the caller's fault.

    Args:
        code: one of PROTOCOL.md's error codes.
        reason: a detail for our log, which the caller may not learn; nothing that the caller sent.
    """
    note("outcome", "refused")
    note("error", code)
    note("reason", reason or None)


def fail(failure: Exception) -> None:
    """Count a failure that is our fault or AWS's, and log it with its stack."""
    count(Metric.INTERNAL_ERRORS)
    note("outcome", "failed")
    note("error", type(failure).__name__)
    log.error("%s failed", (_current.get() or Invocation()).name, exc_info=failure)


class Observer:
    """Write the line of each invocation, also of one that raises: Chalice middleware around every door.

    What a door raises reaches Lambda, which then counts an error of the function. `clock` gives seconds.
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
    # Chalice gives REST doors its request, and all others the raw event in an object of its own.
    context = getattr(event, "context", None)
    return event.lambda_context if isinstance(context, Mapping) else context


def _about(event: Any) -> Facts:
    context, on_lambda = getattr(event, "context", None), _lambda_context(event)
    if isinstance(context, Mapping):
        request = context
        route: object = f"{request.get('httpMethod')} {request.get('resourcePath')}"
    else:
        # A function that is invoked directly can be sent any JSON.
        raw = event.to_dict() if context else None
        found = raw.get("requestContext") if isinstance(raw, Mapping) else None
        request = found if isinstance(found, Mapping) else {}
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
    found = response.get("statusCode") if isinstance(response, Mapping) else getattr(response, "status_code", None)
    status = found if isinstance(found, int) else None
    note("status", status)
    if "outcome" not in facts():
        # No door has noted how it ended: it went well, or Chalice answered by itself.
        outcome = "ok" if status is None or status < 400 else "refused" if status < 500 else "failed"
        note("outcome", outcome)
        if outcome == "failed":
            count(Metric.INTERNAL_ERRORS)
