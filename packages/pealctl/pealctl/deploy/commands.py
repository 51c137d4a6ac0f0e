"""The commands that take a stage to AWS: their steps, in order."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pealctl.deploy import permissions, programs, templates
from pealctl.deploy.adoption import adopt
from pealctl.deploy.aws import open_account
from pealctl.deploy.release import release
from pealctl.deploy.smoke import smoke_test
from pealctl.deploy.stack import Stack
from pealctl.deploy.stage import Stage, read_stages
from pealctl.errors import CommandError, NotConfirmed

Tell = Callable[[str], None]


def deploy(stage: Stage, tell: Tell) -> None:
    """Bring the stage on AWS up to date with the project, and try it as a client.

    Args:
        stage: which one.
        tell: is called with a line of progress.

    Raises:
        CommandError: one of its subclasses, by the step that failed; the next run continues from there.
        ClientError, BotoCoreError: AWS refused, or did not answer.
    """
    programs.check_python()
    write_policies(stage.directory, check=True)
    aws = open_account()
    tell(f"Deploying {stage.title} to account {aws.account} in {aws.region}")
    stack = Stack(aws.client("cloudformation"), stage.title, tell)
    stack.apply(templates.stack_template(stage.directory / "resources.json"), Stage=stage.name)
    tell(f"Stack {stage.title} is as resources.json says")
    adopt(aws, stage, permissions.ALLOWED)
    with programs.bytecode(stage.directory):
        programs.run(stage.directory, "chalice", "deploy", "--stage", stage.name, region=aws.region)
    # Found on AWS, and not read from Chalice's file, as the next run will find it.
    apis = adopt(aws, stage, permissions.ALLOWED)
    if not apis.websocket or not apis.rest:
        raise CommandError("Chalice has deployed, but its APIs cannot be found: deploy again.")
    release(aws.client("apigatewayv2"), apis.websocket, stage.api_stage)
    tell("The WebSocket routes are live")
    websocket_url = aws.url("wss", apis.websocket, stage.api_stage)
    rest_url = aws.url("https", apis.rest, stage.api_stage)
    smoke_test(aws, websocket_url, rest_url)
    tell("A client has connected, received an answer and disconnected")
    tell(f"\nWebSocket     {websocket_url}")
    tell(f"@connections  {aws.url('https', apis.websocket, stage.api_stage)}/@connections/{{connectionId}}")
    tell(f"REST          {rest_url}")


def destroy(stage: Stage, tell: Tell, confirmed: str) -> None:
    """Delete everything of the stage on AWS: functions, APIs, table, queues and logs.

    Args:
        stage: which one.
        tell: is called with a line of progress.
        confirmed: the name of the table, whose data will be lost.

    Raises:
        NotConfirmed: another table was named, or this one is protected against deletion; nothing was deleted.
        CommandError: one of its subclasses, by the step that failed; the next run continues from there.
        ClientError, BotoCoreError: AWS refused, or did not answer.
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
    adopt(aws, stage, permissions.ALLOWED)
    programs.run(stage.directory, "chalice", "delete", "--stage", stage.name, region=aws.region)
    Stack(aws.client("cloudformation"), stage.title, tell).delete()
    # The stack retains the table, so that deleting or replacing a stack loses no data.
    try:
        dynamodb.delete_table(TableName=stage.table)
        dynamodb.get_waiter("table_not_exists").wait(TableName=stage.table)
    except dynamodb.exceptions.ResourceNotFoundException:
        pass
    stage.deployed_path.unlink(missing_ok=True)
    tell(f"Nothing of {stage.title} is left")


def package(stage: Stage, tell: Tell) -> None:
    """Write a template and a zip for `aws cloudformation deploy` to out/{stage}, and lint the template.

    Args:
        stage: which one.
        tell: is called with a line of progress.

    Raises:
        BadProject: Lambda has no runtime for this Python.
        NotInstalled, ProgramFailed: Chalice or cfn-lint is missing, or failed.
        CommandError: a policy file is out of date.
    """
    programs.check_python()
    programs.find("cfn-lint")
    write_policies(stage.directory, check=True)
    out = stage.directory / "out" / stage.name
    arguments = ("package", "--stage", stage.name, "--merge-template", "resources.json", str(out))
    # The package is the same for every Region of a partition, but Chalice needs the name of one.
    region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    with programs.bytecode(stage.directory):
        programs.run(stage.directory, "chalice", *arguments, region=region)
    path = out / "sam.json"
    path.write_text(json.dumps(templates.finish_package(json.loads(path.read_text()), stage.name), indent=2) + "\n")
    programs.run(stage.directory, "cfn-lint", str(path), region=region)
    tell(f"{path.relative_to(stage.directory)} is ready")


def write_policies(directory: Path, *, check: bool = False) -> None:
    """Write the policy files of all stages, as permissions.py declares them.

    Args:
        directory: the project's.
        check: write nothing; fail if a file is out of date.

    Raises:
        BadProject: config.json cannot be read, or lacks what policies need.
        CommandError: `check` is on, and a file is out of date.
    """
    folder = directory / ".chalice"
    wanted = {name: text for stage in read_stages(directory) for name, text in permissions.policy_files(stage).items()}
    present = {path.name: path.read_text() for path in folder.glob("policy-*.json")}
    if check and wanted != present:
        names = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
        raise CommandError(f"{', '.join(names)}: not what pealctl/deploy/permissions.py declares. Run `make policies`.")
    if not check:
        for name in present.keys() - wanted.keys():
            (folder / name).unlink()
        for name, text in wanted.items():
            (folder / name).write_text(text)


def _refuse_if_protected(dynamodb: Any, stage: Stage) -> None:
    """Raise NotConfirmed if the table is protected: lifting that is a step of its own, done by hand."""
    try:
        table = dynamodb.describe_table(TableName=stage.table)["Table"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return
    if table.get("DeletionProtectionEnabled"):
        raise NotConfirmed(
            f"Table {stage.table} is protected against deletion, so nothing was deleted. To lift that: "
            f"aws dynamodb update-table --table-name {stage.table} --no-deletion-protection-enabled"
        )
