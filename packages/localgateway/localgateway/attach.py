"""Make `chalice local` serve the WebSocket API beside its REST routes.

An app.py opts in with two lines right after it has made its app, if a variable is set that only its local stage has:

    if "LOCAL_GATEWAY_PORT" in os.environ:
        import localgateway; localgateway.attach()

Chalice imports app.py for `chalice package` as well, so nothing starts before its local server does.
"""

import atexit
import os
from pathlib import Path

import chalice.local
from chalice.app import Chalice
from chalice.config import Config

from localgateway.aws.local_aws import LocalAws
from localgateway.contract.project import LOCAL_PORT_VARIABLE
from localgateway.environment import put
from localgateway.front.server import WebSocketServer, listen, to_address
from localgateway.limits import Limits
from localgateway.log import log_to_stderr
from localgateway.runtime.code import Code
from localgateway.runtime.output import overhear
from localgateway.runtime.threads import ThreadInvoker


def attach() -> None:
    """Start the gateway with Chalice's local server, on the port in LOCAL_GATEWAY_PORT.

    Set region, credentials and endpoints at once, because an app may make its clients while it is imported. Without the
    variable nothing happens.
    """
    websocket_port = os.environ.get(LOCAL_PORT_VARIABLE)
    if websocket_port is None:
        return
    aws = LocalAws(Path.cwd())
    put(aws.environment)
    create_local_server = chalice.local.create_local_server

    def create_both(app_obj: Chalice, config: Config, host: str, port: int) -> chalice.local.LocalDevServer:
        rest_server = create_local_server(app_obj, config, host, port)
        overhear()
        log_to_stderr()
        aws.start()
        atexit.register(aws.stop)
        aws.create_resources(config.chalice_stage)
        listening = listen(host, int(websocket_port), f"{LOCAL_PORT_VARIABLE} in .chalice/config.json")
        limits = Limits()
        endpoint = f"http://{to_address(host, int(websocket_port))}/{config.api_gateway_stage}"
        code = Code(config, app_obj, endpoint)
        server = WebSocketServer(
            code.project, ThreadInvoker(code, limits.concurrent_invocations), listening, limits, tables=aws.tables
        )
        server.start()
        atexit.register(server.stop)
        print(f"Serving on {server.url}", flush=True)
        if server.console_url:
            print(f"Console on {server.console_url}", flush=True)
        return rest_server

    chalice.local.create_local_server = create_both
