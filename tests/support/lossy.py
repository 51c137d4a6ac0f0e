"""A way to DynamoDB on which answers get lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit


class LossyWay(ThreadingHTTPServer):
    """Hands requests on to the engine; of those for one operation, the next `lose` answers get lost on the way back."""

    def __init__(self, engine: str, operation: str) -> None:
        super().__init__(("127.0.0.1", 0), _HandOn)
        self.engine = urlsplit(engine).netloc
        self.operation = operation
        self.lose = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _HandOn(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # The answer leaves in one piece, else the other side waits for its second one.
    wbufsize = -1
    server: LossyWay

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        engine = HTTPConnection(self.server.engine)
        engine.request("POST", self.path, body, dict(self.headers))
        answer = engine.getresponse()
        content = answer.read()
        engine.close()
        assert answer.status in (200, 400)
        if self.headers["X-Amz-Target"].endswith(f".{self.server.operation}") and self.server.lose:
            self.server.lose -= 1
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def lossy_way(engine: str, operation: str) -> Iterator[LossyWay]:
    with LossyWay(engine, operation) as way:
        thread = Thread(target=way.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield way
        finally:
            way.shutdown()
            thread.join()
