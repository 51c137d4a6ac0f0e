"""What API Gateway, SQS, EventBridge and Lambda would know about a Chalice project. Plain data, none of its code.

It can be sent to another process as JSON and read back.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from chalice.app import Chalice, ScheduledEventConfig, ScheduleExpression, SQSEventConfig
from chalice.cli.factory import CLIFactory
from chalice.config import Config
from chalice.constants import DEFAULT_HANDLER_NAME, DEFAULT_LAMBDA_MEMORY_SIZE, DEFAULT_LAMBDA_TIMEOUT
from chalice.utils import to_cfn_resource_name

from localgateway.errors import ProjectError

LOCAL_PORT_VARIABLE = "LOCAL_GATEWAY_PORT"
"""Switches `attach` on under `chalice local`; never set for handlers that this package runs itself."""

# The names of the WebSocket functions on AWS and in config.json, whatever a project calls its handlers.
WEBSOCKET_FUNCTIONS = {
    "$connect": "websocket_connect",
    "$default": "websocket_message",
    "$disconnect": "websocket_disconnect",
}


@dataclass(frozen=True, slots=True)
class Function:
    """One Lambda function.

    Attributes:
        name: Chalice's name for it.
        deployed_name: the name it has on AWS.
        handler: the module attribute that Lambda calls, `app.connect`.
        environment: the variables that its stage gives it.
        logical_id: what `chalice package` calls it in CloudFormation.
    """

    name: str
    deployed_name: str
    handler: str
    timeout_seconds: float
    memory_mb: int
    environment: Mapping[str, str] = field(default_factory=dict)
    logical_id: str = ""


@dataclass(frozen=True, slots=True)
class Queue:
    """An SQS queue that a function consumes, `concurrency` batches at a time."""

    function: Function
    name: str
    batch_size: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Timer:
    """A schedule that a function runs on, `rate(...)` or `cron(...)`."""

    function: Function
    expression: str


@dataclass(frozen=True, slots=True)
class Project:
    """One Chalice project in one stage.

    Attributes:
        name: the app's, as .chalice/config.json has it.
        api_stage: the stage in the URL; `api` unless the project says otherwise.
        routes: which function a WebSocket route runs.
        rest: the function behind the REST routes, None if there are none.
        functions: all functions by their Chalice names.
    """

    name: str
    directory: str
    api_stage: str
    routes: Mapping[str, Function]
    rest: Function | None
    queues: tuple[Queue, ...]
    timers: tuple[Timer, ...]
    functions: Mapping[str, Function]

    def to_json(self) -> dict[str, Any]:
        """Return JSON that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` has written."""
        return cls(
            name=value["name"],
            directory=value["directory"],
            api_stage=value["api_stage"],
            routes={key: Function(**function) for key, function in value["routes"].items()},
            rest=Function(**value["rest"]) if value["rest"] else None,
            queues=tuple(Queue(**queue | {"function": Function(**queue["function"])}) for queue in value["queues"]),
            timers=tuple(Timer(**timer | {"function": Function(**timer["function"])}) for timer in value["timers"]),
            functions={name: Function(**function) for name, function in value["functions"].items()},
        )


def read_config(project_dir: Path, stage: str) -> Config:
    """Read .chalice/config.json without importing any code of the project.

    Raises:
        ProjectError: if the directory holds no Chalice project.
    """
    if not (project_dir / "app.py").is_file() or not (project_dir / ".chalice" / "config.json").is_file():
        raise ProjectError(f"{project_dir} is not a Chalice project: it needs app.py and .chalice/config.json.")
    try:
        # Chalice would write the stage's variables into this dict while it imports; they are set elsewhere.
        config = CLIFactory(str(project_dir), environ={}).create_config_obj(stage)
    except Exception as error:
        raise ProjectError(f"{project_dir / '.chalice' / 'config.json'} cannot be used: {error}") from None
    return config


def describe(config: Config, app: Chalice) -> Project:
    """Describe a project whose app has been imported."""

    def function(name: str, handler: str, deployed_as: str = "") -> Function:
        resource = deployed_as or name
        scoped = config.scope(config.chalice_stage, resource)
        deployed_name = f"{config.app_name}-{config.chalice_stage}"
        return Function(
            name=name,
            # Chalice names the function behind the REST routes after the app alone.
            deployed_name=deployed_name if name == DEFAULT_HANDLER_NAME else f"{deployed_name}-{resource}",
            logical_id="APIHandler" if name == DEFAULT_HANDLER_NAME else to_cfn_resource_name(resource),
            handler=handler,
            timeout_seconds=scoped.lambda_timeout or DEFAULT_LAMBDA_TIMEOUT,
            memory_mb=scoped.lambda_memory_size or DEFAULT_LAMBDA_MEMORY_SIZE,
            environment={key: str(value) for key, value in scoped.environment_variables.items()},
        )

    routes = {
        key: function(h.name, h.handler_string, WEBSOCKET_FUNCTIONS[key]) for key, h in app.websocket_handlers.items()
    }
    rest = function(DEFAULT_HANDLER_NAME, "app.app") if app.routes else None
    sources = [(source, function(source.name, source.handler_string)) for source in app.event_sources]
    pure = [function(pure.name, pure.handler_string) for pure in app.pure_lambda_functions]
    every = [*routes.values(), *([rest] if rest else []), *(one for _, one in sources), *pure]
    return Project(
        name=config.app_name,
        directory=str(config.project_dir),
        api_stage=str(config.api_gateway_stage),
        routes=routes,
        rest=rest,
        queues=tuple(to_queue(source, one) for source, one in sources if isinstance(source, SQSEventConfig)),
        timers=tuple(
            Timer(one, to_expression(source)) for source, one in sources if isinstance(source, ScheduledEventConfig)
        ),
        functions={one.name: one for one in every},
    )


def to_queue(source: SQSEventConfig, function: Function) -> Queue:
    name = source.queue or str(source.queue_arn).rpartition(":")[2]
    # Lambda starts with five concurrent batches of a queue.
    return Queue(function, name, source.batch_size, source.maximum_concurrency or 5)


def to_expression(source: ScheduledEventConfig) -> str:
    expression = source.schedule_expression
    return expression.to_string() if isinstance(expression, ScheduleExpression) else expression


def to_api_id(project_dir: Path) -> str:
    """Make up an API id in AWS's shape, ten lower-case letters and digits, that stays the same for a directory."""
    digest = int.from_bytes(hashlib.sha256(os.fsencode(project_dir)).digest())
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(alphabet[digest // 36**place % 36] for place in range(10))
