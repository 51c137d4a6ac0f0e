"""One open WebSocket: its frames, its two clocks, and its end.

A connection ends exactly once, however it is closed. From then on it takes no messages and no sends, and API Gateway's
$disconnect follows. The frame rules are those of `websockets`' ServerProtocol.
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Protocol

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from localgateway.contract.events import ConnectionContext
from localgateway.limits import Limits

# Recorded on AWS: the reason in $disconnect when the client's close frame has no code.
NO_CODE_REASON = "Client-side close frame status not set"
GOING_AWAY = (CloseCode.GOING_AWAY, "Going away")

frame_log = logging.getLogger(__name__)
# `websockets` logs each closed connection at INFO; our own log has a line for each $disconnect.
frame_log.setLevel(logging.WARNING)


class Violation(Exception):
    """The client sent what API Gateway does not accept: the socket is closed with this code."""

    def __init__(self, code: CloseCode, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Receiver(Protocol):
    """What receives the events of a connection."""

    def message(self, connection: "Connection", text: str) -> asyncio.Task[None]:
        """Start to handle one text message; the task ends when it is handled."""

    def ended(self, connection: "Connection", code: int, reason: str) -> None:
        """Note that a connection has ended; called once for each."""

    def time(self) -> float:
        """Return the time that the connection's clocks use, in seconds since an arbitrary moment."""


class Traffic:
    """What a connection carried in one direction: the number of messages, and of bytes of text in them."""

    __slots__ = ("messages", "size_bytes")

    def __init__(self) -> None:
        self.messages = 0
        self.size_bytes = 0

    def count(self, size_bytes: int) -> None:
        """Count one more message."""
        self.messages += 1
        self.size_bytes += size_bytes


