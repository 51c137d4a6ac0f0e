"""A pytest plugin: what the suite has each function ask of AWS is what pealctl/deploy/permissions.py allows it.

The door of an invocation tells for which function a call is made. A call that is not allowed fails the run,
always; an allowance that nothing needs fails it when the whole suite has run and passed. Calls made in other processes
(the gateway's workers) are not seen: what they do, a test in this one does too.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import pytest
from botocore import handlers

from chalicelib.aws.client import JsonClient
from chalicelib.handlers import jobs, rest, websocket
from chalicelib.peal import Peal
from pealctl.deploy.permissions import ALLOWED, LOOKUPS, VERIFYING
from tests.support.fakes import FakeJobs, FakeWebsocketApi

# Function, resource, IAM action.
Call = tuple[str, str, str]

DOORS: tuple[tuple[Any, str, str], ...] = (
    (websocket, "connect", "websocket_connect"),
    (websocket, "message", "websocket_message"),
    (websocket, "disconnect", "websocket_disconnect"),
    (rest, "answer", "api_handler"),
    (jobs, "work", "jobs"),
    (Peal, "reap", "reaper"),
)
# Our fakes stand for calls of these services.
FAKES: tuple[tuple[Any, str, tuple[tuple[str, str], ...]], ...] = (
    (FakeWebsocketApi, "send", (("apigatewaymanagementapi", "PostToConnection"),)),
    (FakeWebsocketApi, "close", (("apigatewaymanagementapi", "DeleteConnection"),)),
    (FakeWebsocketApi, "info", (("apigatewaymanagementapi", "GetConnection"),)),
    (FakeJobs, "put", (("sqs", "GetQueueUrl"), ("sqs", "SendMessage"))),
)
MANAGEMENT = {"PostToConnection": "send", "DeleteConnection": "close", "GetConnection": "info"}
# A transaction needs what its parts would need by themselves.
PARTS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}

_function: ContextVar[str] = ContextVar("function")


def needs(service: str, operation: str, parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What must be allowed for a call: resources as permissions.py names them, with IAM actions."""
    match service:
        case "dynamodb" if operation == "TransactWriteItems":
            for item in parameters["TransactItems"]:
                for part in item:
                    yield "table", f"dynamodb:{PARTS[part]}"
        case "dynamodb":
            yield "index" if "IndexName" in parameters else "table", f"dynamodb:{operation}"
        case "sqs":
            yield "jobs", f"sqs:{operation}"
        case "apigatewaymanagementapi":
            yield MANAGEMENT.get(operation, operation), "execute-api:ManageConnections"
        case _:
            yield service, f"{service}:{operation}"


class Permissions:
    """The calls that were seen, each with the first test that made it."""

    def __init__(self) -> None:
        self.calls: dict[Call, str] = {}
        self.verdict: list[str] = []

    def note(self, service: str, operation: str, parameters: Mapping[str, Any]) -> None:
        if function := _function.get(""):
            test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
            for resource, action in needs(service, operation, parameters):
                self.calls.setdefault((function, resource, action), test)

    def judge(self, is_whole: bool) -> None:
        allowed = {
            (function, resource, action)
            for function, resources in ALLOWED.items()
            for resource, actions in resources.items()
            for action in actions
        }
        # Where a stage keeps its secrets is its own choice.
        possible = allowed | {
            (function, service, action) for function in VERIFYING for service, (action, _) in LOOKUPS.items()
        }
        self.verdict = [
            f"{function} needs {action} on {resource}, as in {self.calls[function, resource, action]}"
            for function, resource, action in sorted(self.calls.keys() - possible)
        ]
        if is_whole:
            self.verdict += [
                f"{function} never needs {action} on {resource}"
                for function, resource, action in sorted(allowed - self.calls.keys())
            ]

    def before_call(self, params: Mapping[str, Any], model: Any, **_: object) -> None:
        self.note(model.service_model.service_name, model.name, params)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for call, test in getattr(node, "workeroutput", {}).get("calls", ()):
            self.calls.setdefault(tuple(call), test)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["calls"] = list(self.calls.items())
            return
        option, source = session.config.option, session.config.args_source
        is_whole = source is pytest.Config.ArgsSource.TESTPATHS and not (option.keyword or option.markexpr)
        self.judge(is_whole and exitstatus == pytest.ExitCode.OK)
        if self.verdict and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.verdict:
            terminalreporter.section("permissions that pealctl/deploy/permissions.py has wrong", red=True)
            for line in self.verdict:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    permissions = Permissions()
    config.pluginmanager.register(permissions, "permissions")
    # Every botocore session that is made from now on begins with these.
    handlers.BUILTIN_HANDLERS.append(("provide-client-params", permissions.before_call))
    JsonClient.call = _noting_ours(JsonClient.call, permissions)
    for module, name, function in DOORS:
        setattr(module, name, _through(getattr(module, name), function))
    for fake, name, calls in FAKES:
        setattr(fake, name, _noting(getattr(fake, name), permissions, calls))


def _through(door: Callable[..., Any], function: str) -> Callable[..., Any]:
    def through(*arguments: Any) -> Any:
        token = _function.set(function)
        try:
            return door(*arguments)
        finally:
            _function.reset(token)

    return through


def _noting_ours(call: Callable[..., Any], permissions: Permissions) -> Callable[..., Any]:
    def noting(client: JsonClient, operation: str, parameters: Mapping[str, Any]) -> Any:
        permissions.note(client.service, operation, parameters)
        return call(client, operation, parameters)

    return noting


def _noting(
    method: Callable[..., Any], permissions: Permissions, calls: tuple[tuple[str, str], ...]
) -> Callable[..., Any]:
    def noting(*arguments: Any, **named: Any) -> Any:
        for service, operation in calls:
            permissions.note(service, operation, {})
        return method(*arguments, **named)

    return noting
