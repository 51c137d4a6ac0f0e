"""The command line: `pealctl`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pealctl import target
from pealctl.api import Api
from pealctl.arguments import parse
from pealctl.commands import COMMANDS
from pealctl.errors import CommandError
from pealctl.output import Output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its status; an error is said in a sentence."""
    options = parse(arguments)
    output = Output(options.json)
    try:
        stage = target.find(options.stage, options.url, options.socket_url, Path.cwd())
        return COMMANDS[options.command](Api(stage), output, options)
    except CommandError as error:
        output.note(str(error))
    except KeyboardInterrupt:
        output.note("Interrupted.")
    except BrokenPipeError:
        # Whoever reads has seen enough. What Python would still flush at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        output.note(explain_aws(error))
    finally:
        output.end_progress()
    return 1


def explain_aws(error: Exception) -> str:
    """What keeps AWS from being asked, as a sentence; raises the error again where it is anything else."""
    # These are slow to import and, unless AWS was asked, not there to be raised.
    from botocore.exceptions import BotoCoreError, ClientError

    from pealctl.deploy.errors import DeploymentError

    match error:
        case DeploymentError():
            return str(error)
        case ClientError():
            answer = error.response["Error"]
            return (
                f"AWS refused {error.operation_name} ({answer['Code']}): {answer['Message']} "
                "Whoever may not ask AWS where the stage is says so with --url."
            )
        case BotoCoreError():
            return f"AWS could not be asked: {error}"
    raise error


if __name__ == "__main__":
    sys.exit(main())
