"""Where the engine is installed: beside the gateway, or in a directory of its own in the user's cache.

MiniStack pins botocore exactly, so it cannot share an environment with a project that has another one. Its directory is
made on first use and named after everything that is in it: another version, or another Python, has another directory.
It appears under its name only once it is whole.
"""

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from tempfile import TemporaryDirectory

from localgateway.environment import cache_directory
from localgateway.errors import ResourceError

log = logging.getLogger(__name__)

REQUIREMENTS = Path(__file__).with_name("engine-requirements.txt")
SCRIPT = Path(__file__).with_name("engine_process.py")
# What the engine can serve, by MiniStack's names, and as the endpoint variables of AWS SDKs call it.
SERVICES = {"dynamodb": "DYNAMODB", "sqs": "SQS", "ssm": "SSM", "secretsmanager": "SECRETS_MANAGER"}
# Where engines are kept, instead of in the user's cache.
DIRECTORY_VARIABLE = "LOCALGATEWAY_ENGINE_DIR"
# How long one step of an installation may take; another process may wait for all of them.
STEP_SECONDS = 300
WAY_OUT = (
    "Run `localgateway engine install` once where packages can be fetched, "
    "or let AWS_ENDPOINT_URL_DYNAMODB and AWS_ENDPOINT_URL_SQS point at engines of your own."
)


def engine_environment(environment: Mapping[str, str], services: Iterable[str]) -> dict[str, str]:
    """Return the environment of the engine's process: ours without AWS endpoints, which MiniStack would use itself."""
    inherited = {name: value for name, value in environment.items() if not name.startswith("AWS_ENDPOINT_URL")}
    return inherited | {
        "SERVICES": ",".join(services),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "0",
        "LOG_LEVEL": "WARNING",
    }


def is_beside() -> bool:
    """Tell whether MiniStack is installed where the gateway is; then that one is used."""
    return importlib.util.find_spec("ministack") is not None


def engine_directory(requirements: Path = REQUIREMENTS) -> Path:
    """Return where the engine for this Python is, or will be once it is installed."""
    text = requirements.read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = f"ministack-{read_version(text)}-{digest}-{sys.implementation.cache_tag}"
    return Path(os.environ.get(DIRECTORY_VARIABLE) or cache_directory() / "engines").absolute() / name


def read_version(requirements: str) -> str:
    """Return MiniStack's version in a list of requirements."""
    match = re.search(r"^ministack==(\S+)$", requirements, re.MULTILINE)
    assert match, "the list of requirements pins ministack"
    return match[1]


def to_command(*arguments: str) -> list[str]:
    """Return the command that runs the engine's script; the engine is installed first if it is not yet.

    Raises:
        ResourceError: if it cannot be installed.
    """
    if is_beside():
        # -P: this package's directory must not be searched for modules.
        return [sys.executable, "-P", str(SCRIPT), "", *arguments]
    return in_isolation(install(), *arguments)


def in_isolation(directory: Path, *arguments: str) -> list[str]:
    """Return the command that runs the engine's script with the standard library and that directory alone."""
    return [sys.executable, "-I", "-S", str(SCRIPT), str(directory), *arguments]


def install(requirements: Path = REQUIREMENTS) -> Path:
    """Install the engine if it is not there yet, and return its directory.

    Of several processes that want it at the same time one installs it and the others wait.

    Raises:
        ResourceError: if it cannot be fetched or kept.
    """
    directory = engine_directory(requirements)
    if directory.is_dir():
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with locked(directory.with_name(f"{directory.name}.lock")):
            if not directory.is_dir():
                make(directory, requirements)
    except OSError as error:
        raise ResourceError(f"The engine for tables and queues cannot be installed: {error}. {WAY_OUT}") from None
    return directory


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out of the block; the lock ends with its process, however that ends."""
    with path.open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            log.warning("Another process is installing the engine for tables and queues: waiting for it.")
            flock(file, LOCK_EX)
        yield


def make(directory: Path, requirements: Path) -> None:
    """Install into a directory beside the final one, try it, and rename it. The caller holds the lock."""
    version = read_version(requirements.read_text(encoding="utf-8"))
    log.warning(
        "Installing the engine for tables and queues (MiniStack %s) for the first time: some ten seconds.", version
    )
    prefix = f"{directory.name}.part-"
    for left_behind in directory.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    with TemporaryDirectory(prefix=prefix, dir=directory.parent, ignore_cleanup_errors=True) as temporary:
        part = Path(temporary, "engine")
        # An index that is not there must be noticed soon: pip would try for a minute.
        environment = {"PIP_RETRIES": "1", "UV_HTTP_TIMEOUT": "30", **os.environ}
        # Settings that a target directory excludes.
        environment |= {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
        run([*find_installer(Path(temporary)), *("--target", str(part), "-r", str(requirements))], environment)
        run(in_isolation(part), engine_environment(os.environ, SERVICES))
        part.rename(directory)


def find_installer(scratch: Path) -> list[str]:
    """Return the command that installs packages: uv, this Python's pip, or that of a new environment in `scratch`."""
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
    python = sys.executable
    if importlib.util.find_spec("pip") is None:
        try:
            venv.create(scratch / "pip", with_pip=True, symlinks=True)
        except subprocess.CalledProcessError:
            raise ResourceError(f"This Python has neither uv nor pip to install the engine with. {WAY_OUT}") from None
        python = str(scratch / "pip" / "bin" / "python")
    options = ("--quiet", "--no-deps", "--no-compile", "--no-input", "--disable-pip-version-check")
    return [python, "-m", "pip", "install", *options]


def run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run one step of an installation.

    Raises:
        ResourceError: if it fails, with the last line it wrote.
    """
    try:
        subprocess.run(
            command,
            env=environment,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=STEP_SECONDS,
        )
    except subprocess.SubprocessError as error:
        written = str(getattr(error, "stderr", None) or error).strip()
        reason = re.sub(r"^(error|cause|caused by): ", "", written.splitlines()[-1].strip(), flags=re.IGNORECASE)
        raise ResourceError(
            f"The engine for tables and queues cannot be installed: {reason.rstrip('.')}. {WAY_OUT}"
        ) from None
