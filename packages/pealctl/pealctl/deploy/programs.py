"""Run the programs that do part of the work: Chalice and cfn-lint."""

import compileall
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from py_compile import PycInvalidationMode

from pealctl.errors import BadProject, NotInstalled, ProgramFailed


def find(program: str) -> Path:
    """Return where a program of this environment is. Raises NotInstalled."""
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        raise NotInstalled(program)
    return path


def run(directory: Path, program: str, *arguments: str, region: str) -> None:
    """Run a program of this environment in the project; its output goes to the terminal.

    Raises:
        NotInstalled: there is no such program.
        ProgramFailed: it ended with an error.
    """
    environment = os.environ | {
        "AWS_DEFAULT_REGION": region,
        # Bytecode that Python wrote into chalicelib meanwhile would be shipped; see `bytecode`.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run([find(program), *arguments], cwd=directory, env=environment)
    if done.returncode:
        raise ProgramFailed(" ".join((program, *arguments)), done.returncode)


def check_python() -> None:
    """Check that Lambda has a runtime for this Python: Chalice asks for the one that is closest.

    Raises:
        BadProject: Lambda has none.
        NotInstalled: Chalice is missing.
    """
    try:
        from chalice.config import Config
    except ModuleNotFoundError:
        raise NotInstalled("chalice") from None
    here = "python{}.{}".format(*sys.version_info[:2])
    with warnings.catch_warnings(action="ignore"):
        closest = Config.create().lambda_python_version
    if here != closest:
        raise BadProject(
            f"Lambda has no runtime {here}, the closest is {closest}: make the environment again with "
            f"`make clean`, then `make setup PYTHON={closest}`."
        )


@contextmanager
def bytecode(directory: Path) -> Iterator[None]:
    """Give chalicelib fresh bytecode while the block runs, for Chalice to ship; leave none behind.

    Lambda has nowhere to keep what it compiles: without this each cold start compiles everything. The bytecode is valid
    for the Python that Lambda will use, and for a source with the same hash, whatever the times of the files.
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
