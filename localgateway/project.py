"""Loads a Chalice project the way Chalice does, and says what API Gateway and Lambda would know of it.

The functions are the module attributes their handler strings name, as on Lambda: so middleware runs and a handler
that returns nothing answers 200. Nothing here looks at what the functions do.
"""

import hashlib
import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chalice.app import Chalice
from chalice.cli.factory import CLIFactory
from chalice.config import Config
from chalice.constants import DEFAULT_LAMBDA_MEMORY_SIZE, DEFAULT_LAMBDA_TIMEOUT

from localgateway.environment import imported_from
from localgateway.errors import ProjectError
from localgateway.invoke import Function

LOCAL_PORT_VARIABLE = "LOCAL_GATEWAY_PORT"
"""Switches `attach` on under `chalice local`; never set for handlers that this package runs itself."""


@dataclass(frozen=True)
class Project:
    """A loaded project: its Chalice objects, and which function each WebSocket route runs."""

    directory: Path
    config: Config
    app: Chalice
    routes: Mapping[str, Function]

    @property
    def api_stage(self) -> str:
        """The stage in the URL; `api` unless the project says otherwise."""
        return str(self.config.api_gateway_stage)


def read_config(project_dir: Path, stage: str) -> Config:
    """Read .chalice/config.json without importing any code of the project.

    Raises:
        ProjectError: if the directory holds no Chalice project.
    """
    if not (project_dir / "app.py").is_file() or not (project_dir / ".chalice" / "config.json").is_file():
        raise ProjectError(f"{project_dir} is no Chalice project: it needs app.py and .chalice/config.json.")
    try:
        # Chalice would write the stage's variables into this dict while it imports; they are set elsewhere.
        config = CLIFactory(str(project_dir), environ={}).create_config_obj(stage)
    except Exception as error:
        raise ProjectError(f"{project_dir / '.chalice' / 'config.json'} cannot be used: {error}") from None
    return config


@contextmanager
def loaded(config: Config) -> Iterator[Project]:
    """Import the project; when the block ends its modules are gone again.

    Raises:
        ProjectError: if it does not import; its `__cause__` is the project's own error.
    """
    directory = Path(config.project_dir)
    with imported_from(directory):
        try:
            app = config.chalice_app
        except (Exception, SystemExit) as error:
            # Chalice has put a syntax error into words of its own already.
            cause = None if isinstance(error.__context__, SyntaxError) else error
            raise ProjectError(f"{directory / 'app.py'} does not import: {describe(error)}") from cause
        yield describe_project(config, app)


def describe_project(config: Config, app: Chalice) -> Project:
    """Return the project behind a config and the app it has loaded."""
    handlers = app.websocket_handlers.values()
    return Project(
        directory=Path(config.project_dir),
        config=config,
        app=app,
        routes={
            handler.route_key_handled: find_function(config, handler.name, handler.handler_string)
            for handler in handlers
        },
    )


def find_function(config: Config, name: str, handler_string: str) -> Function:
    """Return the function of that Chalice name, with the settings its stage gives it."""
    module_name, _, attribute = handler_string.rpartition(".")
    try:
        handler = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError):
        raise ProjectError(f"The function {name} is not there: Lambda would look for {handler_string}.") from None
    scoped = config.scope(config.chalice_stage, name)
    return Function(
        name=name,
        deployed_name=f"{config.app_name}-{config.chalice_stage}-{name}",
        handler=handler,
        timeout_seconds=scoped.lambda_timeout or DEFAULT_LAMBDA_TIMEOUT,
        memory_mb=scoped.lambda_memory_size or DEFAULT_LAMBDA_MEMORY_SIZE,
    )


def to_api_id(project_dir: Path) -> str:
    """Make up an API id in AWS's shape, ten lower-case letters and digits, that stays the same for a directory."""
    digest = int.from_bytes(hashlib.sha256(os.fsencode(project_dir)).digest())
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(alphabet[digest // 36**place % 36] for place in range(10))


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, RuntimeError) else str(error)
