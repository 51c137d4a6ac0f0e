"""Least privilege: one declaration, and files that are what it says."""

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


def test_the_files_are_what_the_declaration_says() -> None:
    commands.write_policies(PROJECT, check=True)


def test_every_function_has_its_file_in_every_stage() -> None:
    """A function without one would fall back on a file of the stage's, which does not exist."""
    config = json.loads((PROJECT / ".chalice" / "config.json").read_text())
    for stage in STAGES:
        functions = config["stages"][stage.name]["lambda_functions"]
        files = {function["iam_policy_file"] for function in functions.values()}
        assert functions.keys() == permissions.ALLOWED.keys()
        assert files == permissions.policy_files(stage).keys()


def test_every_function_has_its_log_in_resources_json() -> None:
    """Functions may not make log groups, so that none is left behind, and each is kept for a time."""
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
def test_only_xray_is_given_a_star(stage: Stage, function: str) -> None:
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
    """A variable may say where its value is kept; whoever verifies tokens may look it up, and nothing else there."""

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
    def test_may_be_looked_up_by_who_verifies_tokens(self, reference: str, action: str, resource: str) -> None:
        statement = {"Sid": "JwtSecrets", "Effect": "Allow", "Action": [action], "Resource": resource}
        for function in permissions.ALLOWED:
            statements = permissions.policy(self.stage(reference), function)["Statement"]
            assert (statement in statements) is (function in permissions.VERIFYING)

    def test_that_stand_in_the_variable_itself_need_no_permission(self) -> None:
        statements = permissions.policy(self.stage("a secret: nobody's business"), "websocket_connect")["Statement"]
        assert "JwtSecrets" not in [statement["Sid"] for statement in statements]

    def stage(self, reference: str) -> Stage:
        return replace(STAGES[0], variables={**STAGES[0].variables, "JWT_SECRETS": reference})


class TestFilesThatDiffer:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        shutil.copytree(PROJECT / ".chalice", tmp_path / ".chalice", ignore=shutil.ignore_patterns("deploy*"))
        (tmp_path / ".chalice" / "policy-dev-jobs.json").write_text("{}")
        (tmp_path / ".chalice" / "policy-dev-gone.json").write_text("{}")
        return tmp_path

    def test_are_named(self, project: Path) -> None:
        with pytest.raises(CommandError) as error:
            commands.write_policies(project, check=True)
        assert str(error.value) == (
            "policy-dev-gone.json, policy-dev-jobs.json: not what pealctl/deploy/permissions.py declares. "
            "Run `make policies`."
        )

    def test_are_mended(self, project: Path) -> None:
        commands.write_policies(project)
        commands.write_policies(project, check=True)
        assert not (project / ".chalice" / "policy-dev-gone.json").exists()
