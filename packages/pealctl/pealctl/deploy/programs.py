"""Runs the programs that do part of the work, as they are: Chalice and cfn-lint."""

import compileall
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from py_compile import PycInvalidationMode

from chalice.config import Config

from pealctl.deploy.errors import BadProject, CommandFailed


def run(directory: Path, program: str, *arguments: str, region: str) -> None:
    """The program of this environment has done its work in the project; what it says goes to the terminal.

    Raises:
        CommandFailed: it ended with an error.
    """
    environment = os.environ | {
        "AWS_DEFAULT_REGION": region,
        # What Python would write into chalicelib would be shipped; see `bytecode`.
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


@contextmanager
def bytecode(directory: Path) -> Iterator[None]:
    """Meanwhile chalicelib holds its bytecode of now, which Chalice ships; none before and after.

    Lambda has nowhere to keep what it compiles: without this each cold start compiles everything. It is compiled by
    the Python that Lambda will use, and holds for the source with its hash alone, whatever the time of the files.
    """
    chalicelib = directory / "chalicelib"
    _remove_bytecode(chalicelib)
    compileall.compile_dir(chalicelib, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    try:
        yield
    finally:
        _remove_bytecode(chalicelib)


def _remove_bytecode(chalicelib: Path) -> None:
    for path in chalicelib.rglob("*.pyc"):
        path.unlink()
