"""Runs handlers in worker processes, as Lambda does: one invocation at a time in each, kept warm, killed past its time.

Each function has processes of its own, so code that relies on memory shared between functions fails here, not in
production. If a process dies, only the invocation it was running fails.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from localgateway.contract.events import Event
from localgateway.contract.invoke import Result
from localgateway.contract.project import Function, Project
from localgateway.errors import ProjectError
from localgateway.runtime.output import Hear, Transcript
from localgateway.runtime.worker import LENGTH

log = logging.getLogger(__name__)

T = TypeVar("T")


class Zygote:
    """The process that forks the workers; see `zygote`."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: this package's directory must not be searched for modules.
                [sys.executable, "-P", str(Path(__file__).with_name("zygote.py"))],
                stdin=theirs.fileno(),
                # Not reached by the terminal's Ctrl-C: handlers may still have to run while the gateway shuts down.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id; the workers are its children."""
        return self._process.pid

    def fork(self) -> socket.socket:
        """Return the channel of a new worker.

        Raises:
            ProjectError: if this process has been killed.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"+"], [theirs.fileno()])
            except OSError:
                ours.close()
                raise ProjectError("the process that starts workers was killed; start the gateway again") from None
        return ours

    def stop(self) -> None:
        """End it; workers end when their channels do."""
        self._control.close()
        self._process.wait()


class Worker:
    """One worker process, as the gateway sees it. Its channel is a blocking socket, used from one thread at a time."""

    def __init__(self, channel: socket.socket, start: Mapping[str, Any]) -> None:
        """Start it, which takes as long as the project takes to import.

        Raises:
            ProjectError: if the project does not import; its traceback is on stderr already.
        """
        self._channel = channel
        self._stream = channel.makefile("rb")
        answer = self.exchange(start)
        if "failure" in answer:
            self.close()
            raise ProjectError(answer["failure"])
        self.pid: int = answer["pid"]
        self.project = Project.from_json(answer["project"])

    def exchange(self, value: Any, hear: Hear = lambda line: None) -> Any:
        """Send a value and return the answer; pass on lines that are written meanwhile.

        Raises:
            EOFError: if the process ends before that.
        """
        body = json.dumps(value).encode()
        try:
            self._channel.sendall(LENGTH.pack(len(body)) + body)
            while isinstance(answer := self._receive(), str):
                hear(answer)
        except OSError as error:
            raise EOFError from error
        return answer

    def _receive(self) -> Any:
        length = self._stream.read(LENGTH.size)
        answer = self._stream.read(*LENGTH.unpack(length)) if len(length) == LENGTH.size else b""
        if not answer:
            raise EOFError
        return json.loads(answer)

    def close(self) -> None:
        """Close the channel, which ends the process at once."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._stream.close()
        self._channel.close()

    def kill(self) -> None:
        """Kill the process; an exchange that waits for it raises EOFError."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


Hire = Callable[[Function], Worker]


class WorkerInvoker:
    """Runs each function in worker processes of its own, at most `concurrent_invocations` at the same time.

    Args:
        hire: starts a worker for a function.
    """

    def __init__(self, hire: Hire, concurrent_invocations: int) -> None:
        self._hire = hire
        self._slots = asyncio.Semaphore(concurrent_invocations)
        # A thread for each invocation, to wait at the worker's channel.
        self._threads = ThreadPoolExecutor(concurrent_invocations, thread_name_prefix="worker")
        self._idle: defaultdict[str, list[Worker]] = defaultdict(list)
        self._busy: set[Worker] = set()
        self._warming: dict[str, asyncio.Task[None]] = {}
        # Counts deployments: a worker that started before the last one is not used again.
        self._generation = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    async def invoke(self, function: Function, event: Event) -> Result:
        # The caller may stop waiting; the handler continues.
        return await asyncio.shield(self._begin(self._run(function, event)))

    def warm_up(self, functions: Iterable[Function]) -> None:
        """Start a worker for each, to be used by its first invocation."""
        for function in functions:
            self._warming[function.name] = self._begin(self._warm_up(function))

    def deploy(self, hire: Hire, functions: Iterable[Function]) -> None:
        """Run all further invocations in workers that `hire` starts; running ones finish where they are."""
        self._hire = hire
        self._retire()
        self.warm_up(functions)

    async def crash(self, function: Function, event: Event) -> Result:
        return await asyncio.shield(self._begin(self._run(function, event, is_doomed=True)))

    async def close(self) -> None:
        self._is_closing = True
        self._retire()
        for worker in self._busy:
            worker.kill()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._threads.shutdown()

    def _begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, function: Function, event: Event, *, is_doomed: bool = False) -> Result:
        async with self._slots:
            idle = self._idle[function.name]
            if warming := self._warming.pop(function.name, None):
                await asyncio.wait([warming])
            generation = self._generation
            try:
                worker = idle.pop() if idle else await self._start(function)
            except (ProjectError, EOFError) as error:
                log.error("%s cannot start: %s", function.name, error or "its process ended")
                return Result("error")
            self._busy.add(worker)
            if is_doomed or self._is_closing:
                worker.kill()
            transcript = Transcript()
            try:
                result = await self._exchange(worker, function, event, transcript)
            finally:
                self._busy.discard(worker)
            lines = transcript.to_lines()
            if result is None:
                worker.close()
                return Result("error", lines=lines)
            if result.outcome == "timeout" or generation != self._generation:
                worker.close()
            else:
                idle.append(worker)
            return replace(result, lines=lines)

    async def _exchange(
        self, worker: Worker, function: Function, event: Event, transcript: Transcript
    ) -> Result | None:
        """Return how the handler ended, None if its process ended before it."""
        order = {"function": asdict(function), "event": event}
        exchange = asyncio.get_running_loop().run_in_executor(self._threads, worker.exchange, order, transcript.add)
        done, _ = await asyncio.wait([exchange], timeout=function.timeout_seconds)
        if not done:
            worker.kill()
        try:
            answer = await exchange
            return Result(answer["outcome"], answer["payload"])
        except EOFError:
            if not done:
                log.error("%s: Task timed out after %.2f seconds", function.name, function.timeout_seconds)
                return Result("timeout")
            log.error("%s: its process ended before it answered", function.name)
            return None

    async def _warm_up(self, function: Function) -> None:
        generation = self._generation
        # A failure to start is reported when the worker is needed.
        with suppress(ProjectError, EOFError):
            worker = await self._start(function)
            if generation == self._generation:
                self._idle[function.name].append(worker)
            else:
                worker.close()

    def _retire(self) -> None:
        self._generation += 1
        for workers in self._idle.values():
            while workers:
                workers.pop().close()

    async def _start(self, function: Function) -> Worker:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hire, function)
