"""The project's REST routes, served by Chalice's own local server in a thread of this process."""

import base64
import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from threading import Thread
from typing import Any

from chalice.local import ChaliceRequestHandler, ThreadedHTTPServer

from localgateway.contract.invoke import Result
from localgateway.front.server import explained, to_address
from localgateway.wire.admission import Admission

log = logging.getLogger(__name__)

# Runs the function behind the routes.
Call = Callable[[dict[str, Any]], Result]


class Handler(ChaliceRequestHandler):
    """Logs a line for each request, with its path and nothing else that the client sent."""

    # Head and body are two writes; together with the client's delayed ACK, Nagle's algorithm costs 40 ms.
    disable_nagle_algorithm = True

    path = "-"
    _started_at = 0.0

    def __init__(
        self, request: Any, client_address: Any, server: Any, call: Call, admits_host: Callable[[str], bool]
    ) -> None:
        self._admits_host = admits_host
        # The handler uses only this method of Chalice's gateway.
        self.local_gateway = Lambda(call)  # type: ignore[assignment]
        BaseHTTPRequestHandler.__init__(self, request, client_address, server)

    def parse_request(self) -> bool:
        self._started_at = time.monotonic()
        if not super().parse_request():
            return False
        if self._admits_host(self.headers.get("Host", "")):
            return True
        body = b'{"message":"Forbidden"}'
        self.close_connection = True
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return False

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        duration_ms = (time.monotonic() - self._started_at) * 1000
        # repr() escapes control characters; the query is left out.
        path = repr(self.path.partition("?")[0])[1:-1]
        log.info("%s %s %s %.0f ms", self.command, path, int(code), duration_ms)

    def log_error(self, format: str, *args: Any) -> None:
        """Log nothing: every error is a response, and is logged as one."""


class Server(ThreadedHTTPServer):
    """Tracks its connections, so that closing it leaves no thread behind."""

    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self._serving: dict[socket.socket, Thread] = {}
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._serving[request] = thread
        thread.start()

    def close_request(self, request: Any) -> None:
        self._serving.pop(request, None)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error outside the app's handlers, except that a client has left."""
        if not isinstance(sys.exception(), ConnectionError):
            log.exception("A request to the REST routes failed")

    def server_close(self) -> None:
        super().server_close()
        deadline = time.monotonic() + 1
        for request, thread in list(self._serving.items()):
            # The client may have left already.
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
            thread.join(max(0, deadline - time.monotonic()))


class Lambda:
    """Takes the place of Chalice's own gateway in its request handler: passes requests to the function behind the
    routes."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def handle_request(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Any:
        """Return the function's response, or API Gateway's own if the function does not answer."""
        encoded = base64.b64encode(body).decode() if body else None
        try:
            result = self._call({"method": method, "path": path, "headers": dict(headers), "body": encoded})
        except TimeoutError:
            return refuse(504, "Endpoint request timed out")
        return result.payload if result.outcome == "ok" else refuse(502, "Internal server error")


def refuse(status: int, message: str) -> dict[str, Any]:
    return {"statusCode": status, "headers": {}, "multiValueHeaders": {}, "body": json.dumps({"message": message})}


class ServerThread:
    """An HTTP server in a thread of its own, with one more thread for each connection."""

    def __init__(self, host: str, port: int, handler: Callable[[Any, Any, Any], BaseHTTPRequestHandler]) -> None:
        self._server = Server((host, port), handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The URL of the server."""
        host, port = self._server.server_address[:2]
        return f"http://{to_address(str(host), port)}"

    def start(self) -> None:
        """Serve; clients may connect when this returns."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port and all its connections; a handler that still runs is abandoned after a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class RestServer(ServerThread):
    """Serves a project's REST routes; `call` runs the function behind them, `admission` refuses foreign host names."""

    def __init__(self, call: Call, host: str, port: int, admission: Admission) -> None:
        def handler(request: Any, client_address: Any, server: Any) -> Handler:
            return Handler(request, client_address, server, call, admission.admits_host)

        with explained(host, port, "--rest-port"):
            super().__init__(host, port, handler)
