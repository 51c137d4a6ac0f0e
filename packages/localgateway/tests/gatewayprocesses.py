"""The gateway and Chalice as processes of their own, with a project that has sockets, a route and a table."""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from gatewaykit import SECONDS
from localgateway.aws.installation import engine_directory

APP = """
import os
import boto3
from chalice import Chalice

app = Chalice(app_name="sample")
app.experimental_feature_flags.update(["WEBSOCKETS"])
if "LOCAL_GATEWAY_PORT" in os.environ:
    import localgateway
    localgateway.attach()
app.websocket_api.session = boto3.session.Session()
table = boto3.client("dynamodb")

@app.on_ws_connect()
def connect(event):
    table.put_item(TableName="rows", Item={"PK": {"S": event.connection_id}})

@app.on_ws_message()
def message(event):
    app.websocket_api.send(event.connection_id, os.environ["GREETING"] + event.body)

@app.on_ws_disconnect()
def disconnect(event):
    table.delete_item(TableName="rows", Key={"PK": {"S": event.connection_id}})

@app.route("/count")
def count():
    return {"count": table.scan(TableName="rows")["Count"]}
"""


def bare_environment() -> dict[str, str]:
    """Return the environment of a machine without any AWS settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COV_", "PYTEST_"))}
    return kept | {
        "HOME": "/nonexistent",
        "LOCALGATEWAY_ENGINE_DIR": str(engine_directory().parent),
        "PYTHONUNBUFFERED": "1",
        # Chalice restarts when any file of the project changes, a cached module included.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT reach the processes that are started in this block, even if it is ignored here, as under nohup.

    A new program inherits a signal that is ignored, but not a handler.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Process:
    """A process whose output is read as it arrives; one that hangs is killed, so that no test waits for ever."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        with interruptible():
            self.popen = subprocess.Popen(
                arguments,
                cwd=cwd,
                env=bare_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.output = ""
        self._watchdog = Timer(120, self.popen.kill)
        self._watchdog.start()

    def prints(self, pattern: str) -> str:
        """Wait for a line that matches, and return its first group."""
        assert self.popen.stdout
        for line in self.popen.stdout:
            self.output += line
            if match := re.search(pattern, line):
                return match[1] if match.groups() else match[0]
        raise AssertionError(f"no {pattern!r} in:\n{self.output}")

    def ends(self) -> int:
        """Wait for the end and return the exit code; the rest of the output is in `output` then."""
        assert self.popen.stdout
        code = self.popen.wait(timeout=SECONDS)
        self.output += self.popen.stdout.read()
        return code

    def child(self) -> int:
        """Return the process id of the one child."""
        (child,) = children_of(self.popen.pid)
        return child

    def descendants(self) -> list[int]:
        """Return the process ids of all children and theirs."""
        found = children_of(self.popen.pid)
        for pid in found:
            found += children_of(pid)
        return found

    def close(self) -> None:
        self._watchdog.cancel()
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        assert self.popen.stdout
        self.popen.stdout.close()


FREE = ("--port", "0", "--rest-port", "0")
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc")


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends_soon(pid: int) -> bool:
    deadline = time.monotonic() + SECONDS
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=SECONDS) as response:
        return response.read().decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
