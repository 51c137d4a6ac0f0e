"""A Chalice project, its WebSocket API, its REST routes and its tables, all running on this machine."""

import logging
import sys
import traceback
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from localgateway.api.api import Api
from localgateway.api.routing import Additions
from localgateway.aws.engine import has_endpoint
from localgateway.aws.local_aws import LocalAws
from localgateway.aws.template import merge
from localgateway.contract.invoke import Invoker
from localgateway.contract.project import LOCAL_PORT_VARIABLE, Function, Project, read_config
from localgateway.environment import applied
from localgateway.errors import ProjectError
from localgateway.faults import Fault, Faults
from localgateway.front.lambda_api import LambdaServer
from localgateway.front.rest import RestServer
from localgateway.front.server import WebSocketServer, listen, to_address
from localgateway.limits import Limits
from localgateway.runtime.code import loaded
from localgateway.runtime.deployments import Deployments
from localgateway.runtime.pool import WorkerInvoker, Zygote
from localgateway.runtime.threads import ThreadInvoker
from localgateway.runtime.watch import Watcher
from localgateway.wire.admission import Admission
from localgateway.wire.tls import Tls, make_tls

log = logging.getLogger(__name__)

T = TypeVar("T")

# As Lambda sets it; Chalice appends its own version, each time an app is made.
EXECUTION_ENVIRONMENT = f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}"


