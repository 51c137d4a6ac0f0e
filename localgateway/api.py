"""One WebSocket API of API Gateway: what becomes of a handshake, a message and the end of a connection.

It knows routes, functions and open connections, and turns what happens into events and results into answers. It never
looks into a message: which route a message takes is all that API Gateway decides.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from localgateway import lambda_events
from localgateway.connection import GOING_AWAY, Connection
from localgateway.http1 import Request, phrase
from localgateway.invoke import Invoker, Result
from localgateway.lambda_events import ConnectionContext, Event
from localgateway.limits import Limits
from localgateway.project import Function

log = logging.getLogger(__name__)

# The texts of API Gateway's own answers.
FORBIDDEN = "Forbidden"
FAILED = "Internal server error"
TIMED_OUT = "Endpoint request timed out"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the upgrade is answered with: 101 where `is_accepted`, else `status` and `message`."""

    context: ConnectionContext
    request_id: str
    status: int
    message: str = ""
    subprotocol: str | None = None

    @property
    def is_accepted(self) -> bool:
        return 200 <= self.status < 300


class IntegrationFailure(Exception):
    """A function has failed, or has returned what API Gateway cannot use."""


class Api:
    """A deployed WebSocket API. Lives on one event loop; nothing here is called from another thread."""

    def __init__(
        self,
        *,
        routes: Mapping[str, Function],
        stage: str,
        api_id: str,
        address: str,
        is_secure: bool = False,
        invoker: Invoker,
        limits: Limits,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.stage = stage
        self.limits = limits
        self.connections: dict[str, Connection] = {}
        self.is_closing = False
        self._routes = routes
        self._api_id = api_id
        self._domain_name = address
        self._scheme = "https" if is_secure else "http"
        self._invoker = invoker
        self._clock_ms = clock_ms
        self._random_bytes = random_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    def deploy(self, routes: Mapping[str, Function]) -> None:
        """Run these functions from now on. Connections stay open, as they do on AWS."""
        self._routes = routes

    async def connect(self, request: Request, source_ip: str) -> Verdict:
        """Ask the $connect function, if there is one, whether a client may come in.

        The id it is asked about belongs to no connection yet: until `opened`, sending to it finds nobody.
        """
        now_ms = self._clock_ms()
        context = ConnectionContext(
            connection_id=self._new_id(),
            connected_at_ms=now_ms,
            api_id=self._api_id,
            stage=self.stage,
            domain_name=self._domain_name,
            source_ip=source_ip,
            user_agent=request.header("user-agent"),
        )
        request_id = self._new_id()
        function = self._routes.get("$connect")
        if function is None:
            return Verdict(context, request_id, HTTPStatus.OK)
        event = lambda_events.connect_event(
            context,
            headers=self._received_headers(request, source_ip, now_ms),
            query=request.query,
            request_id=request_id,
            now_ms=now_ms,
        )
        try:
            result = await self._invoke("$connect", function, event)
            status = read_status(result)
            return Verdict(context, request_id, status, phrase(status), read_subprotocol(result.payload))
        except TimeoutError:
            return Verdict(context, request_id, HTTPStatus.GATEWAY_TIMEOUT, TIMED_OUT)
        except IntegrationFailure:
            return Verdict(context, request_id, HTTPStatus.BAD_GATEWAY, FAILED)

    def opened(self, connection: Connection) -> None:
        """Let a connection be found; called when its 101 has been written."""
        self.connections[connection.context.connection_id] = connection

    def message(self, connection: Connection, text: str) -> asyncio.Task[None]:
        """Start the function that a message is for, beside those of all messages before it."""
        return self.start(self._message(connection, text))

    def ended(self, connection: Connection, code: int, reason: str) -> None:
        """Forget a connection, then tell the $disconnect function; nobody waits for what that makes of it."""
        self.connections.pop(connection.context.connection_id, None)
        function = self._routes.get("$disconnect")
        if function is None:
            return
        event = lambda_events.disconnect_event(
            connection.context, code=code, reason=reason, request_id=self._new_id(), now_ms=self._clock_ms()
        )
        self.start(self._disconnect(function, event))

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside everything else; what is started here is waited for when the API closes."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def close(self) -> None:
        """Close every connection as a server does that goes away; their $disconnect functions get a moment."""
        self.is_closing = True
        for connection in list(self.connections.values()):
            connection.close(*GOING_AWAY)
        await self._settle()

    async def reset(self) -> None:
        """Cut every connection without a $disconnect; functions still at work get a moment to end."""
        self._drop_connections()
        await self._settle()
        # A handshake that was on its way has opened one meanwhile.
        self._drop_connections()

    async def _message(self, connection: Connection, text: str) -> None:
        request_id = self._new_id()
        route_key = select_route(self._routes, text)
        if route_key is None:
            send_error(connection, FORBIDDEN, request_id)
            return
        event = lambda_events.message_event(
            connection.context,
            route_key=route_key,
            body=text,
            message_id=self._new_id(),
            request_id=request_id,
            now_ms=self._clock_ms(),
        )
        try:
            read_status(await self._invoke(route_key, self._routes[route_key], event))
        except TimeoutError:
            send_error(connection, TIMED_OUT, request_id)
        except IntegrationFailure:
            send_error(connection, FAILED, request_id)

    async def _disconnect(self, function: Function, event: Event) -> None:
        with suppress(TimeoutError):
            await self._invoke("$disconnect", function, event)

    async def _invoke(self, route_key: str, function: Function, event: Event) -> Result:
        """Run a function and log it in a line that holds nothing of what the client sent.

        Raises:
            TimeoutError: if the integration timeout passes first; the function goes on, as it does on Lambda.
        """
        started_at = time.monotonic()
        outcome = "timed out"
        try:
            result = await asyncio.wait_for(self._invoker.invoke(function, event), self.limits.integration_seconds)
            outcome = describe(result)
            return result
        finally:
            connection_id = event["requestContext"]["connectionId"]
            duration_ms = (time.monotonic() - started_at) * 1000
            log.info("%s %s %s %s %.0f ms", route_key, function.name, connection_id, outcome, duration_ms)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("An error of the gateway itself", exc_info=task.exception())

    def _drop_connections(self) -> None:
        for connection in self.connections.values():
            connection.drop()
        self.connections.clear()

    async def _settle(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.limits.stop_seconds)

    def _new_id(self) -> str:
        return lambda_events.to_id(self._random_bytes(lambda_events.ID_BYTES))

    def _received_headers(self, request: Request, source_ip: str, now_ms: int) -> list[tuple[str, str]]:
        """Return the headers as they arrive behind AWS's front: the client's, and where it came from."""
        hops = [value for name, value in request.headers if name.lower() == "x-forwarded-for"]
        added = [
            ("X-Amzn-Trace-Id", lambda_events.to_trace_header(now_ms, self._random_bytes(12))),
            ("X-Forwarded-For", ", ".join([*hops, source_ip])),
            ("X-Forwarded-Port", self._domain_name.rpartition(":")[2]),
            ("X-Forwarded-Proto", self._scheme),
        ]
        names = {name.lower() for name, _ in added}
        return [header for header in request.headers if header[0].lower() not in names] + added


def select_route(routes: Mapping[str, Function], text: str) -> str | None:
    """Return the key of the route that a message takes; without one, nobody is there for it.

    Chalice makes the API with the expression `$request.body.action` but never a route that it could choose, so every
    message takes $default, whatever it says.
    """
    return "$default" if "$default" in routes else None


def send_error(connection: Connection, message: str, request_id: str) -> None:
    """Send API Gateway's own error frame; that the connection is over by now is no error."""
    if connection.is_open:
        connection.send(to_error(message, connection.context.connection_id, request_id))


def to_error(message: str, connection_id: str, request_id: str) -> bytes:
    """Write API Gateway's error JSON, byte for byte as AWS spaces it."""
    return (f'{{"message": "{message}", "connectionId":"{connection_id}", "requestId":"{request_id}"}}').encode()


def read_status(result: Result) -> int:
    """Return the status code of a Lambda proxy result.

    Raises:
        IntegrationFailure: if there is none, or none that could end a request.
    """
    status = result.payload.get("statusCode") if isinstance(result.payload, dict) else None
    if isinstance(status, str) and status.isdecimal():
        status = int(status)
    if result.outcome != "ok" or not isinstance(status, int) or not 200 <= status <= 599:
        raise IntegrationFailure
    return status


def read_subprotocol(payload: Mapping[str, Any]) -> str | None:
    """Return the one header of a $connect result that reaches the client: Sec-WebSocket-Protocol.

    Raises:
        IntegrationFailure: if it could not stand in an HTTP response.
    """
    for headers in (payload.get("multiValueHeaders"), payload.get("headers")):
        if headers is not None and not isinstance(headers, dict):
            raise IntegrationFailure
        for name, value in (headers or {}).items():
            if name.lower() == "sec-websocket-protocol":
                text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                if not text.isascii() or not text.isprintable():
                    raise IntegrationFailure
                return text
    return None


def describe(result: Result) -> str:
    """Say for the log how an invocation ended: with which status, or why with none."""
    try:
        return str(read_status(result))
    except IntegrationFailure:
        return "malformed result" if result.outcome == "ok" else result.outcome
