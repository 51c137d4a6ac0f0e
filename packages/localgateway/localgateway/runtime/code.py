"""A Chalice project's code, imported into this process: what a worker process holds, or the gateway itself.

The functions are the module attributes that their handler strings name, as on Lambda: so middleware runs, and a handler
that returns nothing answers 200.
"""

import base64
import importlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chalice.app import Chalice, WebsocketAPI
from chalice.config import Config
from chalice.local import LambdaContext, LocalChalice, LocalGatewayException
from chalice.local import LocalGateway as ChaliceRest

from localgateway.contract.events import Event
from localgateway.contract.invoke import Result
from localgateway.contract.project import Function, describe
from localgateway.environment import imported_from
from localgateway.errors import ProjectError

log = logging.getLogger(__name__)

Handler = Callable[[Event, Any], Any]


class Code:
    """The functions of an imported project, ready to be run.

    Raises:
        ProjectError: if a function is not where Lambda would look for it.
    """

    def __init__(self, config: Config, app: Chalice, management_endpoint: str) -> None:
        self.project = describe(config, app)
        self._rest = ChaliceRest(app, config)
        point(app.websocket_api, management_endpoint)
        self._handlers = {name: self._find(function) for name, function in self.project.functions.items()}

    def run(self, function: Function, event: Event) -> Result:
        """Call the handler with a Lambda context; the result passes through JSON, as it does on Lambda.

        Any exception, even SystemExit, is an error of this invocation only; its traceback goes to the log.
        """
        context = LambdaContext(
            function.deployed_name, function.memory_mb, max_runtime_ms=int(function.timeout_seconds * 1000)
        )
        try:
            return Result("ok", json.loads(json.dumps(self._handlers[function.name](event, context))))
        except BaseException as error:
            log.exception("%s failed", function.name)
            # What Lambda returns to the caller of the function.
            return Result("error", {"errorMessage": str(error), "errorType": type(error).__name__})

    def _find(self, function: Function) -> Handler:
        if function == self.project.rest:
            return self._serve_rest
        module_name, _, attribute = function.handler.rpartition(".")
        try:
            handler: Handler = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError):
            raise ProjectError(
                f"The function {function.name} does not exist: Lambda would look for {function.handler}."
            ) from None
        return handler

    def _serve_rest(self, request: Mapping[str, Any], context: Any) -> Any:
        """Have Chalice's own local gateway answer an HTTP request; its refusals are responses too."""
        body = base64.b64decode(request["body"]) if request["body"] else None
        try:
            response = self._rest.handle_request(request["method"], request["path"], request["headers"], body)
        except LocalGatewayException as refusal:
            return {
                "statusCode": refusal.CODE,
                "headers": refusal.headers,
                "multiValueHeaders": {},
                "body": (refusal.body or b"").decode(),
            }
        return response


def point(websocket_api: WebsocketAPI, endpoint: str) -> None:
    """Make Chalice's client send to this endpoint, whatever it is configured with; Chalice itself builds https
    addresses.

    Until something configures it, as each WebSocket event does, it refuses to send: a mistake in a function that sees
    no such event, here as on AWS.
    """

    def configure(*address: str) -> None:
        websocket_api._endpoint = endpoint

    for name in ("configure", "configure_from_api_id"):
        setattr(websocket_api, name, configure)


@contextmanager
def loaded(config: Config, management_endpoint: str) -> Iterator[Code]:
    """Import the project until the block ends, which removes its modules.

    Raises:
        ProjectError: if it does not import; its `__cause__` is the project's own error.
    """
    with imported_from(Path(config.project_dir)):
        yield load(config, management_endpoint)


def load(config: Config, management_endpoint: str) -> Code:
    """Import the project for good.

    Raises:
        ProjectError: if it does not import; its `__cause__` is the project's own error.
    """
    try:
        app = config.chalice_app
    except (Exception, SystemExit) as error:
        # Chalice describes a syntax error in its own words.
        cause = None if isinstance(error.__context__, SyntaxError) else error
        said = str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
        raise ProjectError(f"{Path(config.project_dir) / 'app.py'} does not import: {said}") from cause
    # As chalice.local.create_local_server, but with a class of its own for this app: Chalice shares one.
    app.__class__ = type("LocalApp", (LocalChalice, app.__class__), {})
    return Code(config, app, management_endpoint)
