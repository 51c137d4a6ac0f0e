"""The way to DynamoDB, on which requests fail as a test says: on the wire, whichever client asks."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread, local
from typing import Any, NamedTuple
from urllib.parse import urlsplit

THROTTLED = "ProvisionedThroughputExceededException"
# What no client tries again: it stands for whatever fails for good, be it after many tries.
DENIED = "AccessDeniedException"


class Request(NamedTuple):
    """What is asked of DynamoDB: the operation's name, and its arguments as JSON."""

    operation: str
    body: bytes


# The status, and JSON.
Answer = tuple[int, bytes]
# Makes the answer; what it is given asks the engine.
Fault = Callable[[Request, Callable[[Request], Answer]], Answer]


def refused(kind: str = DENIED, status: int = 400) -> Fault:
    """Nothing takes place."""
    return lambda request, ask: (status, _error(kind))


def lost(request: Request, ask: Callable[[Request], Answer]) -> Answer:
    """The request is done, and the client that sent it gets an error."""
    ask(request)
    return 400, _error(DENIED)


def half(request: Request, ask: Callable[[Request], Answer]) -> Answer:
    """Of a batch the first half takes place, and the rest is unprocessed."""
    ((table, writes),) = json.loads(request.body)["RequestItems"].items()
    done, left = writes[: len(writes) // 2], writes[len(writes) // 2 :]
    if done:
        ask(Request(request.operation, json.dumps({"RequestItems": {table: done}}).encode()))
    return 200, json.dumps({"UnprocessedItems": {table: left}}).encode()


def conflict(request: Request, ask: Callable[[Request], Answer]) -> Answer:
    """Another transaction writes the same items just now."""
    reasons = [{"Code": "TransactionConflict"} for _ in json.loads(request.body)["TransactItems"]]
    return 400, _error("TransactionCanceledException", CancellationReasons=reasons)


def _error(kind: str, **more: Any) -> bytes:
    said = {"__type": f"com.amazonaws.dynamodb.v20120810#{kind}", "message": "arn:aws:dynamodb:::table/secret"}
    return json.dumps(said | more).encode()


@dataclass
class Way:
    """Leads to the engine.

    Attributes:
        endpoint: where clients ask.
        asked: the operations so far, those that failed among them.
        fault_of: the fault that befalls a request, if one does; asked by one thread at a time.
    """

    endpoint: str
    asked: list[str] = field(default_factory=list)
    fault_of: Callable[[Request], Fault | None] = lambda request: None

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self.fault_of = lambda request: None

    def fails(self, fault: Fault, operation: str | None = None, after: int = 0, times: int = 1) -> "Strikes":
        """Make requests, or those of one operation, fail `times` times after `after` that succeed."""
        strikes = Strikes(fault, operation, after, times)
        self.fault_of = strikes.next
        return strikes


@dataclass
class Strikes:
    """A fault that befalls some requests.

    Attributes:
        left: how many still.
        struck: the operations of those that it befell.
    """

    fault: Fault
    operation: str | None
    after: int
    left: int
    struck: list[str] = field(default_factory=list)

    def next(self, request: Request) -> Fault | None:
        if self.operation not in (None, request.operation) or not self.left:
            return None
        if self.after:
            self.after -= 1
            return None
        self.left -= 1
        self.struck.append(request.operation)
        return self.fault


@contextmanager
def leading_to(engine: str) -> Iterator[Way]:
    """A way to the engine at that URL, open until the block ends."""
    target = urlsplit(engine)
    of_thread, lock = local(), Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Small answers must not wait for the next packet.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = Request(self.headers["X-Amz-Target"].rpartition(".")[2], body)
            with lock:
                way.asked.append(request.operation)
                fault = way.fault_of(request)
            status, text = fault(request, self.ask) if fault else self.ask(request)
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(text)

        def ask(self, request: Request) -> Answer:
            if not hasattr(of_thread, "engine"):
                of_thread.engine = HTTPConnection(target.hostname or "", target.port)
            signed = ("Authorization", "X-Amz-Date", "Content-Type", "X-Amz-Target")
            headers = {name: self.headers[name] for name in signed if name in self.headers}
            of_thread.engine.request("POST", "/", request.body, headers)
            response = of_thread.engine.getresponse()
            return response.status, response.read()

        def finish(self) -> None:
            super().finish()
            if hasattr(of_thread, "engine"):
                of_thread.engine.close()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        # Clients keep their connections open; they end with the process.
        server.daemon_threads = True
        server.block_on_close = False
        way = Way(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield way
        finally:
            server.shutdown()
            thread.join()
