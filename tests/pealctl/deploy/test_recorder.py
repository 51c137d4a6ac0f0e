"""tests/support/permissions.py: a suite fails if it needs what is not allowed, or never needs what is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pealctl.deploy.permissions import ALLOWED
from tests.conftest import PROJECT
from tests.support.permissions import DOORS, Permissions, needs

CONFTEST = 'pytest_plugins = ["tests.support.permissions"]\n'
# Nothing listens there; a call is recorded before it is sent.
HEAD = """
import boto3
from botocore.config import Config
from chalicelib.handlers import rest

CONFIG = Config(retries={"total_max_attempts": 1})
NAMES = {"region_name": "eu-central-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}
client = boto3.client("dynamodb", endpoint_url="http://127.0.0.1:9", config=CONFIG, **NAMES)
"""
READ = """
def test_read():
    rest.answer(lambda: client.get_item(TableName="t", Key={"PK": {"S": "x"}}))
"""
DESCRIBE = """
def test_describe():
    rest.answer(lambda: client.describe_table(TableName="t"))
"""


def suite(directory: Path, tests: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a suite of these tests, in which the REST function calls AWS."""
    (directory / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_it.py").write_text(HEAD + tests)
    command = [sys.executable, "-m", "pytest", "--rootdir", directory, "-p", "no:cacheprovider", "-q", *arguments]
    # The fewer plugins, the faster.
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120)


class TestASuite:
    @pytest.mark.slow
    def test_that_is_whole_fails_for_both_reasons(self, tmp_path: Path) -> None:
        """Its worker process reports the calls to the main one."""
        run = suite(tmp_path, READ + DESCRIBE, "-p", "xdist.plugin", "-n1")
        assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
        assert "api_handler needs dynamodb:DescribeTable on table, as in test_it.py::test_describe" in run.stdout
        assert "api_handler never needs dynamodb:DeleteItem on table" in run.stdout
        assert "api_handler never needs dynamodb:GetItem on table" not in run.stdout

    @pytest.mark.slow
    def test_that_is_a_part_may_need_less(self, tmp_path: Path) -> None:
        run = suite(tmp_path, READ, "test_it.py")
        assert run.returncode == pytest.ExitCode.OK, run.stdout + run.stderr

    def test_that_is_a_part_may_not_need_more(self) -> None:
        permissions = Permissions()
        permissions.calls = {
            ("api_handler", "table", "dynamodb:GetItem"): "test_read",
            ("api_handler", "table", "dynamodb:DescribeTable"): "test_describe",
        }
        permissions.judge(is_whole=False)
        assert permissions.verdict == ["api_handler needs dynamodb:DescribeTable on table, as in test_describe"]


class TestWhatACallNeeds:
    def test_an_index_is_a_separate_resource(self) -> None:
        assert list(needs("dynamodb", "Query", {"IndexName": "GSI1"})) == [("index", "dynamodb:Query")]
        assert list(needs("dynamodb", "Query", {})) == [("table", "dynamodb:Query")]

    def test_a_transaction_needs_what_its_parts_need(self) -> None:
        items = [{"Put": {}}, {"ConditionCheck": {}}]
        assert list(needs("dynamodb", "TransactWriteItems", {"TransactItems": items})) == [
            ("table", "dynamodb:PutItem"),
            ("table", "dynamodb:ConditionCheckItem"),
        ]

    def test_sending_and_closing_are_separate(self) -> None:
        manage = "execute-api:ManageConnections"
        assert list(needs("apigatewaymanagementapi", "PostToConnection", {})) == [("send", manage)]
        assert list(needs("apigatewaymanagementapi", "DeleteConnection", {})) == [("close", manage)]


def test_a_call_outside_every_door_is_ignored() -> None:
    permissions = Permissions()
    permissions.note("dynamodb", "CreateTable", {})
    assert permissions.calls == {}


def test_every_door_is_a_deployed_function() -> None:
    assert {function for _, _, function in DOORS} == ALLOWED.keys()
