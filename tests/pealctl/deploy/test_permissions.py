"""Least privilege: one declaration, and the policy files written from it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pealctl.deploy import commands, permissions
from pealctl.deploy.stage import Stage, read_stages
from pealctl.errors import CommandError
from tests.conftest import PROJECT

STAGES = read_stages(PROJECT)


def test_the_files_match_the_declaration() -> None:
    commands.write_policies(PROJECT, check=True)


def test_every_function_has_a_file_in_every_stage() -> None:
    """A function without one would use a file of the stage's, which does not exist."""
    config = json.loads((PROJECT / ".chalice" / "config.json").read_text())
    for stage in STAGES:
        functions = config["stages"][stage.name]["lambda_functions"]
        files = {function["iam_policy_file"] for function in functions.values()}
        assert functions.keys() == permissions.ALLOWED.keys()
        assert files == permissions.policy_files(stage).keys()


def test_every_function_has_a_log_group() -> None:
    """Functions may not create log groups: so none is left behind, and each has a retention time."""
    resources = json.loads((PROJECT / "resources.json").read_text())["Resources"].values()
    groups = {
        resource["Properties"]["LogGroupName"]["Fn::Sub"].replace("${Stage}", "dev")
        for resource in resources
        if resource.get("Type") == "AWS::Logs::LogGroup"
    }
    (dev, _) = STAGES
    assert groups == {f"/aws/lambda/{dev.function_name(function)}" for function in permissions.ALLOWED}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
@pytest.mark.parametrize("function", permissions.ALLOWED)
def test_only_xray_has_a_star(stage: Stage, function: str) -> None:
    statements = permissions.policy(stage, function)["Statement"]
    stars = [statement["Sid"] for statement in statements if statement["Resource"] == "*"]
    assert stars == ["Traces"]
    assert not [action for statement in statements for action in statement["Action"] if "*" in action]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_no_stage_reaches_into_another(stage: Stage) -> None:
    for function in permissions.ALLOWED:
        for statement in permissions.policy(stage, function)["Statement"]:
            names: Any = statement["Resource"]
            if names != "*" and "execute-api" not in names:
                assert f"peal-{stage.name}" in names or f"peal/{stage.name}/" in names


class TestSecrets:
    """A variable may refer to a secret; functions that verify tokens may look it up, and no other secret."""

    @pytest.mark.parametrize(
        ("reference", "action", "resource"),
        [
            ("ssm:/peal/dev/keys", "ssm:GetParameter", "arn:*:ssm:*:*:parameter/peal/dev/keys"),
            ("ssm:keys", "ssm:GetParameter", "arn:*:ssm:*:*:parameter/keys"),
            (
                "secretsmanager:peal/dev",
                "secretsmanager:GetSecretValue",
                "arn:*:secretsmanager:*:*:secret:peal/dev-??????",
            ),
        ],
    )
    def test_functions_that_verify_tokens_may_look_them_up(self, reference: str, action: str, resource: str) -> None:
        statement = {"Sid": "JwtSecrets", "Effect": "Allow", "Action": [action], "Resource": resource}
        for function in permissions.ALLOWED:
            statements = permissions.policy(self.stage(reference), function)["Statement"]
            assert (statement in statements) is (function in permissions.VERIFYING)

    def test_a_value_in_the_variable_itself_needs_no_permission(self) -> None:
        statements = permissions.policy(self.stage("a secret: with a colon"), "websocket_connect")["Statement"]
        assert "JwtSecrets" not in [statement["Sid"] for statement in statements]

    def stage(self, reference: str) -> Stage:
        return replace(STAGES[0], variables={**STAGES[0].variables, "JWT_SECRETS": reference})


class TestOutdatedFiles:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        shutil.copytree(PROJECT / ".chalice", tmp_path / ".chalice", ignore=shutil.ignore_patterns("deploy*"))
        (tmp_path / ".chalice" / "policy-dev-jobs.json").write_text("{}")
        (tmp_path / ".chalice" / "policy-dev-gone.json").write_text("{}")
        return tmp_path

    def test_are_listed(self, project: Path) -> None:
        with pytest.raises(CommandError) as error:
            commands.write_policies(project, check=True)
        assert str(error.value) == (
            "policy-dev-gone.json, policy-dev-jobs.json: not what pealctl/deploy/permissions.py declares. "
            "Run `make policies`."
        )

    def test_are_rewritten(self, project: Path) -> None:
        commands.write_policies(project)
        commands.write_policies(project, check=True)
        assert not (project / ".chalice" / "policy-dev-gone.json").exists()
