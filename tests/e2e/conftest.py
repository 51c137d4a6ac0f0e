"""One emulator of AWS for all tests, and per account a clone of the project with a deployer of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gatewayprocesses import interruptible
from tests.e2e.emulator import Account, MiniStack, copy_project, running
from tests.support.processes import killed_after

PROJECT = Path(__file__).parents[2]
POLICY = json.loads((PROJECT / "docs" / "deployer-policy.json").read_text())
# AWS checks the rule or function that docs/deployer-policy.json names; MiniStack checks `*`.
EMULATOR_ONLY = {"Effect": "Allow", "Action": ["events:*", "lambda:CreateFunction"], "Resource": "*"}


@pytest.fixture(scope="session")
def ministack() -> Iterator[MiniStack]:
    with running() as ministack:
        yield ministack


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of requirements.txt that Chalice has made for the first clone."""
    return tmp_path_factory.mktemp("deployments")


class Clone:
    """A clone of the project, and a deployer with the permissions of docs/DEPLOY.md in an account."""

    def __init__(self, directory: Path, account: Account, libraries: Path) -> None:
        self.directory = copy_project(PROJECT, directory)
        (self.directory / ".chalice" / "deployments").symlink_to(libraries)
        self.account = account
        self.environment = account.make_deployer(
            json.dumps(POLICY | {"Statement": [*POLICY["Statement"], EMULATOR_ONLY]})
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pealctl", *arguments],
            cwd=self.directory,
            env=self._process_environment(),
            capture_output=True,
            text=True,
            timeout=180,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "pealctl", *arguments],
            cwd=self.directory,
            env=self._process_environment() | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def operates(self, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on stage dev, with the credentials of that environment."""
        return subprocess.run(
            [sys.executable, "-m", "pealctl", "--stage", "dev", *arguments],
            cwd=self.directory,
            env=self._process_environment() | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @contextmanager
    def operating(self, environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command on stage dev beside the block, which interrupts it."""
        with interruptible():
            process = subprocess.Popen(
                [sys.executable, "-m", "pealctl", "--stage", "dev", *arguments],
                cwd=self.directory,
                env=self._process_environment() | environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        with process, killed_after(60, process):
            yield process

    def deploys(self, stage: str = "dev") -> "Deployed":
        """Deploy, and show the output of a failure."""
        done = self.run("deploy", "--stage", stage)
        assert done.returncode == 0, done.stdout + done.stderr
        return Deployed.of(done.stdout)

    def forgets(self) -> None:
        """Delete Chalice's records: a fresh clone has none."""
        for path in (self.directory / ".chalice" / "deployed").glob("*.json"):
            path.unlink()

    def replace(self, name: str, old: str, new: str) -> None:
        path = self.directory / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def _process_environment(self) -> dict[str, str]:
        wheels = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(Path(sys.prefix) / "wheels")}
        # The clone's own pealctl, because tests change its permissions.
        own = {"PYTHONPATH": str(self.directory / "packages" / "pealctl")}
        common = {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"}
        return common | own | wheels | self.environment


class Deployed:
    """The URLs that `make deploy` prints at the end."""

    def __init__(self, websocket: str, rest: str) -> None:
        self.websocket, self.rest = websocket, rest

    @classmethod
    def of(cls, output: str) -> "Deployed":
        lines = dict(line.split(None, 1) for line in output.splitlines() if "://" in line and line[0].isupper())
        return cls(lines["WebSocket"], lines["REST"])


@pytest.fixture(scope="module")
def clone(ministack: MiniStack, libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone and an account, empty at first, that the tests of a module share."""
    return Clone(tmp_path_factory.mktemp("clone"), ministack.account(), libraries)


@pytest.fixture
def fresh_clone(ministack: MiniStack, libraries: Path, tmp_path: Path) -> Clone:
    """A clone and an empty account for one test."""
    return Clone(tmp_path, ministack.account(), libraries)


def remains(account: Account, prefix: str = "peal-") -> dict[str, list[Any]]:
    """Return the names of everything in an account that begins with `prefix`, by kind, without empty kinds."""
    client = account.client
    stacks = client("cloudformation").describe_stacks()["Stacks"]
    found = {
        "stacks": [stack["StackName"] for stack in stacks if stack["StackStatus"] != "DELETE_COMPLETE"],
        "tables": client("dynamodb").list_tables()["TableNames"],
        "queues": [url.rpartition("/")[2] for url in client("sqs").list_queues().get("QueueUrls", [])],
        "functions": [function["FunctionName"] for function in client("lambda").list_functions()["Functions"]],
        "roles": [role["RoleName"] for role in client("iam").list_roles()["Roles"]],
        "logs": [
            group["logGroupName"].removeprefix("/aws/lambda/")
            for group in client("logs").describe_log_groups()["logGroups"]
        ],
        "rules": [rule["Name"] for rule in client("events").list_rules()["Rules"]],
        "alarms": [alarm["AlarmName"] for alarm in client("cloudwatch").describe_alarms()["MetricAlarms"]],
        "sockets": [api["Name"] for api in client("apigatewayv2").get_apis()["Items"]],
    }
    return {kind: kept for kind, names in found.items() if (kept := sorted(n for n in names if n.startswith(prefix)))}
