"""An @connections endpoint that answers as a test says, byte for byte, over TLS or without."""

import socket
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from urllib.parse import unquote

import trustme

# What happens to a request: bytes are sent, a function does as it likes with the socket.
Move = bytes | Callable[[socket.socket], object]


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer with a length, as API Gateway sends them."""
    lines = (f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


def refuses(status: int, kind: str) -> bytes:
    return answer(status, b"", f"x-amzn-ErrorType: {kind}")


OK = answer(200)


def pauses(seconds: float) -> Callable[[socket.socket], None]:
    return lambda _: time.sleep(seconds)


def closes(connection: socket.socket) -> None:
    connection.close()


def resets(connection: socket.socket) -> None:
    """The other side is told nothing but RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@dataclass(frozen=True)
class Request:
    """What came: the connection id of its path, and of which TCP connection it was the how many-th."""

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
        moves: for each connection id what happens to its next requests; whoever has none left is answered 200.
        requests: all that came so far.
    """

    endpoint: str
    moves: dict[str, list[tuple[Move, ...]]] = field(default_factory=lambda: defaultdict(list))
    requests: list[Request] = field(default_factory=list)

    def on(self, connection_id: str, *moves: Move) -> None:
        """The next request for the connection is answered so; called again, the one after it."""
        self.moves[connection_id].append(moves)

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
def serving(authority: trustme.CA | None, name: str = "127.0.0.1") -> Iterator[ManagementServer]:
    """A server on 127.0.0.1 whose certificate, if there is an authority, is for `name`."""
    tls = None
    if authority:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(tls)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.settimeout(0.05)
        scheme = "https" if tls else "http"
        server = ManagementServer(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/api")
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
