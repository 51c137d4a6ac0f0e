"""Runs handlers as Lambda would: one event in, one JSON value, error or timeout out.

`Invoker` is the seam between the gateway and whatever runs the code. Here it is threads of this process: quick to start
and friendly to a debugger, but module state is shared and a handler past its time cannot be stopped, only given up.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Literal, Protocol

from chalice.local import LambdaContext

from localgateway.lambda_events import Event

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Function:
    """One Lambda function of the project: its Chalice name, the name it is deployed under, and what it runs."""

    name: str
    deployed_name: str
    handler: Callable[[Event, Any], Any]
    timeout_seconds: float
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Result:
    """How an invocation ended; `payload` is what the handler returned, as JSON gives it back."""

    outcome: Literal["ok", "error", "timeout"]
    payload: Any = None


class Invoker(Protocol):
    """Whatever runs the handlers."""

    async def invoke(self, function: Function, event: Event) -> Result:
        """Run one handler; it goes on to its end even if nobody waits for the result any more."""

    def close(self) -> None:
        """Let the idle go at once and the busy when they are done."""


class ThreadInvoker:
    """Runs handlers in at most `concurrent_invocations` threads, made when needed and kept.

    All its own state is touched on the event loop only. Its threads are daemons: a handler that never returns
    must not keep the process alive.
    """

    def __init__(self, concurrent_invocations: int) -> None:
        self._slots = asyncio.Semaphore(concurrent_invocations)
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._idle = 0

    async def invoke(self, function: Function, event: Event) -> Result:
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()

        def work() -> None:
            outcome = run(function, event)
            # A loop that is closed by now belongs to a gateway that has stopped: nobody waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, outcome)

        def finish(outcome: Result) -> None:
            self._idle += 1
            self._slots.release()
            if not result.done():
                result.set_result(outcome)

        self._start(work)
        try:
            return await asyncio.wait_for(result, function.timeout_seconds)
        except TimeoutError:
            log.error("%s: Task timed out after %.2f seconds", function.name, function.timeout_seconds)
            return Result("timeout")

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        deadline = monotonic() + 0.2
        for thread in self._threads:
            thread.join(max(0, deadline - monotonic()))

    def _start(self, work: Callable[[], None]) -> None:
        if self._idle:
            self._idle -= 1
        else:
            thread = Thread(target=self._serve, name=f"lambda-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(work)

    def _serve(self) -> None:
        while work := self._jobs.get():
            work()


def run(function: Function, event: Event) -> Result:
    """Call the handler with a Lambda context; the result passes through JSON, as it does on Lambda.

    Whatever the handler raises, SystemExit included, is an error of this invocation; the traceback goes to the log.
    """
    context = LambdaContext(
        function.deployed_name, function.memory_mb, max_runtime_ms=int(function.timeout_seconds * 1000)
    )
    try:
        return Result("ok", json.loads(json.dumps(function.handler(event, context))))
    except BaseException:
        log.exception("%s failed", function.name)
        return Result("error")
