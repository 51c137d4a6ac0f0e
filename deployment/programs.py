"""Runs the programs that do part of the work, as they are: Chalice and cfn-lint."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

from chalice.config import Config

from deployment.errors import BadProject, CommandFailed


def run(directory: Path, program: str, *arguments: str, region: str) -> None:
    """The program of this environment has done its work in the project; what it says goes to the terminal.

    Raises:
        CommandFailed: it ended with an error.
    """
    environment = os.environ | {
        "AWS_DEFAULT_REGION": region,
        # What Python would write into chalicelib would be shipped.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run([Path(sys.executable).with_name(program), *arguments], cwd=directory, env=environment)
    if done.returncode:
        raise CommandFailed(" ".join((program, *arguments)), done.returncode)


def check_python() -> None:
    """Lambda has a runtime for this Python, which is the one that Chalice will ask for.

    Raises:
        BadProject: it has none.
    """
    here = "python{}.{}".format(*sys.version_info[:2])
    with warnings.catch_warnings(action="ignore"):
        closest = Config.create().lambda_python_version
    if here != closest:
        raise BadProject(
            f"Lambda has no runtime {here}, the closest is {closest}: make the environment anew with "
            f"`make clean`, then `make setup PYTHON={closest}`."
        )


def remove_bytecode(directory: Path) -> None:
    """chalicelib holds no compiled files, which Chalice would ship too."""
    for path in (directory / "chalicelib").rglob("*.pyc"):
        path.unlink()
