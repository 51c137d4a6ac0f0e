"""One MiniStack for a session of tests, of which nothing is left afterwards."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

HERE = Path(__file__).parent
REGION = "eu-central-1"
_accounts = itertools.count(100_000_000_001)


class MiniStack:
    """An emulator of AWS at `url` that enforces permissions (`AUTH=true`)."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def account(self) -> "Account":
        """Return an empty account."""
        return Account(self.url, str(next(_accounts)))


class Account:
    """An account. Its owner may do everything; other users may do what their policy allows."""

    def __init__(self, url: str, number: str) -> None:
        self.url = url
        self.number = number
        # In MiniStack an access key of twelve digits is the owner of the account with that number.
        self._owner = {"aws_access_key_id": number, "aws_secret_access_key": "owner"}

    def client(self, service: str) -> Any:
        config = Config(retries={"total_max_attempts": 1})
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, config=config, **self._owner)

    def make_deployer(self, policy: str) -> dict[str, str]:
        """Create the user `deployer`; return the environment of its processes."""
        return self.make_user("deployer", policy)

    def make_user(self, name: str, policy: str) -> dict[str, str]:
        """Create a user with that policy and no other; return the environment of its processes."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
        }

    def deny(self, action: str, resource: str) -> None:
        """Refuse the deployer that action from now on."""
        statement = f'{{"Effect":"Deny","Action":"{action}","Resource":"{resource}"}}'
        document = f'{{"Version":"2012-10-17","Statement":[{statement}]}}'
        self.client("iam").put_user_policy(UserName="deployer", PolicyName="deny", PolicyDocument=document)

    def deny_nothing(self) -> None:
        self.client("iam").delete_user_policy(UserName="deployer", PolicyName="deny")


@contextmanager
def running() -> Iterator[MiniStack]:
    """Run a MiniStack on a free port of this machine until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AUTH": "true",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "0",
        "LOG_LEVEL": "WARNING",
        # Functions inherit this; see lambda_site.
        "PYTHONPATH": str(HERE / "lambda_site"),
    }
    process = subprocess.Popen([sys.executable, "-P", HERE / "launcher.py"], env=environment, start_new_session=True)
    try:
        wait_for(port, process)
        yield MiniStack(port)
    finally:
        # Its functions are processes of the same group.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("MiniStack did not start")


def copy_project(source: Path, target: Path) -> Path:
    """Copy what git tracks, or would with `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=source,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
    return target
