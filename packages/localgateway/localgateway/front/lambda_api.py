"""Lambda's Invoke: any function of the project by name, for the handlers themselves and for any AWS SDK or CLI.

    boto3.client("lambda", endpoint_url=...).invoke(FunctionName="tick", Payload=b"{}")

Source: API reference of AWS Lambda, Invoke.
"""

import json
import logging
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from localgateway.contract.events import Event
from localgateway.contract.invoke import Result
from localgateway.contract.project import Function
from localgateway.front.rest import ServerThread
from localgateway.wire.admission import is_loopback, read_host

log = logging.getLogger(__name__)

PATH = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
# What a synchronous invocation may carry; six megabytes, as Lambda has it.
MAX_PAYLOAD_BYTES = 6_291_556

Find = Callable[[str], Function | None]
Call = Callable[[Function, Event], Result]
Begin = Callable[[Function, Event], None]


class Handler(BaseHTTPRequestHandler):
    """Answers one Invoke. Requests must be signed, which a page of another site cannot make a browser do."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, request: Any, client_address: Any, server: Any, find: Find, call: Call, begin: Begin) -> None:
        self._find = find
        self._call = call
        self._begin = begin
        super().__init__(request, client_address, server)

    def do_POST(self) -> None:
        """Invoke the function that the path names."""
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > MAX_PAYLOAD_BYTES:
            self.close_connection = True
            self._refuse(413, "RequestTooLargeException", f"A payload has at most {MAX_PAYLOAD_BYTES} bytes.")
            return
        body = self.rfile.read(int(size))
        path = PATH.fullmatch(urlsplit(self.path).path)
        is_signed = self.headers.get("Authorization", "").startswith("AWS4-")
        if path is None or not is_signed or not is_loopback(read_host(self.headers.get("Host", ""))):
            self._refuse(403, "AccessDeniedException", "This is Lambda's Invoke, for signed requests to this machine.")
            return
        name = unquote(path[1])
        function = self._find(name)
        if function is None:
            self._refuse(404, "ResourceNotFoundException", f"Function not found: {name}")
            return
        try:
            event = json.loads(body or b"{}")
        except ValueError:
            self._refuse(400, "InvalidRequestContentException", "The payload is not JSON.")
            return
        self._invoke(function, event, self.headers.get("X-Amz-Invocation-Type", "RequestResponse"))

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: each invocation has its own line."""

    def _invoke(self, function: Function, event: Event, kind: str) -> None:
        if kind == "DryRun":
            self._answer(204, None)
        elif kind == "Event":
            self._begin(function, event)
            self._answer(202, None)
        else:
            result = self._call(function, event)
            error = {} if result.outcome == "ok" else {"X-Amz-Function-Error": "Unhandled"}
            self._answer(200, result.payload, **error)

    def _refuse(self, status: int, kind: str, message: str) -> None:
        self._answer(status, {"Type": "User", "Message": message}, **{"x-amzn-ErrorType": kind})

    def _answer(self, status: int, value: Any, **headers: str) -> None:
        body = b"" if status in (202, 204) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class LambdaServer(ServerThread):
    """Lambda's endpoint on a free port of 127.0.0.1; `call` waits for a function, `begin` does not."""

    def __init__(self, find: Find, call: Call, begin: Begin) -> None:
        def handler(request: Any, client_address: Any, server: Any) -> Handler:
            return Handler(request, client_address, server, find, call, begin)

        super().__init__("127.0.0.1", 0, handler)
