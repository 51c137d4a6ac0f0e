"""Runs handlers in threads of this process: quick to start and friendly to a debugger.

Unlike on Lambda, all functions share module state and one environment, and a handler past its time cannot be stopped,
only abandoned. `pool` has none of these differences.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from threading import Thread
from time import monotonic

from localgateway.contract.events import Event
from localgateway.contract.invoke import Result
from localgateway.contract.project import Function
from localgateway.runtime.code import Code
from localgateway.runtime.output import Transcript, heard_in_thread

log = logging.getLogger(__name__)


class ThreadInvoker:
    """Runs handlers in at most `concurrent_invocations` threads, made when needed and kept.

    Its state is used on the event loop only. Its threads are daemons: a handler that never returns must not keep the
    process alive.
    """

    def __init__(self, code: Code, concurrent_invocations: int) -> None:
        self._code = code
        self._slots = asyncio.Semaphore(concurrent_invocations)
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._idle = 0

    async def invoke(self, function: Function, event: Event) -> Result:
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()
        transcript = Transcript()

        def work() -> None:
            with heard_in_thread(transcript.add):
                outcome = self._code.run(function, event)
            # If the loop is closed, the gateway has stopped and nobody waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, outcome)

        def finish(outcome: Result) -> None:
            self._idle += 1
            self._slots.release()
            if not result.done():
                result.set_result(outcome)

        self._start(work)
        try:
            ended = await asyncio.wait_for(result, function.timeout_seconds)
            return replace(ended, lines=transcript.to_lines())
        except TimeoutError:
            log.error("%s: Task timed out after %.2f seconds", function.name, function.timeout_seconds)
            return Result("timeout", lines=transcript.to_lines())

    async def crash(self, function: Function, event: Event) -> Result:
        # A thread cannot be killed, so the handler does not even begin.
        log.error("%s: its process ended before it answered", function.name)
        return Result("error")

    async def close(self) -> None:
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
