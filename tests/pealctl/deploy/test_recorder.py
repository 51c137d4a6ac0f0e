"""tests/support/permissions.py: a suite fails that needs what is not allowed, or never needs what is."""

import subprocess
import sys
from pathlib import Path

import pytest

from pealctl.deploy.permissions import ALLOWED
from tests.conftest import PROJECT
from tests.support.permissions import DOORS, Permissions, needs

CONFTEST = 'pytest_plugins = ["tests.support.permissions"]\n'
# Nothing listens there; a call is noted before it is sent.
TEST = """
import boto3
from botocore.config import Config
from chalicelib.handlers import rest

CONFIG = Config(retries={{"total_max_attempts": 1}})

def test_it():
    names = {{"region_name": "eu-central-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}}
    client = boto3.client("dynamodb", endpoint_url="http://127.0.0.1:9", config=CONFIG, **names)
    rest.answer(lambda: client.{call})
"""


def suite(directory: Path, call: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a suite of one test, in which the REST function makes that call."""
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_one.py").write_text(TEST.format(call=call))
    command = [sys.executable, "-m", "pytest", "--rootdir", directory, "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.run(
        command, cwd=directory, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, timeout=120
    )


class TestASuite:
    @pytest.mark.parametrize("processes", ["-n0", "-n2"])
    def test_that_needs_more_than_is_allowed_fails(self, tmp_path: Path, processes: str) -> None:
        run = suite(tmp_path, 'describe_table(TableName="t")', processes, "test_one.py")
        assert run.returncode == pytest.ExitCode.TESTS_FAILED
        assert "api_handler needs dynamodb:DescribeTable on table, as in test_one.py::test_it" in run.stdout

    def test_that_needs_what_is_allowed_passes(self, tmp_path: Path) -> None:
        run = suite(tmp_path, 'get_item(TableName="t", Key={"PK": {"S": "x"}})', "-n0", "test_one.py")
        assert run.returncode == pytest.ExitCode.OK, run.stdout

    def test_that_is_whole_and_needs_less_fails(self, tmp_path: Path) -> None:
        (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
        run = suite(tmp_path, 'get_item(TableName="t", Key={"PK": {"S": "x"}})', "-n2")
        assert run.returncode == pytest.ExitCode.TESTS_FAILED
        assert "api_handler never needs dynamodb:DeleteItem on table" in run.stdout
        assert "api_handler never needs dynamodb:GetItem on table" not in run.stdout


class TestWhatACallNeeds:
    def test_an_index_is_a_resource_of_its_own(self) -> None:
        assert list(needs("dynamodb", "Query", {"IndexName": "GSI1"})) == [("index", "dynamodb:Query")]
        assert list(needs("dynamodb", "Query", {})) == [("table", "dynamodb:Query")]

    def test_a_transaction_needs_what_its_parts_need(self) -> None:
        items = [{"Put": {}}, {"ConditionCheck": {}}]
        assert list(needs("dynamodb", "TransactWriteItems", {"TransactItems": items})) == [
            ("table", "dynamodb:PutItem"),
            ("table", "dynamodb:ConditionCheckItem"),
        ]

    def test_sending_and_closing_are_apart(self) -> None:
        manage = "execute-api:ManageConnections"
        assert list(needs("apigatewaymanagementapi", "PostToConnection", {})) == [("send", manage)]
        assert list(needs("apigatewaymanagementapi", "DeleteConnection", {})) == [("close", manage)]


def test_a_call_outside_of_every_door_is_nobodys() -> None:
    permissions = Permissions()
    permissions.note("dynamodb", "CreateTable", {})
    assert permissions.calls == {}


def test_every_door_is_a_function_that_is_deployed() -> None:
    assert {function for _, _, function in DOORS} == ALLOWED.keys()
