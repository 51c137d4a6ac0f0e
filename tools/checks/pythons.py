"""Run a representative part of the tests on each Python that Peal supports and this machine has.

    python tools/checks/pythons.py [--only 3.13] [PYTEST OPTION]...

Each has an environment of its own in .pythons, with what `make test` installs. An interpreter is found on the PATH or
in pyenv; one that is missing is skipped.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
REQUIREMENTS = [f"--requirement=tools/requirements/{name}.txt" for name in ("dev", "test")]
# The app through real sockets, its protocol and its table, the gateway with any project, the runtime on Lambda.
TESTS = (
    "tests/test_end_to_end.py",
    "tests/protocol",
    "tests/store",
    "tests/pealctl/test_commands.py",
    "tests/pealctl/deploy/test_command_line.py",
    "packages/localgateway/tests/test_messages.py",
    "packages/localgateway/tests/test_connecting.py",
    "packages/localgateway/tests/test_workers.py",
    "packages/localgateway/tests/test_rest.py",
)


def main() -> int:
    """Run the tests on each Python, print a line for each, and return 1 if some failed or there was none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=VERSIONS, action="append", help="this version; may be repeated")
    options, pytest_options = parser.parse_known_args()
    outcomes = {}
    for version in options.only or VERSIONS:
        python = find(version)
        if python is None:
            print(f"Python {version}: skipped, because it is not installed")
            continue
        print(f"Python {version}: {python}", flush=True)
        outcomes[version] = run(python, REPOSITORY / ".pythons" / version, pytest_options)
    for version, passed in outcomes.items():
        print(f"Python {version}: {'passed' if passed else 'FAILED'}")
    return 0 if outcomes and all(outcomes.values()) else 1


def find(version: str) -> Path | None:
    """Return the newest interpreter of a version such as 3.12, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    homes = sorted(pyenv.glob(f"{version}.*"), key=lambda home: [int(part) for part in re.findall(r"\d+", home.name)])
    on_path = shutil.which(f"python{version}")
    for candidate in (*([on_path] if on_path else []), *(home / "bin" / "python" for home in reversed(homes))):
        # pyenv puts a program of that name on the PATH for versions that are not activated, too.
        if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(candidate)
    return None


def run(python: Path, environment: Path, pytest_options: list[str]) -> bool:
    """Install what the tests need with that Python, run them, and return whether they passed."""
    program = environment / "bin" / "python"
    if not program.exists():
        subprocess.run([python, "-m", "venv", environment], check=True)
    pip = [program, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-compile"]
    subprocess.run([*pip, *REQUIREMENTS], cwd=REPOSITORY, check=True)
    tests = subprocess.run([program, "-m", "pytest", "-q", *TESTS, *pytest_options], cwd=REPOSITORY)
    return tests.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
