"""The command line."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from pealctl.deploy import commands
from pealctl.deploy.errors import DeploymentError
from pealctl.deploy.stage import LOCAL, read_stage


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error is said in a sentence and makes the status 1."""
    options = parse(arguments)
    directory = Path.cwd()
    try:
        match options.command:
            case "policies":
                commands.write_policies(directory)
            case "deploy":
                commands.deploy(read_stage(directory, options.stage), tell)
            case "destroy":
                commands.destroy(read_stage(directory, options.stage), tell, options.confirm)
            case "package":
                commands.package(read_stage(directory, options.stage), tell)
    except DeploymentError as error:
        return complain(str(error))
    except ClientError as error:
        answer = error.response["Error"]
        return complain(f"AWS refused {error.operation_name} ({answer['Code']}): {answer['Message']}")
    except BotoCoreError as error:
        return complain(f"AWS could not be asked: {error}")
    except KeyboardInterrupt:
        return complain("Interrupted: the next run goes on from here.")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pealctl", description="Takes Peal to AWS and away again.")
    parser.add_argument(
        "command",
        choices=("deploy", "destroy", "package", "policies"),
        help="make the stage on AWS what the project says, and try it; leave nothing of it; render it for "
        "CloudFormation, into out/; write all stages' policy files, which permissions.py declares",
    )
    parser.add_argument("--stage", default=LOCAL, help="a stage of .chalice/config.json: dev, prod")
    parser.add_argument("--confirm", default="", metavar="TABLE", help="the table whose data destroy may lose")
    return parser.parse_args(arguments)


def tell(text: str) -> None:
    # Flushed, because Chalice writes to the same terminal.
    print(text, flush=True)


def complain(text: str) -> int:
    print(text, file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
