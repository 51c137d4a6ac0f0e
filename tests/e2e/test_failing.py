"""The sentence for each thing that AWS can refuse."""

import re
from typing import Any

import pytest

from tests.e2e.conftest import Clone, Deployed

QUEUES = '"JobsQueue": {'
BAD = '"Bad": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "x", "VisibilityTimeout": 99999999}}, '


def says(clone: Clone, *arguments: str) -> str:
    """Run a command that fails and return the last line that it prints."""
    done = clone.run(*arguments)
    assert done.returncode == 1, done.stdout
    return done.stderr.splitlines()[-1]


def apis(clone: Clone) -> list[str]:
    return [api["ApiId"] for api in clone.account.client("apigatewayv2").get_apis()["Items"]]


def add_api(clone: Clone, function: str | None) -> str:
    """Create a WebSocket API of the stage's name and return its id."""
    client = clone.account.client("apigatewayv2")
    expression: dict[str, Any] = {"RouteSelectionExpression": "$request.body.action"}
    made = client.create_api(Name="peal-dev-websocket-api", ProtocolType="WEBSOCKET", **expression)["ApiId"]
    if function:
        arn = f"arn:aws:lambda:eu-central-1:{clone.account.number}:function:{function}"
        uri = f"arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/{arn}/invocations"
        client.create_integration(ApiId=made, IntegrationType="AWS_PROXY", IntegrationUri=uri)
    return str(made)


class TestTheStack:
    def test_the_failed_resource_is_named_and_the_next_run_works(self, fresh_clone: Clone) -> None:
        fresh_clone.replace("resources.json", QUEUES, BAD + QUEUES)
        sentence = says(fresh_clone, "deploy", "--stage", "dev")
        assert sentence.startswith("CloudFormation could not create stack peal-dev: Bad: "), sentence
        fresh_clone.replace("resources.json", BAD, "")
        fresh_clone.deploys()

    def test_a_failed_change_leaves_the_stage_as_it_was(self, fresh_clone: Clone) -> None:
        deployed = fresh_clone.deploys()
        fresh_clone.replace("resources.json", QUEUES, BAD + QUEUES)
        sentence = says(fresh_clone, "deploy", "--stage", "dev")
        assert sentence.startswith("CloudFormation could not create stack peal-dev: Bad: "), sentence
        fresh_clone.replace("resources.json", BAD, "")
        assert fresh_clone.deploys().websocket == deployed.websocket

    def test_a_missing_permission_is_named(self, fresh_clone: Clone) -> None:
        fresh_clone.account.deny("cloudformation:CreateStack", "*")
        sentence = says(fresh_clone, "deploy", "--stage", "dev")
        assert sentence.startswith("AWS refused CreateStack (AccessDenied")

    def test_a_parameter_that_was_set_stays(self, fresh_clone: Clone) -> None:
        """A parameter of the stack that an operator has set keeps its value."""
        fresh_clone.replace(
            "resources.json", '"Parameters": {', '"Parameters": {"Note": {"Type": "String", "Default": ""},'
        )
        fresh_clone.deploys()
        cloudformation = fresh_clone.account.client("cloudformation")
        stage = {"ParameterKey": "Stage", "UsePreviousValue": True}
        note = {"ParameterKey": "Note", "ParameterValue": "mine"}
        cloudformation.update_stack(StackName="peal-dev", UsePreviousTemplate=True, Parameters=[stage, note])
        fresh_clone.deploys()
        parameters = cloudformation.describe_stacks(StackName="peal-dev")["Stacks"][0]["Parameters"]
        assert {"ParameterKey": "Note", "ParameterValue": "mine"} in parameters


@pytest.fixture(scope="module")
def foreign(clone: Clone) -> str:
    """A WebSocket API of the stage's name that another app created first."""
    return add_api(clone, "another-app-websocket_connect")


@pytest.fixture(scope="module")
def deployed(clone: Clone, foreign: str) -> Deployed:
    return clone.deploys()


class TestApisOfTheSameName:
    """In this order: each test adds an API to those of the test before."""

    def test_one_of_another_app_is_left_alone(self, clone: Clone, foreign: str, deployed: Deployed) -> None:
        assert foreign not in deployed.websocket
        assert len(apis(clone)) == 2

    def test_an_empty_one_is_used_only_if_there_is_no_other(self, clone: Clone, deployed: Deployed) -> None:
        add_api(clone, None)
        clone.forgets()
        assert clone.deploys().websocket == deployed.websocket

    def test_of_two_candidates_the_recorded_one_is_used(self, clone: Clone, deployed: Deployed) -> None:
        add_api(clone, "peal-dev-websocket_connect")
        assert clone.deploys().websocket == deployed.websocket

    def test_neither_of_two_candidates_is_guessed(self, clone: Clone, deployed: Deployed, foreign: str) -> None:
        clone.forgets()
        sentence = says(clone, "deploy", "--stage", "dev")
        ids = re.search(r"\((\w+), (\w+)\)", sentence)
        assert ids
        assert set(ids.groups()) < set(apis(clone)) - {foreign}
        assert sentence == (
            f"There are 2 WebSocket APIs 'peal-dev-websocket-api' of this stage {ids[0]}, and clients use one of them. "
            "Delete the others (aws apigatewayv2 delete-api --api-id ID) and deploy again."
        )


class TestEventSources:
    """A queue and a schedule, which Chalice without its records would create twice or leave behind."""

    APP = """
@app.schedule("rate(1 hour)", name="tick")
def tick(event: Any) -> None:
    pass
"""

    @pytest.fixture
    def ticking(self, fresh_clone: Clone) -> Clone:
        with (fresh_clone.directory / "app.py").open("a") as app:
            app.write(self.APP)
        fresh_clone.replace(
            "packages/pealctl/pealctl/deploy/permissions.py",
            '    "jobs": {\n        "table"',
            '    "tick": {},\n    "jobs": {\n        "table"',
        )
        fresh_clone.replace(
            ".chalice/config.json", '"jobs": {', '"tick": {"iam_policy_file": "policy-dev-tick.json"}, "jobs": {'
        )
        assert fresh_clone.run("policies").returncode == 0
        return fresh_clone

    def test_they_are_created_once_and_deleted_with_the_stage(self, ticking: Clone) -> None:
        ticking.deploys()
        before = self.sources(ticking)
        # The app's own schedule runs the reaper.
        assert [len(kind) for kind in before] == [1, 2]
        ticking.forgets()
        ticking.deploys()
        assert self.sources(ticking) == before
        ticking.forgets()
        done = ticking.run("destroy", "--stage", "dev", "--confirm", "peal-dev-connections")
        assert done.returncode == 0, done.stdout + done.stderr
        assert self.sources(ticking) == ([], [])

    def test_those_of_a_removed_function_are_deleted(self, ticking: Clone) -> None:
        ticking.deploys()
        ticking.forgets()
        ticking.replace("app.py", self.APP, "")
        ticking.deploys()
        functions = ticking.account.client("lambda").list_functions()["Functions"]
        assert "peal-dev-tick" not in [function["FunctionName"] for function in functions]
        (rule,) = self.sources(ticking)[1]
        assert "reaper" in rule

    def sources(self, clone: Clone) -> tuple[list[str], list[str]]:
        """Return the queues' mappings and the schedules' rules."""
        mappings = clone.account.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        rules = clone.account.client("events").list_rules()["Rules"]
        return [mapping["UUID"] for mapping in mappings], [rule["Name"] for rule in rules]
