"""The command line: `pealctl`."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from pealctl import commands, target
from pealctl.api import Api
from pealctl.arguments import DEPLOY, parse
from pealctl.errors import CommandError
from pealctl.output import Output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its status; report an error in a sentence."""
    options = parse(arguments)
    deploys = options.command in DEPLOY
    output = Output(options.json)
    try:
        return _deploy(output, options) if deploys else _operate(output, options)
    except CommandError as error:
        output.note(str(error))
    except KeyboardInterrupt:
        output.note("Interrupted: the next run continues from here." if deploys else "Interrupted.")
    except BrokenPipeError:
        # The reader of our output has closed the pipe. What Python still flushes when it exits must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if deploys else 0
    except Exception as error:
        output.note(explain_aws(error, "" if deploys else " If you may not ask AWS where the stage is, pass --url."))
    finally:
        output.end_progress()
    return 1


def explain_aws(error: Exception, hint: str) -> str:
    """Return a sentence for an error of botocore's, with `hint` where AWS refused; raise any other error again."""
    # Slow to import, and unless AWS was asked there is nothing to explain.
    from botocore.exceptions import BotoCoreError, ClientError

    match error:
        case ClientError():
            answer = error.response["Error"]
            return f"AWS refused {error.operation_name} ({answer['Code']}): {answer['Message']}{hint}"
        case BotoCoreError():
            return f"AWS could not be asked: {error}"
    raise error


def _operate(output: Output, options: Namespace) -> int:
    stage = target.find(options.stage, options.url, options.socket_url, Path.cwd())
    return commands.COMMANDS[options.command](Api(stage), output, options)


def _deploy(output: Output, options: Namespace) -> int:
    # boto3 takes longer to import than most commands take to run.
    from pealctl.deploy import commands
    from pealctl.deploy.stage import read_stage

    directory = Path.cwd()
    match options.command:
        case "policies":
            commands.write_policies(directory)
        case "deploy":
            commands.deploy(read_stage(directory, options.stage), output.tell)
        case "destroy":
            commands.destroy(read_stage(directory, options.stage), output.tell, options.confirm)
        case "package":
            commands.package(read_stage(directory, options.stage), output.tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
