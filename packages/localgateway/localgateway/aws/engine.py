"""The AWS around the handlers: region, credentials, and an embedded DynamoDB and SQS.

Nothing leaves this machine unless AWS_ENDPOINT_URL says so, and no credentials are needed. The engine is a child
process that lives and dies with this one; it keeps everything in memory.
"""

import importlib.util
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import botocore.session
from botocore.exceptions import BotoCoreError

from localgateway.aws.resources import ResourceMaker
from localgateway.aws.tables import Tables
from localgateway.aws.template import Resources, read_resources
from localgateway.environment import applied
from localgateway.errors import ResourceError

log = logging.getLogger(__name__)

DEFAULT_REGION = "us-east-1"
# MiniStack keeps tables per account and region; a key that is no account number means its default account.
DUMMY_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


class LocalAws:
    """What stands for AWS around one project: `environment` is what its handlers and other processes must be given.

    An engine runs only if the project's resources.json has tables or queues and nobody has said where they live.
    """

    def __init__(self, project_dir: Path) -> None:
        self.environment = find_environment()
        self._template_path = project_dir / "resources.json"
        self._engine: Engine | None = None
        self._maker: ResourceMaker | None = None
        wanted = self._read_resources(stage="")
        if (wanted.tables and not has_endpoint("DYNAMODB")) or (wanted.queues and not has_endpoint("SQS")):
            self._engine = Engine()
            self.environment |= self._engine.environment

    def start(self) -> None:
        """Start the engine and return at once."""
        if self._engine:
            self._engine.start()

    def create_resources(self, stage: str) -> None:
        """Make the tables and queues that are not there yet; takes as long as the engine takes to start."""
        resources = self._read_resources(stage)
        if resources:
            self._maker = ResourceMaker(resources)
            self._maker.create()

    @property
    def tables(self) -> Tables:
        """The tables to be looked into; none before create_resources()."""
        return self._maker.tables if self._maker else Tables()

    def variables(self, stage: str) -> Mapping[str, Mapping[str, str]]:
        """Return what resources.json adds to the environment of functions, by their logical ids."""
        resources = self._read_resources(stage)
        for sentence in resources.untold:
            log.warning("%s", sentence)
        return resources.variables

    def clear_resources(self) -> None:
        """Make all tables and queues empty."""
        if self._maker:
            self._maker.clear()

    def stop(self) -> None:
        """End the engine, and with it everything it held."""
        if self._maker:
            self._maker.close()
        if self._engine:
            self._engine.stop()

    def _read_resources(self, stage: str) -> Resources:
        return read_resources(self._template_path, stage=stage, region=self.environment["AWS_REGION"])


class Engine:
    """MiniStack on a free port of 127.0.0.1. Clients may connect before it runs: they wait in the socket's queue."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._port: int = self._socket.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What makes AWS SDKs use this engine; services that have an endpoint of their own keep it."""
        url = f"http://127.0.0.1:{self._port}"
        return {f"AWS_ENDPOINT_URL_{service}": url for service in ("DYNAMODB", "SQS") if not has_endpoint(service)}

    def start(self) -> None:
        """Start the child and return at once.

        Raises:
            ResourceError: if MiniStack is not installed.
        """
        if importlib.util.find_spec("ministack") is None:
            raise ResourceError(
                "The embedded DynamoDB is not installed: pip install ministack, or let "
                "AWS_ENDPOINT_URL_DYNAMODB point at another one."
            )
        descriptor = self._socket.fileno()
        self._process = subprocess.Popen(
            # -P: this package's directory must not be searched for modules.
            [sys.executable, "-P", Path(__file__).with_name("ministack.py"), str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[descriptor],
            env=engine_environment(os.environ, self._port),
            # Out of the terminal's Ctrl-C, so that handlers can still write while the gateway shuts down.
            start_new_session=True,
        )
        # The child's is the only copy from now on: if it ends, clients are refused instead of waiting for ever.
        self._socket.close()

    def stop(self) -> None:
        """End the child; also right after __init__, and twice."""
        self._socket.close()
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def engine_environment(environment: Mapping[str, str], port: int) -> dict[str, str]:
    """Return the child's environment: ours without AWS endpoints, which MiniStack would use itself."""
    inherited = {name: value for name, value in environment.items() if not name.startswith("AWS_ENDPOINT_URL")}
    return inherited | {
        "GATEWAY_PORT": str(port),
        "SERVICES": "dynamodb,sqs",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "0",
        "LOG_LEVEL": "WARNING",
    }


def find_environment() -> dict[str, str]:
    """Return what an AWS SDK needs before it makes any client, as far as this machine does not give it already.

    Asks no network: credentials come from the environment or from files, else they are dummies.

    Raises:
        ResourceError: if they name a profile that is not there, for then no client can be made.
    """
    with applied({"AWS_EC2_METADATA_DISABLED": "true"}):
        session = botocore.session.Session()
        try:
            has_credentials = session.get_credentials() is not None
            configured_region = session.get_config_variable("region")
        except BotoCoreError as error:
            raise ResourceError(f"The AWS settings of this machine cannot be used: {error}") from None
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or configured_region or DEFAULT_REGION
    found = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    return found if has_credentials else found | DUMMY_CREDENTIALS


def has_endpoint(service: str) -> bool:
    """Tell whether the environment says already where an AWS service is, `DYNAMODB` say."""
    return bool(os.environ.get(f"AWS_ENDPOINT_URL_{service}") or os.environ.get("AWS_ENDPOINT_URL"))