class Connection(asyncio.Protocol):
    """The server's side of one WebSocket, after the 101.

    Attributes:
        received: what the client sent. `sent`: what was sent to it.
    """

    def __init__(
        self,
        context: ConnectionContext,
        frames: ServerProtocol,
        transport: asyncio.Transport,
        receiver: Receiver,
        limits: Limits,
    ) -> None:
        self.context = context
        self.is_open = True
        self._frames = frames
        self._transport = transport
        self._receiver = receiver
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._active_at = receiver.time()
        self._timer = self._loop.call_later(self._remaining_seconds(), self.check_clocks)
        self.received, self.sent = Traffic(), Traffic()
        # The message being received, and those that wait because too many are in flight.
        self._text = bytearray()
        self._fragments = 0
        # An empty deque takes 760 bytes, so one exists only while something waits.
        self._waiting: deque[str] | None = None
        self._in_flight = 0
        self._is_writing_paused = False

    @property
    def last_active_ms(self) -> int:
        """When the last message passed, in either direction, in epoch milliseconds."""
        return self.context.connected_at_ms + round((self._active_at - self._opened_at) * 1000)

    @property
    def client_address(self) -> tuple[str, int]:
        """The address of the client's end of the TCP connection."""
        host, port = self._transport.get_extra_info("peername")[:2]
        return host, port

    @property
    def is_full(self) -> bool:
        """Whether the client has stopped reading, so that nothing more may be sent."""
        return self._is_writing_paused

    def send(self, text: bytes) -> None:
        """Send one text message, in several frames if it is too long for one."""
        self._active_at = self._receiver.time()
        self.sent.count(len(text))
        size = self._limits.frame_bytes
        is_last = len(text) <= size
        self._frames.send_text(text[:size], fin=is_last)
        for start in range(size, len(text), size):
            self._frames.send_continuation(text[start : start + size], fin=start + size >= len(text))
        self._flush()

    def close(self, code: int, reason: str) -> None:
        """Close from this side; the connection ends at once, whenever the client answers."""
        if self.is_open:
            self._frames.send_close(code, reason)
            self._flush()
            self._end(code, reason)

    def check_clocks(self) -> None:
        """Close the connection if its time is up; also called after time has jumped."""
        self._timer.cancel()
        remaining = self._remaining_seconds()
        if remaining <= 0:
            self.close(*GOING_AWAY)
        else:
            self._timer = self._loop.call_later(remaining, self.check_clocks)

    def cut(self) -> None:
        """Fail the network: the client gets no close frame, and $disconnect has 1006."""
        self._transport.abort()

    def drop(self) -> None:
        """Cut the connection without a close frame and without $disconnect."""
        self.is_open = False
        self._waiting = None
        self._transport.abort()

    # Called by asyncio.

    def data_received(self, data: bytes) -> None:
        self._frames.receive_data(data)
        try:
            for event in self._frames.events_received():
                if isinstance(event, Frame) and self.is_open:
                    self._receive(event)
        except Violation as violation:
            self._frames.fail(violation.code, violation.reason)
        self._flush()
        if self._frames.state is not State.OPEN:
            self._end_with_close_frame()

    def eof_received(self) -> None:
        self._frames.receive_eof()
        self._flush()
        self._end(CloseCode.ABNORMAL_CLOSURE, "")

    def connection_lost(self, error: Exception | None) -> None:
        self._end(CloseCode.ABNORMAL_CLOSURE, "")
        self._timer.cancel()

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        self._pace()

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._pace()

    # Receiving.

    def _receive(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT:
                self._text = bytearray()
                self._fragments = 0
            case Opcode.BINARY:
                raise Violation(CloseCode.UNSUPPORTED_DATA)
        # Control frames may arrive between the fragments of a message, and have been answered.
        if frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._append(frame)

    def _append(self, frame: Frame) -> None:
        limits = self._limits
        self._text += frame.data
        self._fragments += 1
        if len(frame.data) > limits.frame_bytes:
            raise Violation(CloseCode.MESSAGE_TOO_BIG, f"frame longer than {limits.frame_bytes} bytes")
        if len(self._text) > limits.message_bytes:
            raise Violation(CloseCode.MESSAGE_TOO_BIG, f"message longer than {limits.message_bytes} bytes")
        if self._fragments > limits.fragments_per_message:
            raise Violation(CloseCode.MESSAGE_TOO_BIG, f"message in more than {limits.fragments_per_message} frames")
        if frame.fin:
            self._take(self._text)
            self._text = bytearray()

    def _take(self, data: bytearray) -> None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise Violation(CloseCode.INVALID_DATA, "not UTF-8") from None
        self._active_at = self._receiver.time()
        self.received.count(len(data))
        self._waiting = self._waiting or deque()
        self._waiting.append(text)
        self._handle_waiting()

    def _handle_waiting(self) -> None:
        while self._waiting and self._in_flight < self._limits.in_flight_per_client:
            self._in_flight += 1
            self._receiver.message(self, self._waiting.popleft()).add_done_callback(self._handled)
        self._waiting = self._waiting or None
        self._pace()

    def _handled(self, task: asyncio.Task[None]) -> None:
        self._in_flight -= 1
        self._handle_waiting()

    def _pace(self) -> None:
        """Read from the client only as fast as it reads from us and its messages are handled."""
        if self._transport.is_closing():
            return
        is_behind = self._is_writing_paused or self._in_flight >= self._limits.in_flight_per_client
        if self.is_open and is_behind:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # Ending.

    def _end_with_close_frame(self) -> None:
        """Note a close frame: the client's, or the one that answers its mistake."""
        close = self._frames.close_rcvd or self._frames.close_sent
        if close is None:
            self._end(CloseCode.ABNORMAL_CLOSURE, "")
        elif close.code == CloseCode.NO_STATUS_RCVD:
            self._end(close.code, NO_CODE_REASON)
        else:
            self._end(close.code, close.reason)

    def _end(self, code: int, reason: str) -> None:
        """End the connection, once; the client gets `close_seconds` to finish the closing handshake."""
        if not self.is_open:
            return
        self.is_open = False
        self._timer.cancel()
        self._timer = self._loop.call_later(self._limits.close_seconds, self._transport.abort)
        self._pace()
        self._receiver.ended(self, int(code), reason)

    def _remaining_seconds(self) -> float:
        limits = self._limits
        ends_at = min(self._active_at + limits.idle_seconds, self._opened_at + limits.duration_seconds)
        return ends_at - self._receiver.time()

    def _flush(self) -> None:
        for data in self._frames.data_to_send():
            if data:
                self._transport.write(data)
            else:
                end_writing(self._transport)


def end_writing(transport: asyncio.Transport) -> None:
    """Signal that nothing more follows. With TLS, which has no half-closed connections, close."""
    if not transport.can_write_eof():
        transport.close()
        return
    # If the client has reset the connection, connection_lost() follows anyway.
    with suppress(OSError):
        transport.write_eof()
