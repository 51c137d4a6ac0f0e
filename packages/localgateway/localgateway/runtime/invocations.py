"""All invocations, whatever their cause: tracked, remembered for a while, and subject to faults.

A record says which function ran, why, how it ended and what it wrote; never what it was given or returned.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from itertools import count, islice
from typing import Literal

from localgateway.contract.events import Event
from localgateway.contract.invoke import Invoker, Result
from localgateway.contract.project import Function
from localgateway.contract.results import IntegrationFailure, read_status
from localgateway.faults import Faults
from localgateway.runtime.output import shorten

# How many records are kept.
REMEMBERED = 1_000
# A top-level key that tells an event's source, for events other than a WebSocket's.
CAUSES = {"methodArn": "AUTHORIZE", "Records": "QUEUE", "detail-type": "SCHEDULE", "method": "REST"}


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is known of an invocation when it begins.

    Attributes:
        function: Chalice's name for it.
        route: the WebSocket route, such as `$connect`; None if something else invoked it.
        connection_id: the connection of the event, None as above.
        cause: what invoked it: `CONNECT`, `MESSAGE`, `DISCONNECT`, `INVOKE` or one of CAUSES.
        started_at_ms: in epoch milliseconds.
    """

    function: str
    route: str | None
    connection_id: str | None
    cause: str
    started_at_ms: int


@dataclass(frozen=True, slots=True)
class Invocation(Beginning):
    """One invocation that has ended.

    Attributes:
        number: 1 for the first that ended, 2 for the next.
        status: the status code it returned, if any.
        error: why it failed, None if it did not.
        lines: the last of what it wrote.
    """

    number: int
    outcome: Literal["ok", "error", "timeout"]
    status: int | None
    error: str | None
    duration_ms: float
    lines: tuple[str, ...]


class Invocations:
    """An Invoker around another one.

    Attributes:
        running: the running invocations, including those that nobody waits for.
        ended: the latest records, in the order in which the invocations ended.
    """

    def __init__(self, invoker: Invoker, faults: Faults) -> None:
        self.running: dict[asyncio.Task[Result], Beginning] = {}
        self.ended: deque[Invocation] = deque(maxlen=REMEMBERED)
        self._invoker = invoker
        self._faults = faults
        self._numbers = count(1)
        self._delays: set[asyncio.Task[None]] = set()

    def after(self, number: int) -> list[Invocation]:
        """Return the records of those that ended after the one with this number, in order."""
        newer = self.ended[-1].number - number if self.ended else 0
        return list(islice(self.ended, max(0, len(self.ended) - newer), None))

    async def invoke(self, function: Function, event: Event) -> Result:
        beginning = begin(function, event)
        task = asyncio.create_task(self._run(function, event, beginning))
        self.running[task] = beginning
        task.add_done_callback(self.running.pop)
        # The caller may stop waiting; the handler continues.
        return await asyncio.shield(task)

    async def crash(self, function: Function, event: Event) -> Result:
        return await self._invoker.crash(function, event)

    async def close(self) -> None:
        await self._invoker.close()

    def forget(self) -> None:
        """Forget past invocations, and drop those that a fault still delays: they never begin."""
        self.ended.clear()
        for delay in self._delays:
            delay.cancel()

    async def _run(self, function: Function, event: Event, beginning: Beginning) -> Result:
        route = beginning.route
        started_at = time.monotonic()
        result = Result("error")
        try:
            if route and (delay := self._faults.take("delay-route", route)):
                await self._delay(delay.seconds)
            is_doomed = self._faults.take("kill-worker", function.name)
            result = await (self._invoker.crash if is_doomed else self._invoker.invoke)(function, event)
            return result
        finally:
            duration_ms = (time.monotonic() - started_at) * 1000
            self.ended.append(
                Invocation(
                    function=beginning.function,
                    route=route,
                    connection_id=beginning.connection_id,
                    cause=beginning.cause,
                    started_at_ms=beginning.started_at_ms,
                    number=next(self._numbers),
                    outcome=result.outcome,
                    status=find_status(result),
                    error=find_error(result, function),
                    duration_ms=duration_ms,
                    lines=result.lines,
                )
            )

    async def _delay(self, seconds: float) -> None:
        delay = asyncio.create_task(asyncio.sleep(seconds))
        self._delays.add(delay)
        delay.add_done_callback(self._delays.discard)
        await delay


def begin(function: Function, event: Event) -> Beginning:
    """Record the beginning of an invocation; Invoke takes any JSON as an event, so no key is certain."""
    context = event.get("requestContext") if isinstance(event, dict) else None
    context = context if isinstance(context, dict) else {}
    return Beginning(
        function=function.name,
        route=context.get("routeKey"),
        connection_id=context.get("connectionId"),
        cause=find_cause(event) or str(context.get("eventType", "INVOKE")),
        started_at_ms=time.time_ns() // 1_000_000,
    )


def find_cause(event: Event) -> str | None:
    """Tell what invoked a function by the shape of its event; None for a connection's event."""
    return next((cause for key, cause in CAUSES.items() if isinstance(event, dict) and key in event), None)


def find_status(result: Result) -> int | None:
    try:
        return read_status(result)
    except IntegrationFailure:
        return None


def find_error(result: Result, function: Function) -> str | None:
    """Describe in one line why an invocation failed; None if it did not."""
    match result:
        case Result("ok"):
            return None
        case Result("timeout"):
            return f"Task timed out after {function.timeout_seconds:.2f} seconds"
        case Result(payload={"errorType": kind, "errorMessage": message}):
            return shorten(f"{kind}: {message}")
    return "Its process ended before it answered."
