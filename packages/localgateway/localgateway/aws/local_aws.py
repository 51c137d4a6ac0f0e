"""The AWS around one project: region, credentials, and an engine for its tables and queues.

Nothing leaves this machine unless AWS_ENDPOINT_URL says so, and no credentials are needed.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import botocore.session
from botocore.exceptions import BotoCoreError

from localgateway.aws.engine import Engine, has_endpoint
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
    """The local AWS of one project; `environment` is what its handlers and other processes need.

    An engine runs only if the project's resources.json has tables or queues and no variable names their endpoint.
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
        """Make the tables and queues that do not exist yet; waits until the engine has started."""
        resources = self._read_resources(stage)
        if resources:
            self._maker = ResourceMaker(resources)
            self._maker.create()

    @property
    def tables(self) -> Tables:
        """The tables to read from; none before create_resources()."""
        return self._maker.tables if self._maker else Tables()

    def variables(self, stage: str) -> Mapping[str, Mapping[str, str]]:
        """Return what resources.json adds to the environment of functions, by their logical ids."""
        resources = self._read_resources(stage)
        for sentence in resources.unresolved:
            log.warning("%s", sentence)
        return resources.variables

    def clear_resources(self) -> None:
        """Empty all tables and queues."""
        if self._maker:
            self._maker.clear()

    def stop(self) -> None:
        """End the engine, and with it everything in it."""
        if self._maker:
            self._maker.close()
        if self._engine:
            self._engine.stop()

    def _read_resources(self, stage: str) -> Resources:
        return read_resources(self._template_path, stage=stage, region=self.environment["AWS_REGION"])


def find_environment() -> dict[str, str]:
    """Return what an AWS SDK needs to make a client and this machine does not provide.

    Uses no network: credentials come from the environment or from files, else they are dummies.

    Raises:
        ResourceError: if they name a profile that does not exist, because then no client can be made.
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
