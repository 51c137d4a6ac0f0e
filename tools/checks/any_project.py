"""Run two of Chalice's own projects, unmodified, under `localgateway`, and check them with real clients.

    python tools/checks/any_project.py [--source CHECKOUT_OF_CHALICE]

They are the chat server of Chalice's tutorial (docs/source/tutorials/wschat.rst) and the application of Chalice's tests
on AWS (tests/aws/testwebsocketapp). Opt-in: neither is in Chalice's packages on PyPI, so without a checkout the source
of the installed version is fetched from GitHub. What they promise is what the tutorial prints and that test asserts.
"""

import argparse
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from textwrap import dedent
from threading import Timer
from typing import IO

import boto3
from websockets.sync.client import ClientConnection, connect

REPOSITORY = Path(__file__).parents[2]
SOURCE = "https://github.com/aws/chalice/archive/refs/tags/{}.tar.gz"
TUTORIAL = "docs/source/tutorials/wschat.rst"
TEST_APP = "tests/aws/testwebsocketapp"
# How long one answer and one whole project may take.
SECONDS = 10
PROJECT_SECONDS = 120

# What the test creates by API before it deploys.
TABLE = {
    "Type": "AWS::DynamoDB::Table",
    "Properties": {
        "TableName": "smoketest",
        "AttributeDefinitions": [{"AttributeName": "entry", "AttributeType": "N"}],
        "KeySchema": [{"AttributeName": "entry", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    },
}


class Difference(Exception):
    """A project behaves differently from AWS."""


@dataclass(frozen=True)
class Gateway:
    """A running gateway: where clients connect, and the variables that another process needs."""

    url: str
    environment: dict[str, str]

    @contextmanager
    def joins(self) -> Iterator["Client"]:
        with connect(self.url, open_timeout=SECONDS) as socket:
            yield Client(socket)


class Client:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def sends(self, text: str) -> None:
        self.socket.send(text)

    def receives(self, *texts: str) -> None:
        """Wait for these messages, in this order."""
        for expected in texts:
            received = self.socket.recv(timeout=SECONDS)
            if received != expected:
                raise Difference(f"received {received!r} instead of {expected!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run Chalice's own WebSocket projects under the local gateway.")
    parser.add_argument("--source", type=Path, help="a checkout of aws/chalice, instead of fetching one")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as directory:
        try:
            source = options.source or fetch(Path(directory, "source"))
        except OSError as error:
            parser.error(f"GitHub does not give Chalice's source ({error}): pass a checkout with --source")
        failures = 0
        for name, check in (("wschat tutorial", check_wschat), ("testwebsocketapp", check_test_app)):
            started_at = time.monotonic()
            try:
                check(source, Path(directory, name.replace(" ", "-")))
                says = "as on AWS"
            except (Difference, TimeoutError) as difference:
                says = f"DIFFERS: {difference or 'no answer in time'}"
                failures += 1
            print(f"{name:20} {says} ({time.monotonic() - started_at:.1f} s)", flush=True)
    return 1 if failures else 0


def fetch(directory: Path) -> Path:
    """Return a directory with the source of the installed version."""
    with urllib.request.urlopen(SOURCE.format(version("chalice")), timeout=60) as response:
        archive = io.BytesIO(response.read())
    with tarfile.open(fileobj=archive) as tar:
        tar.extractall(directory, filter="data")
    (source,) = directory.iterdir()
    return source


def check_wschat(source: Path, project: Path) -> None:
    """Play the tutorial's two clients; between their lines is what the tutorial shows they receive."""
    for path, text in read_tutorial((source / TUTORIAL).read_text()).items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    # What `chalice new-project` has created.
    (project / ".chalice").mkdir()
    (project / ".chalice" / "config.json").write_text(
        json.dumps({"version": "2.0", "app_name": "chalice-chat-example", "stages": {"dev": {}}})
    )
    with running(project) as gateway, gateway.joins() as john, gateway.joins() as jenny:
        for client, name in ((john, "John"), (jenny, "Jenny")):
            client.sends(name)
            client.receives(f"Using nickname: {name}\nType /help for list of commands.")
        john.sends("/help")
        if not str(john.socket.recv(timeout=SECONDS)).startswith("Commands available:\n    /help\n"):
            raise Difference("/help does not help")
        john.sends("/join chalice")
        john.receives('Joined chat room "chalice"')
        jenny.sends("/join chalice")
        jenny.receives('Joined chat room "chalice"')
        john.receives("Jenny joined room.")
        jenny.sends("/ls")
        if (names := sorted(str(jenny.socket.recv(timeout=SECONDS)).split("\n"))) != ["Jenny", "John"]:
            raise Difference(f"/ls lists {names}")
        john.sends("Hi")
        john.receives("John: Hi")
        jenny.receives("John: Hi")
        jenny.sends("/nick JennyJones")
        jenny.receives("Nickname is: JennyJones")
        john.receives("Jenny is now known as JennyJones.")
        john.sends("/quit")
        john.receives('Left chat room "chalice"')
        jenny.receives("John left room.")
        john.sends("/ls")
        john.receives("chalice")
        for command, answer in (("/ls", "JennyJones"), ("/room", "chalice"), ("/nick", "Current nickname: JennyJones")):
            jenny.sends(command)
            jenny.receives(answer)
        jenny.socket.close()
        # Her $disconnect empties the room; nothing waits for it.
        for _ in range(20):
            john.sends("/ls")
            if john.socket.recv(timeout=SECONDS) == "":
                return
            time.sleep(0.1)
        raise Difference("a client that has left is still in the room")


def read_tutorial(text: str) -> dict[str, str]:
    """Return the files that the tutorial has the reader write, by their paths in the project."""
    blocks = re.findall(r"^\.\. code-block:: (?:python|json)\n   :caption: (\S+)\n\n((?:(?:   .*)?\n)+)", text, re.M)
    return {path.removeprefix("chalice-chat-example/"): dedent(block) for path, block in blocks}


def check_test_app(source: Path, project: Path) -> None:
    """Send numbers without a pause while the app is redeployed: as on AWS, the socket stays open and none is lost."""
    shutil.copytree(source / TEST_APP, project)
    (project / "resources.json").write_text(json.dumps({"Resources": {"Numbers": TABLE}}))
    with running(project, "--env", "APP_NAME=smoketest") as gateway, gateway.joins() as client:
        last = 0
        for last in range(1, 101):
            client.sends(str(last))
            if last == 40:
                shutil.copy(project / "app-redeploy.py", project / "app.py")
            time.sleep(0.05)
        # The first version stores failures, the second does not.
        client.sends("no number")
        if "Internal server error" not in str(client.socket.recv(timeout=SECONDS)):
            raise Difference("the new code does not run")
        session = boto3.session.Session(
            gateway.environment.get("AWS_ACCESS_KEY_ID"), gateway.environment.get("AWS_SECRET_ACCESS_KEY")
        )
        endpoint, region = gateway.environment["AWS_ENDPOINT_URL_DYNAMODB"], gateway.environment["AWS_REGION"]
        with closing(session.client("dynamodb", endpoint_url=endpoint, region_name=region)) as table:
            numbers: list[int] = []
            deadline = time.monotonic() + SECONDS
            while len(numbers) < last and time.monotonic() < deadline:
                items = table.scan(TableName="smoketest", ConsistentRead=True)["Items"]
                numbers = sorted(int(item["entry"]["N"]) for item in items)
                time.sleep(0.1)
    if numbers != list(range(1, last + 1)):
        raise Difference(f"of 1 to {last} these have been stored: {numbers}")


@contextmanager
def running(project: Path, *arguments: str) -> Iterator[Gateway]:
    """Run a project until the block ends; its output is shown if that fails."""
    command = [sys.executable, "-m", "localgateway", str(project), "--stage", "dev", "--port", "0", "--rest-port", "0"]
    with ExitStack() as stack:
        log = stack.enter_context(TemporaryFile("w+"))
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=REPOSITORY,
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        stack.enter_context(process)
        watchdog = Timer(PROJECT_SECONDS, process.kill)
        watchdog.start()
        stack.callback(watchdog.cancel)
        stack.callback(process.terminate)
        assert process.stdout
        try:
            yield read_gateway(process.stdout)
        except (Difference, TimeoutError):
            log.seek(0)
            print(log.read(), file=sys.stderr)
            raise


def read_gateway(output: IO[str]) -> Gateway:
    """Read what a gateway prints when it serves."""
    url, environment = "", {}
    for line in output:
        if line.startswith("WebSocket "):
            url = line.split()[1]
        elif line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            environment[name] = shlex.split(value)[0]
        elif environment:
            return Gateway(url, environment)
    raise Difference("it does not start")


if __name__ == "__main__":
    sys.exit(main())
