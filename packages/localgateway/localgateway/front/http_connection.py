"""The client side of a TCP connection: HTTP/1.1 until one of its requests becomes a WebSocket.

The upgrade waits for the API's verdict. Nothing is open before the 101 is written, and a client that leaves earlier
never had a connection.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any
from weakref import WeakSet

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidUpgrade
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from localgateway.api import management
from localgateway.api.api import Api, Verdict, to_error
from localgateway.console import admin, page
from localgateway.console.admin import Admin
from localgateway.console.feed import Feed
from localgateway.front.lobby import Lobby
from localgateway.wire.admission import Admission
from localgateway.wire.http import CONTINUE, Expectation, Leftover, Malformed, Request, RequestReader, Response
from localgateway.wire.websocket import Connection, end_writing, frame_log

# AWS answers with a window of 12 bits. Without context takeover an idle socket holds no compressor, some 60 KB each.
DEFLATE = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=12,
    compress_settings={"memLevel": 5},
)
# What compression may add to a frame: text that does not compress, and marks between blocks.
DEFLATE_BYTES = 1_024


class HttpSide(asyncio.Protocol):
    """One TCP connection, as long as it speaks HTTP."""

    def __init__(
        self,
        api: Api,
        admin: Admin,
        transports: WeakSet[asyncio.Transport],
        lobby: Lobby,
        admission: Admission,
    ) -> None:
        self._api = api
        self._admin = admin
        self._transports = transports
        self._lobby = lobby
        self._admission = admission
        self._reader = RequestReader(api.limits)
        # What the client sends after an upgrade request, ahead of our answer.
        self._early: bytearray | None = None
        # What has been read and not handled yet: while one request waits for its answer, later ones wait here.
        self._read: deque[Request | Expectation | Leftover | Malformed] = deque()
        self._is_delayed = False
        self._is_done = False
        self._is_writing_paused = False

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=self._api.limits.write_buffer_bytes)
        self._transport = transport
        self._transports.add(transport)
        self._lobby.enter(transport)
        # A client that left before it was accepted no longer has an address.
        self._source_ip: str = (transport.get_extra_info("peername") or ("",))[0]

    def data_received(self, data: bytes) -> None:
        if self._early is not None:
            self._keep(data)
            return
        if not self._is_done:
            self._read.extend(self._reader.feed(data))
            self._go_on()

    def _go_on(self) -> None:
        while self._read and not self._is_delayed and not self._is_done:
            match event := self._read.popleft():
                case Request():
                    self._handle(event)
                case Expectation():
                    self._transport.write(CONTINUE)
                case Leftover() if self._early is not None:
                    self._keep(event.data)
                case Malformed():
                    self._answer(refuse(event.status))

    def connection_lost(self, error: Exception | None) -> None:
        self._lobby.leave(self._transport)

    def pause_writing(self) -> None:
        """Take no more requests from a client that does not read the answers."""
        self._is_writing_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._transport.resume_reading()

    # Requests.

    def _handle(self, request: Request) -> None:
        self._lobby.enter(self._transport)
        addressed = management.connection_path(request.path)
        if request.is_upgrade and request.method != "GET":
            self._answer(refuse(HTTPStatus.BAD_REQUEST), request)
        elif request.path.removesuffix("/") == f"/{self._api.stage}" and self._admission.admits_handshake(request):
            self._shake_hands(request)
        elif addressed and self._admission.admits_call(request):
            self._call(request, *addressed)
        elif request.path.startswith(admin.PREFIX):
            self._administer(request)
        elif page.is_for(request.path):
            self._answer(page.serve(request, self._source_ip), request)
        else:
            self._answer(refuse(HTTPStatus.FORBIDDEN), request)

    def _call(self, request: Request, stage: str, connection_id: str) -> None:
        """Answer a call of @connections, late if a fault says so."""
        delay = self._api.faults.take("delay-post", connection_id) if request.method == "POST" else None
        if delay is None:
            self._answer(management.handle(self._api, request, stage, connection_id), request)
            return

        async def call_late() -> Response:
            await asyncio.sleep(delay.seconds)
            return management.handle(self._api, request, stage, connection_id)

        self._answer_later(call_late(), request)

    def _administer(self, request: Request) -> None:
        match answer := self._admin.handle(request, self._source_ip):
            case Response():
                self._answer(answer, request)
            case Feed():
                self._is_done = True
                self._lobby.leave(self._transport)
                answer.begin(self._transport)
            case later:
                self._answer_later(later, request)

    def _answer_later(self, work: Coroutine[Any, Any, Response], request: Request) -> None:
        async def answer() -> None:
            response = await work
            self._is_delayed = False
            if not self._transport.is_closing():
                self._answer(response, request)
                self._go_on()

        self._is_delayed = True
        self._api.start(answer())

    def _answer(self, response: Response, request: Request | None = None) -> None:
        """Write a response; it is the last on this connection if the request says so or is unreadable."""
        is_last = request is None or request.is_last or request.is_upgrade
        is_head = request is not None and request.method == "HEAD"
        self._transport.write(response.to_bytes(is_last=is_last, is_head=is_head))
        if is_last:
            self._finish()

    def _finish(self) -> None:
        """Let the client close first: closing while it still sends would reset what it has yet to read."""
        self._is_done = True
        end_writing(self._transport)
        asyncio.get_running_loop().call_later(self._api.limits.close_seconds, self._transport.abort)

    # Upgrades.

    def _shake_hands(self, request: Request) -> None:
        """Check a handshake, then ask the API about it or refuse it at once."""
        if self._api.is_closing:
            self._answer(refuse(HTTPStatus.SERVICE_UNAVAILABLE), request)
            return
        if len(self._api.connections) + self._lobby.upgrading >= self._lobby.sockets:
            self._answer(refuse(HTTPStatus.TOO_MANY_REQUESTS), request)
            return
        frames = ServerProtocol(
            extensions=[DEFLATE],
            state=State.OPEN,
            # A first bound on memory; Connection checks the exact sizes, which are those of the text.
            max_size=(None, self._api.limits.frame_bytes + DEFLATE_BYTES),
            logger=frame_log,
        )
        handshake = Handshake(request.target, Headers(request.headers), request.method, f"HTTP/{request.version}")
        try:
            accept, extensions, _ = frames.process_request(handshake)
        except InvalidUpgrade:
            self._answer(refuse(HTTPStatus.UPGRADE_REQUIRED, ("Upgrade", "websocket")), request)
        except InvalidHandshake:
            self._answer(refuse(HTTPStatus.BAD_REQUEST), request)
        else:
            self._early = bytearray()
            self._lobby.leave(self._transport)
            self._lobby.upgrading += 1
            self._api.start(self._upgrade(request, frames, accept, extensions))

    def _keep(self, data: bytes) -> None:
        assert self._early is not None
        self._early += data
        if len(self._early) > self._api.limits.early_bytes:
            self._transport.pause_reading()

    async def _upgrade(self, request: Request, frames: ServerProtocol, accept: str, extensions: str | None) -> None:
        try:
            verdict = await self._api.connect(request, self._source_ip)
        finally:
            self._lobby.upgrading -= 1
        early, self._early = bytes(self._early or b""), None
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        if not verdict.is_accepted:
            self._answer(refuse_handshake(verdict), request)
            return
        headers = [
            ("Connection", "upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Accept", accept),
            *([("Sec-WebSocket-Extensions", extensions)] if extensions else []),
            *([("Sec-WebSocket-Protocol", verdict.subprotocol)] if verdict.subprotocol else []),
        ]
        self._transport.write(Response(HTTPStatus.SWITCHING_PROTOCOLS, headers).to_bytes())
        connection = Connection(verdict.context, frames, self._transport, self._api, self._api.limits)
        self._transport.set_protocol(connection)
        self._api.opened(connection)
        if self._is_writing_paused:
            connection.pause_writing()
        if early:
            connection.data_received(early)


def refuse(status: HTTPStatus, *headers: tuple[str, str]) -> Response:
    """Build a refusal that consists of its status."""
    body = f'{{"message":"{status.phrase}"}}'.encode()
    return Response(status, [("Content-Type", "application/json"), *headers], body)


def refuse_handshake(verdict: Verdict) -> Response:
    """Build the answer to a handshake that $connect has refused: its status, and none of its headers or body."""
    body = to_error(verdict.message, verdict.context.connection_id, verdict.request_id)
    return Response(verdict.status, [("Content-Type", "application/json")], body)
