"""A pytest plugin: each test process has an engine of its own and dummy credentials, and never reaches AWS itself.

The engine is the gateway's, or the one that AWS_ENDPOINT_URL_DYNAMODB names: the same tests run on any.
"""

import os
from collections.abc import Iterator

import pytest

from localgateway.aws.engine import Engine
from localgateway.aws.local_aws import DUMMY_CREDENTIALS


@pytest.fixture(scope="session", autouse=True)
def aws() -> Iterator[None]:
    """Set the AWS variables of this process: an engine of its own and dummy credentials."""
    engine = None if "AWS_ENDPOINT_URL_DYNAMODB" in os.environ else Engine()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_ENDPOINT_URL_DYNAMODB"]:
            patch.delenv(name)
        variables = {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"} | DUMMY_CREDENTIALS
        for name, value in (variables | (engine.environment if engine else {})).items():
            patch.setenv(name, value)
        if engine is None:
            yield
            return
        engine.start()
        try:
            yield
        finally:
            engine.stop()
