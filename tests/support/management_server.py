"""A server that answers as a test says, byte for byte, over TLS or without: as @connections, DynamoDB or SQS."""

import json
import socket
import ssl
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote

import trustme

# What happens to a request: bytes are sent, a function does what it likes with the socket.
Move = bytes | Callable[[socket.socket], object]


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """Return an answer with a length, as API Gateway sends them."""
    lines = (f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


def refuses(status: int, kind: str) -> bytes:
    """Return a refusal as @connections sends them."""
    return answer(status, b"", f"x-amzn-ErrorType: {kind}")


def json_answer(content: Any, status: int = 200, *headers: str) -> bytes:
    """Return an answer as DynamoDB and SQS send them."""
    body = json.dumps(content).encode()
    return answer(
        status, body, "Content-Type: application/x-amz-json-1.0", f"x-amz-crc32: {zlib.crc32(body)}", *headers
    )


def json_refusal(code: str, status: int = 400, *headers: str, **details: Any) -> bytes:
    """Return a refusal as DynamoDB and SQS send them."""
    return json_answer({"__type": f"com.amazonaws.service#{code}", "message": "No.", **details}, status, *headers)


OK = answer(200)


def pauses(seconds: float) -> Callable[[socket.socket], None]:
    return lambda _: time.sleep(seconds)


def closes(connection: socket.socket) -> None:
    connection.close()


def resets(connection: socket.socket) -> None:
    """Send nothing but RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@dataclass(frozen=True)
class Request:
    """A request that came; `tcp` is the number of its TCP connection, from 0."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    tcp: int

    @property
    def connection_id(self) -> str:
        return unquote(self.path.rpartition("/")[2])


@dataclass
class ManagementServer:
    """Serves until its block ends.

    Attributes:
        endpoint: the URL to send to.
        moves: what happens to the next requests for each connection id; without an entry they are answered 200.
        requests: all that came so far.
    """

    endpoint: str
    moves: dict[str, list[tuple[Move, ...]]] = field(default_factory=lambda: defaultdict(list))
    requests: list[Request] = field(default_factory=list)

    def on(self, connection_id: str, *moves: Move) -> None:
        """Answer the next request for the connection this way; called again, the one after it."""
        self.moves[connection_id].append(moves)

    def then(self, *answers: Move) -> None:
        """Answer the next requests for the path `/` this way, one after the other."""
        for each in answers:
            self.on("", each)

    def serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError), connection:
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    if not (data := connection.recv(65536)):
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                line, *lines = head.decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (entry.partition(": ") for entry in lines)}
                size = int(headers.get("content-length", 0))
                while len(buffer) < size:
                    buffer += connection.recv(65536)
                method, path, _ = line.split(" ")
                request = Request(method, path, headers, buffer[:size], number)
                buffer = buffer[size:]
                self.requests.append(request)
                moves = self.moves[request.connection_id]
                for move in moves.pop(0) if moves else (OK,):
                    if isinstance(move, bytes):
                        connection.sendall(move)
                    else:
                        move(connection)


@contextmanager
def serving(authority: trustme.CA | None, name: str = "127.0.0.1", path: str = "/api") -> Iterator[ManagementServer]:
    """Serve on 127.0.0.1, with a certificate for `name` if there is an authority."""
    tls = None
    if authority:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(tls)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.settimeout(0.05)
        scheme = "https" if tls else "http"
        server = ManagementServer(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}{path}")
        stopped, threads, open_ = Event(), [], []

        def accept() -> None:
            while not stopped.is_set():
                with suppress(TimeoutError):
                    connection, _ = listener.accept()
                    connection.settimeout(10)
                    thread = Thread(target=begin, args=(connection, len(threads)))
                    threads.append(thread)
                    thread.start()

        def begin(connection: socket.socket, number: int) -> None:
            with suppress(OSError):
                connection = tls.wrap_socket(connection, server_side=True) if tls else connection
                open_.append(connection)
                server.serve(connection, number)
            connection.close()

        acceptor = Thread(target=accept)
        acceptor.start()
        try:
            yield server
        finally:
            stopped.set()
            acceptor.join()
            for connection in open_:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
