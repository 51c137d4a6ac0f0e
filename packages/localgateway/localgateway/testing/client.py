"""A WebSocket client for tests: it sends, checks what it receives, and explains what it did not.

Frames are JSON or any other text; only the application knows what they mean.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, NoReturn

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from localgateway.testing.events import to_text

# How long something that should happen at once may take on a busy machine.
SECONDS = 10


class Refused(Exception):
    """The handshake was not answered with 101.

    Attributes:
        status: the HTTP status.
        body: JSON if it is JSON, else text.
    """

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body

    def __str__(self) -> str:
        return f"The handshake was refused with {self.status}: {self.body}"


class Client:
    """One end of an open WebSocket.

    Args:
        socket: the connection; the attribute `socket` is for what this class does not offer.
        name: what messages call it.
        connection_id: what API Gateway calls it.
        settle: returns when everything on its way has arrived; without it, `receives_nothing` is not available.
        read: turns a text into the frame that tests see.
    """

    def __init__(
        self,
        socket: ClientConnection,
        *,
        name: str = "the client",
        connection_id: str | None = None,
        settle: Callable[[], None] | None = None,
        read: Callable[[str], Any] | None = None,
    ) -> None:
        self.socket = socket
        self.name = name
        self._connection_id = connection_id
        self._settle = settle
        self._read = read or read_frame
        self._seen: list[Any] = []

    @property
    def connection_id(self) -> str:
        if self._connection_id is None:
            raise AssertionError(f"{self.name} was closed before its connection id could be learnt.")
        return self._connection_id

    @property
    def subprotocol(self) -> str | None:
        """The sub-protocol that the handshake agreed on."""
        return self.socket.subprotocol

    def sends(self, *frames: Any) -> None:
        """Send frames: text as it is, bytes as a binary frame, anything else as JSON."""
        for frame in frames:
            self.socket.send(frame if isinstance(frame, bytes) else to_text(frame))

    def receives(self, expected: Any = ..., *, within: float = SECONDS) -> Any:
        """Wait for the next frame, check it and return it.

        Args:
            expected: what it must be: the members of an object that matter, `...` for anything.
            within: seconds to wait.
        """
        __tracebackhide__ = True
        try:
            frame = self._next(within)
        except TimeoutError:
            self._fail(f"received nothing within {within:g} s", expected)
        except ConnectionClosed as closed:
            self._fail(f"was closed with {describe(closed.rcvd)}", expected)
        if difference := find_difference(expected, frame):
            self._fail(f"received something else: {difference}", expected)
        return frame

    def receives_nothing(self) -> None:
        """Check that no frame has arrived and none is on its way; waits until everything sent has been handled."""
        __tracebackhide__ = True
        if self._settle is None:
            raise TypeError("receives_nothing() needs a client that a Gateway has connected.")
        self._settle()
        try:
            self._next(0)
        except TimeoutError:
            return
        except ConnectionClosed as closed:
            self._fail(f"was closed with {describe(closed.rcvd)}")
        self._fail("received something")

    def closes(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection and wait for the answer."""
        self.socket.close(code, reason)

    def is_closed_with(self, code: int | None = None, *, within: float = SECONDS) -> tuple[int, str]:
        """Wait for the close frame, check its code and return code and reason; earlier frames must have been read."""
        __tracebackhide__ = True
        try:
            self._next(within)
        except TimeoutError:
            self._fail(f"was not closed within {within:g} s")
        except ConnectionClosed as closed:
            close = closed.rcvd
            if close is None:
                self._fail("was cut without a close frame")
            if code not in (None, close.code):
                self._fail(f"was closed with {describe(close)} instead of {code}")
            return close.code, close.reason
        self._fail("received something instead of a close frame")

    def _next(self, within: float) -> Any:
        text = self.socket.recv(within)
        if not isinstance(text, str):
            raise AssertionError(f"{self.name} received a binary frame, which API Gateway never sends.")
        frame = self._read(text)
        self._seen.append(frame)
        return frame

    def _fail(self, what: str, expected: Any = ...) -> NoReturn:
        __tracebackhide__ = True
        lines = [f"{self.name} {what}"]
        if expected is not ...:
            lines.append(f"expected: {show(expected)}")
        # The last one may be the reason for the failure.
        lines += [f"received: {show(frame)}" for frame in self._seen] or ["received: nothing so far"]
        try:
            while True:
                lines.append(f"and then: {show(self._read(str(self.socket.recv(0))))}")
        except (TimeoutError, ConnectionClosed):
            raise AssertionError("\n  ".join(lines)) from None


def dial(
    stack: ExitStack,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocols: Iterable[str] = (),
    **options: Any,
) -> ClientConnection:
    """Open a WebSocket that answers pings, sends none, and keeps what arrives until it is read.

    The stack closes it.

    Raises:
        Refused: if the handshake is refused.
    """
    headers = dict(headers or {})
    agent = next((name for name in headers if name.lower() == "user-agent"), None)
    if agent:
        options["user_agent_header"] = headers.pop(agent)
    # No proxy for a server on this machine; no pings, because a test may be about silence; and no bound on what is
    # kept, because a client that reads late would not see a pong behind it.
    defaults: dict[str, Any] = {"proxy": None, "ping_interval": None, "max_queue": None}
    defaults |= {"open_timeout": SECONDS, "close_timeout": SECONDS}
    offered = [Subprotocol(name) for name in subprotocols] or None
    try:
        socket: ClientConnection = stack.enter_context(
            connect(url, additional_headers=headers, subprotocols=offered, **defaults | options)
        )
    except InvalidStatus as refusal:
        raise Refused(refusal.response.status_code, read_frame(refusal.response.body.decode())) from None
    return socket


def read_frame(text: str) -> Any:
    """Parse a JSON object or array; return any other text as it is."""
    if text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def find_difference(expected: Any, actual: Any, where: str = "") -> str | None:
    """Describe where a frame differs from what was expected, None if it matches; objects may have more members."""
    place = f" at {where}" if where else ""
    if expected is ...:
        return None
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for name, part in expected.items():
            path = f"{where}.{name}" if where else str(name)
            if name not in actual:
                return f"nothing at {path}"
            if difference := find_difference(part, actual[name], path):
                return difference
        return None
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        parts = (find_difference(*both, f"{where}[{n}]") for n, both in enumerate(zip(expected, actual, strict=True)))
        return next(filter(None, parts), None)
    return None if expected == actual else f"{show(actual)}{place}"


def show(frame: Any) -> str:
    """Write a frame for a message, in at most 240 characters."""
    text = repr(frame)
    return text if len(text) <= 240 else f"{text[:237]}..."


def describe(close: Close | None) -> str:
    return f"{close.code} {close.reason}".rstrip() if close else "no close frame"