class LocalGateway:
    """Runs one Chalice project from start() to stop(), or as long as a `with` block lasts.

    With `workers`, each function runs in processes of its own, as on Lambda. Without, the handlers run in threads of
    this process and under the stage's environment: so there is one such gateway at a time in a process, and when it
    stops, os.environ, sys.path and the project's modules are as they were before.

    Attributes:
        project_dir: where app.py and .chalice are.
        url: where WebSocket clients connect.
        management_endpoint: where a boto3 apigatewaymanagementapi client sends to.
        console_url: where the console is, None if the gateway has no loopback name.
        rest_url: where the REST routes are, None if the project has none.
        environment: the variables that another process needs to work beside this one.
        faults: the failures to inject.
        tls: the certificates that make clients trust this gateway, None without TLS.
    """

    url: str
    management_endpoint: str
    console_url: str | None
    rest_url: str | None
    environment: Mapping[str, str]
    tls: Tls | None

    def __init__(
        self,
        project_dir: str | Path,
        *,
        stage: str = "local",
        host: str = "127.0.0.1",
        port: int = 0,
        rest_port: int = 0,
        environment: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        workers: bool = False,
        reload: bool = False,
        tls: bool = False,
        allow_hosts: Collection[str] = (),
        additions: Additions | None = None,
        faults: Iterable[Fault] = (),
        schedules: bool = True,
    ) -> None:
        """Prepare a gateway.

        Args:
            project_dir: where app.py and .chalice are.
            stage: the Chalice stage; one that is not in config.json has the top-level settings only.
            port: of the WebSocket API, 0 for a free one. `rest_port` is that of the REST routes.
            environment: overrides the stage's variables.
            workers: whether functions run in processes of their own, instead of in this one.
            reload: whether saving a file of the project swaps the workers; sockets stay open.
            tls: whether the gateway's port serves wss:// and https://, with a certificate of this user's own authority.
            allow_hosts: host names that requests may use, beside loopback's and `host`.
            additions: what CloudFormation adds to the API that Chalice makes: an authorizer, routes, route responses.
            faults: those armed from the start; more can be armed any time.
            schedules: whether scheduled functions run by themselves.
        """
        self.project_dir = Path(project_dir).resolve()
        self._stage = stage
        self._host = host
        self._port = port
        self._rest_port = rest_port
        self._overrides = environment or {}
        self._limits = limits or Limits()
        self._workers = workers
        self._reload = reload
        self._wants_tls = tls
        self._allowed_hosts = frozenset(name.lower() for name in allow_hosts)
        self._additions = additions
        self.faults = Faults(faults)
        self._schedules = schedules
        self._running = ExitStack()

    def start(self) -> Self:
        """Start everything; when this returns, clients may connect.

        Raises:
            GatewayError: if something is missing, broken or in use; then nothing is left running.
        """
        with ExitStack() as stack:
            config = read_config(self.project_dir, self._stage)
            if self._stage not in config.config_from_disk.get("stages", {}):
                log.warning("Stage %s is not in .chalice/config.json: top-level settings only.", self._stage)
            listening = stack.enter_context(listen(self._host, self._port, "--port"))
            # It imports Chalice and boto3 while all that follows happens.
            zygote = Zygote() if self._workers else None
            if zygote:
                stack.callback(zygote.stop)
            variables = {name: str(value) for name, value in config.environment_variables.items()}
            variables |= self._overrides
            # An app.py that attaches itself under `chalice local` must not do so here.
            variables.pop(LOCAL_PORT_VARIABLE, None)
            process = {LOCAL_PORT_VARIABLE: None, "AWS_EXECUTION_ENV": EXECUTION_ENVIRONMENT}
            stack.enter_context(applied({**variables, **process}))
            self._aws = LocalAws(self.project_dir)
            stack.callback(self._aws.stop)
            stack.enter_context(applied(self._aws.environment))
            # The engine starts while the project is imported.
            self._aws.start()
            of_functions = self._aws.variables(self._stage)
            resolved = {**merge(of_functions), **self._overrides}
            lambda_api = LambdaServer(
                self._find,
                call=lambda function, event: self._server.invoke(function, event),
                begin=lambda function, event: self._server.begin(function, event),
            )
            stack.callback(lambda_api.stop)
            lambda_api.start()
            by_name = {} if has_endpoint("LAMBDA") else {"AWS_ENDPOINT_URL_LAMBDA": lambda_api.url}
            stack.enter_context(applied(by_name))
            self.tls = make_tls((self._host, *self._allowed_hosts)) if self._wants_tls else None
            trust = self.tls.environment if self.tls else {}
            stack.enter_context(applied(trust))
            scheme = "https" if self.tls else "http"
            endpoint = f"{scheme}://{to_address(*listening.getsockname()[:2])}/{config.api_gateway_stage}"
            invoker: Invoker
            if zygote:
                project, invoker = self._start_workers(stack, zygote, endpoint, of_functions)
            else:
                stack.enter_context(applied(resolved))
                code = stack.enter_context(loaded(config, endpoint))
                project, invoker = code.project, ThreadInvoker(code, self._limits.concurrent_invocations)
            if not self._schedules:
                project = replace(project, timers=())
            self._aws.create_resources(self._stage)
            self._server = WebSocketServer(
                project,
                invoker,
                listening,
                self._limits,
                tls=self.tls.context if self.tls else None,
                allowed_hosts=self._allowed_hosts,
                additions=self._additions,
                faults=self.faults,
                tables=self._aws.tables,
            )
            stack.callback(self._server.stop)
            self._server.start()
            if isinstance(invoker, WorkerInvoker):
                self._server.soon(invoker.warm_up, project.functions.values())
                if self._reload:
                    watcher = Watcher(self.project_dir, partial(self._deploy, invoker))
                    stack.callback(watcher.stop)
                    watcher.start()
            self.rest_url = None
            if project.rest:
                admission = Admission(self._host, self._allowed_hosts)
                rest = RestServer(self._server.serve_rest, self._host, self._rest_port, admission)
                stack.callback(rest.stop)
                rest.start()
                self.rest_url = rest.url
            self._running = stack.pop_all()
        self.url = self._server.url
        self.management_endpoint = self._server.management_endpoint
        self.console_url = self._server.console_url
        self.environment = variables | resolved | self._aws.environment | by_name | trust
        return self

    def _find(self, name: str) -> Function | None:
        return self._server.find(name) if hasattr(self, "_server") else None

    def _start_workers(
        self, stack: ExitStack, zygote: Zygote, endpoint: str, of_functions: Mapping[str, Mapping[str, str]]
    ) -> tuple[Project, WorkerInvoker]:
        self._deployments = Deployments(zygote, self.project_dir, self._stage, endpoint, self._overrides, of_functions)
        stack.callback(self._deployments.close)
        project, hire = self._deployments.deploy()
        return project, WorkerInvoker(hire, self._limits.concurrent_invocations)

    def _deploy(self, invoker: WorkerInvoker) -> None:
        """Serve the project as its files are now; if they do not import, log that and change nothing."""
        try:
            project, hire = self._deployments.deploy()
            self._server.deploy(project)
        except ProjectError as error:
            if error.__cause__:
                log.error("%s", "".join(traceback.format_exception(error.__cause__)))
            log.error("%s. The old code keeps running.", str(error).removesuffix("."))
            return
        self._server.soon(invoker.deploy, hire, project.functions.values())
        log.info("Reloaded; sockets stay open.")

    def reset(self) -> None:
        """Start afresh in milliseconds: cut sockets without a $disconnect, empty tables and queues.

        Raises:
            ResourceError: if the tables are on AWS.
        """
        self._server.reset()
        self._aws.clear_resources()

    def ask(self, question: Callable[[Api], Coroutine[Any, Any, T]], timeout_seconds: float | None = None) -> T:
        """Run a coroutine on the API's event loop and return its result; raise TimeoutError if it takes too long."""
        return self._server.ask(question, timeout_seconds)

    def stop(self) -> None:
        """Close everything: sockets with 1001 and their $disconnect, then servers, threads and the engine."""
        self._running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
