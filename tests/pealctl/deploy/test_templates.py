"""The stack's template, and the finished package."""

import json
from pathlib import Path
from typing import Any

import pytest

from pealctl.deploy.templates import finish_package, stack_template
from pealctl.errors import BadProject
from tests.conftest import PROJECT

# CloudFormation's limit for a template in the request.
MAX_BYTES = 51_200


class TestTheStack:
    def test_holds_only_our_own_resources(self) -> None:
        template = json.loads(stack_template(PROJECT / "resources.json"))
        assert {"ConnectionsTable", "JobsQueue"} <= template["Resources"].keys()
        assert "WebsocketConnect" not in template["Resources"]
        assert template["Conditions"]

    def test_fits_into_a_request(self) -> None:
        assert len(stack_template(PROJECT / "resources.json").encode()) < MAX_BYTES

    @pytest.mark.parametrize("text", ["", "{}", '{"Resources": 1}'])
    def test_needs_a_template(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "resources.json"
        path.write_text(text)
        with pytest.raises(BadProject, match="resources.json cannot be read as a CloudFormation template: "):
            stack_template(path)

    def test_protects_the_table_of_prod(self) -> None:
        table = json.loads(stack_template(PROJECT / "resources.json"))["Resources"]["ConnectionsTable"]
        in_prod = {"Fn::If": ["IsProd", True, False]}
        assert table["DeletionPolicy"] == "RetainExceptOnCreate"
        assert table["Properties"]["DeletionProtectionEnabled"] == in_prod
        assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": in_prod}


def packaged(**changes: Any) -> dict[str, Any]:
    """Return the parts of Chalice's template that concern routes."""
    resources: dict[str, Any] = {
        "WebsocketConnect": {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": "./deployment.zip"}},
        "WebsocketConnectRoute": {"Type": "AWS::ApiGatewayV2::Route", "Properties": {"RouteKey": "$connect"}},
        "WebsocketAPIDeployment": {"Type": "AWS::ApiGatewayV2::Deployment", "DependsOn": ["WebsocketConnectRoute"]},
        "WebsocketAPIStage": {
            "Type": "AWS::ApiGatewayV2::Stage",
            "Properties": {"DeploymentId": {"Ref": "WebsocketAPIDeployment"}},
        },
    }
    return {"Parameters": {"Stage": {"Type": "String", "Default": "local"}}, "Resources": resources | changes}


def deployment(template: dict[str, Any]) -> str:
    """Return the name of the deployment that the stage serves."""
    name: str = template["Resources"]["WebsocketAPIStage"]["Properties"]["DeploymentId"]["Ref"]
    assert template["Resources"][name]["DependsOn"] == ["WebsocketConnectRoute"]
    deployments = [part for part in template["Resources"].values() if part["Type"].endswith("::Deployment")]
    assert len(deployments) == 1
    return name


class TestThePackage:
    def test_is_for_its_stage(self) -> None:
        assert finish_package(packaged(), "dev")["Parameters"]["Stage"]["Default"] == "dev"

    def test_serves_a_new_deployment_when_routes_change(self) -> None:
        route = {"Type": "AWS::ApiGatewayV2::Route", "Properties": {"RouteKey": "$disconnect"}}
        before = deployment(finish_package(packaged(), "dev"))
        assert deployment(finish_package(packaged(WebsocketDisconnectRoute=route), "dev")) != before

    def test_serves_the_same_deployment_when_only_code_changes(self) -> None:
        function = {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": "s3://another"}}
        before = deployment(finish_package(packaged(), "dev"))
        assert deployment(finish_package(packaged(WebsocketConnect=function), "dev")) == before
