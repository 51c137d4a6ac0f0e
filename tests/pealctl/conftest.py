"""The command line beside the local gateway, which runs the project.

Tests of how a command starts, ends or uses its pipes run it as a process; all others run it in this one, which is
faster.
"""

import io
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

import pytest

from gatewayprocesses import interruptible
from localgateway.testing import Gateway
from pealctl.__main__ import main
from tests.conftest import PROJECT

SECONDS = 20
PROGRAM = (sys.executable, "-m", "pealctl")


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Running:
    """A command that still runs, read as it prints."""

    def __init__(self, *arguments: str) -> None:
        with interruptible():
            self.process = subprocess.Popen(
                [*PROGRAM, *arguments],
                cwd=PROJECT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

    def prints(self) -> str:
        """Return the next line of its output."""
        return self._line(self.process.stdout)

    def notes(self) -> str:
        """Return the next line that it prints for the person."""
        return self._line(self.process.stderr)

    def is_interrupted(self) -> Done:
        """Type Ctrl-C; return how it ends, without the lines that were read before."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=SECONDS)
        return Done(self.process.returncode, out.decode(), err.decode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
        self.process.wait(SECONDS)

    def _line(self, stream: Any) -> str:
        line, deadline = b"", time.monotonic() + SECONDS
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([stream], [], [], max(deadline - time.monotonic(), 0))
            one = os.read(stream.fileno(), 1) if ready else b""
            assert one, f"no more than {line!r} within {SECONDS} s"
            line += one
        return line.decode().rstrip("\n")


def environment() -> dict[str, str]:
    """Return an environment with no AWS account, and with a proxy that must not be used for this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COV_", "PYTEST_"))}
    no_account = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return kept | no_account | {"AWS_EC2_METADATA_DISABLED": "true", "http_proxy": "http://127.0.0.1:9"}


def run(*arguments: str, stdin: bytes = b"") -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        [*PROGRAM, *arguments], cwd=PROJECT, env=environment(), input=stdin, capture_output=True, timeout=SECONDS
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def stage(gateway: Gateway) -> tuple[str, ...]:
    """The options that point a command at the gateway of this test."""
    assert gateway.rest_url
    return "--url", gateway.rest_url, "--socket-url", gateway.url


def say(*arguments: str, stdin: bytes = b"") -> Done:
    """Run a command to its end in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            status = main(arguments)
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, out.getvalue(), err.getvalue())


@pytest.fixture
def peal_says(stage: tuple[str, ...]) -> Callable[..., Done]:
    """Run a command on the gateway."""
    return lambda *arguments, **options: say(*stage, *arguments, **options)


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start a command that runs until it is interrupted."""
    with ExitStack() as stack:

        def start(*arguments: str) -> Running:
            running = Running(*arguments)
            stack.callback(running.close)
            return running

        yield start
