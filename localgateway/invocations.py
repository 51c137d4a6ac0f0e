"""Every invocation, whatever causes it: watched, remembered for a while, and struck by faults.

What is remembered says which function ran, why and how it ended; never what it was given or returned.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

from localgateway.faults import Faults
from localgateway.invoke import Invoker, Result
from localgateway.lambda_events import Event
from localgateway.project import Function

# How many are remembered.
REMEMBERED = 1_000


@dataclass(frozen=True, slots=True)
class Invocation:
    """One invocation that has ended.

    Attributes:
        function: Chalice's name for it.
        route: the WebSocket route, `$connect` for one; None if something else has invoked it.
        connection_id: whose event it was, None as above.
    """

    function: str
    route: str | None
    connection_id: str | None
    outcome: Literal["ok", "error", "timeout"]
    duration_ms: float


class Invocations:
    """An Invoker around another.

    Attributes:
        running: the invocations at work, those included that nobody waits for any more.
        ended: the last ones, in the order in which they ended.
    """

    def __init__(self, invoker: Invoker, faults: Faults) -> None:
        self.running: set[asyncio.Task[Result]] = set()
        self.ended: deque[Invocation] = deque(maxlen=REMEMBERED)
        self._invoker = invoker
        self._faults = faults
        self._delays: set[asyncio.Task[None]] = set()

    async def invoke(self, function: Function, event: Event) -> Result:
        task = asyncio.create_task(self._run(function, event))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        # Whoever waits may give up; the handler goes on.
        return await asyncio.shield(task)

    async def crash(self, function: Function, event: Event) -> Result:
        return await self._invoker.crash(function, event)

    async def close(self) -> None:
        await self._invoker.close()

    def forget(self) -> None:
        """Forget what has run, and give up what a fault still delays: it never begins."""
        self.ended.clear()
        for delay in self._delays:
            delay.cancel()

    async def _run(self, function: Function, event: Event) -> Result:
        context = event.get("requestContext", {})
        route = context.get("routeKey")
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
                Invocation(function.name, route, context.get("connectionId"), result.outcome, duration_ms)
            )

    async def _delay(self, seconds: float) -> None:
        delay = asyncio.create_task(asyncio.sleep(seconds))
        self._delays.add(delay)
        delay.add_done_callback(self._delays.discard)
        await delay
