"""The commands: what is done, in which order."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pealctl.deploy import permissions, programs, templates
from pealctl.deploy.adoption import Inventory
from pealctl.deploy.aws import open_account
from pealctl.deploy.errors import DeploymentError, NotConfirmed
from pealctl.deploy.release import release
from pealctl.deploy.smoke import smoke_test
from pealctl.deploy.stack import Stack
from pealctl.deploy.stage import Stage, read_stages

Tell = Callable[[str], None]


def deploy(stage: Stage, tell: Tell) -> None:
    """The stage is on AWS as the project says, and a client has been served. Raises DeploymentError."""
    programs.check_python()
    write_policies(stage.directory, check=True)
    aws = open_account()
    tell(f"Deploying {stage.title} to account {aws.account} in {aws.region}")
    stack = Stack(aws.client("cloudformation"), stage.title, tell)
    stack.apply(templates.stack_template(stage.directory / "resources.json"), Stage=stage.name)
    tell(f"Stack {stage.title} is as resources.json says")
    Inventory(aws, stage, permissions.ALLOWED).adopt()
    with programs.bytecode(stage.directory):
        programs.run(stage.directory, "chalice", "deploy", "--stage", stage.name, region=aws.region)
    # What Chalice made is found as anybody would find it who has lost Chalice's file.
    apis = Inventory(aws, stage, permissions.ALLOWED).adopt()
    if not apis.websocket or not apis.rest:
        raise DeploymentError("Chalice has deployed, but its APIs cannot be found: deploy again.")
    release(aws.client("apigatewayv2"), apis.websocket, stage.api_stage)
    tell("The WebSocket routes are live")
    websocket_url = aws.url("wss", apis.websocket, stage.api_stage)
    rest_url = aws.url("https", apis.rest, stage.api_stage)
    smoke_test(aws, websocket_url, rest_url)
    tell("A client has connected, was answered, and has gone again")
    tell(f"\nWebSocket     {websocket_url}")
    tell(f"@connections  {aws.url('https', apis.websocket, stage.api_stage)}/@connections/{{connectionId}}")
    tell(f"REST          {rest_url}")


def destroy(stage: Stage, tell: Tell, confirmed: str) -> None:
    """Nothing of the stage is left on AWS: no function, API, table, queue or log.

    Args:
        stage: which one.
        tell: is called with what is going on.
        confirmed: the name of the table, from whoever knows that its data will be lost.

    Raises:
        DeploymentError: something is still there; run it again.
    """
    if confirmed != stage.table:
        raise NotConfirmed(
            f"This deletes {stage.title} and all data in table {stage.table}. If you mean it: "
            f"make destroy STAGE={stage.name} CONFIRM={stage.table}"
        )
    aws = open_account()
    dynamodb = aws.client("dynamodb")
    _refuse_if_protected(dynamodb, stage)
    tell(f"Deleting {stage.title} from account {aws.account} in {aws.region}")
    Inventory(aws, stage, permissions.ALLOWED).adopt()
    programs.run(stage.directory, "chalice", "delete", "--stage", stage.name, region=aws.region)
    Stack(aws.client("cloudformation"), stage.title, tell).delete()
    # The stack retains the table, so that nobody loses it who deletes or replaces a stack.
    try:
        dynamodb.delete_table(TableName=stage.table)
        dynamodb.get_waiter("table_not_exists").wait(TableName=stage.table)
    except dynamodb.exceptions.ResourceNotFoundException:
        pass
    stage.deployed_path.unlink(missing_ok=True)
    tell(f"Nothing of {stage.title} is left")


def package(stage: Stage, tell: Tell) -> None:
    """out/{stage} holds a template and a zip for `aws cloudformation deploy`; cfn-lint finds no fault with them."""
    programs.check_python()
    write_policies(stage.directory, check=True)
    out = stage.directory / "out" / stage.name
    arguments = ("package", "--stage", stage.name, "--merge-template", "resources.json", str(out))
    # What is packaged is the same for every Region of a partition, but Chalice wants to be told one.
    region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    with programs.bytecode(stage.directory):
        programs.run(stage.directory, "chalice", *arguments, region=region)
    path = out / "sam.json"
    path.write_text(json.dumps(templates.finish_package(json.loads(path.read_text()), stage.name), indent=2) + "\n")
    programs.run(stage.directory, "cfn-lint", str(path), region=region)
    tell(f"{path.relative_to(stage.directory)} is ready")


def write_policies(directory: Path, *, check: bool = False) -> None:
    """The policy files are what permissions.py says.

    Args:
        directory: the project's.
        check: change nothing, but say so where they are not.

    Raises:
        DeploymentError: they are not, and `check` is on.
    """
    folder = directory / ".chalice"
    wanted = {name: text for stage in read_stages(directory) for name, text in permissions.policy_files(stage).items()}
    present = {path.name: path.read_text() for path in folder.glob("policy-*.json")}
    if check and wanted != present:
        names = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
        raise DeploymentError(
            f"{', '.join(names)} are not what pealctl/deploy/permissions.py says: run `make policies`."
        )
    if not check:
        for name in present.keys() - wanted.keys():
            (folder / name).unlink()
        for name, text in wanted.items():
            (folder / name).write_text(text)


def _refuse_if_protected(dynamodb: Any, stage: Stage) -> None:
    """Raises NotConfirmed where the table is protected: lifting that is a step of its own, done by hand."""
    try:
        table = dynamodb.describe_table(TableName=stage.table)["Table"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return
    if table.get("DeletionProtectionEnabled"):
        raise NotConfirmed(
            f"Table {stage.table} is protected against deletion, so nothing was deleted. To lift that: "
            f"aws dynamodb update-table --table-name {stage.table} --no-deletion-protection-enabled"
        )
