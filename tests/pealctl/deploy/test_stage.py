"""A stage: its part of .chalice/config.json, and the names on AWS that follow from it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pealctl.deploy.stage import Stage, read_stage, read_stages
from pealctl.errors import BadProject
from tests.conftest import PROJECT

Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a project with a configuration."""

    def write(config: Any) -> Path:
        (tmp_path / ".chalice").mkdir()
        text = config if isinstance(config, str) else json.dumps(config)
        (tmp_path / ".chalice" / "config.json").write_text(text)
        return tmp_path

    return write


def config(**stages: Any) -> dict[str, Any]:
    return {"app_name": "app", "environment_variables": {"JOBS_QUEUE": "q"}, "stages": stages}


VARIABLES = {"environment_variables": {"CONNECTIONS_TABLE": "t"}}


def test_names_follow_chalices_rules(write: Write) -> None:
    stage = read_stage(write(config(dev=VARIABLES)), "dev")
    assert (stage.title, stage.table, stage.queue) == ("app-dev", "t", "q")
    assert stage.websocket_api == "app-dev-websocket-api"
    assert stage.function_name("api_handler") == "app-dev"
    assert stage.function_name("jobs") == "app-dev-jobs"
    assert stage.api_stage == "api"
    assert stage.domains == {}


def test_a_stage_overrides_the_common_settings(write: Write) -> None:
    domain = {"domain_name": "ws.example.com", "certificate_arn": "arn"}
    own = {**VARIABLES, "api_gateway_stage": "v1", "websocket_api_custom_domain": domain}
    stage = read_stage(write({**config(dev=own), "api_gateway_stage": "v0"}), "dev")
    assert (stage.api_stage, stage.domains) == ("v1", {"websocket_api_custom_domain": "ws.example.com"})


def test_the_local_stage_is_never_deployed() -> None:
    assert [stage.name for stage in read_stages(PROJECT)] == ["dev", "prod"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("local", "Stage local is for this machine (`make dev`); stages for AWS are dev and prod."),
        ("qa", ".chalice/config.json has no stage qa; stages for AWS are dev and prod."),
    ],
)
def test_an_unknown_stage_is_answered_with_the_known_ones(name: str, sentence: str) -> None:
    with pytest.raises(BadProject) as error:
        read_stage(PROJECT, name)
    assert str(error.value) == sentence


def test_a_stage_must_name_its_table(write: Write) -> None:
    with pytest.raises(BadProject) as error:
        read_stage(write(config(dev={})), "dev")
    assert str(error.value) == (
        "Stage dev of .chalice/config.json must set CONNECTIONS_TABLE, for example to peal-dev-connections."
    )


def test_a_directory_without_a_project(tmp_path: Path) -> None:
    with pytest.raises(BadProject, match="is not a Chalice project: it has no .chalice/config.json."):
        read_stage(tmp_path, "dev")


def test_a_configuration_that_is_not_json(write: Write) -> None:
    with pytest.raises(BadProject, match="config.json is not JSON: "):
        read_stage(write("{"), "dev")


class TestOurConfiguration:
    """The stages of .chalice/config.json that are deployed."""

    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
    RESERVED = ("AWS_", "LAMBDA_", "_HANDLER", "_X_AMZN_TRACE_ID")
    INTEGRATION_SECONDS = 29

    @pytest.fixture(params=["dev", "prod"])
    def settings(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        stages = json.loads((PROJECT / ".chalice" / "config.json").read_text())["stages"]
        return dict(stages[request.param])

    def test_no_variable_has_a_reserved_name(self, settings: dict[str, Any]) -> None:
        assert not [name for name in settings["environment_variables"] if name.startswith(self.RESERVED)]

    def test_it_holds_no_secret(self, settings: dict[str, Any]) -> None:
        for name, value in settings["environment_variables"].items():
            if "SECRET" in name or "TOKEN" in name or "KEY" in name:
                assert value.startswith(("ssm:", "secretsmanager:")), name

    def test_it_does_not_rely_on_chalices_defaults(self, settings: dict[str, Any]) -> None:
        """With 128 MB a cold start takes seconds, and the policy that Chalice guesses lacks what chalicelib needs."""
        assert settings["autogen_policy"] is False
        assert settings["xray"] is True
        for function in settings["lambda_functions"].values():
            assert function["lambda_memory_size"] >= 512
            assert function["lambda_timeout"] >= self.INTEGRATION_SECONDS

    def test_visibility_timeout_exceeds_the_function_timeout(self, settings: dict[str, Any]) -> None:
        """AWS recommends six times the function's timeout."""
        queue = json.loads((PROJECT / "resources.json").read_text())["Resources"]["JobsQueue"]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * settings["lambda_functions"]["jobs"]["lambda_timeout"]


def test_the_file_of_what_chalice_deployed() -> None:
    assert Stage(PROJECT, "a", "b", "api").deployed_path == PROJECT / ".chalice" / "deployed" / "b.json"
