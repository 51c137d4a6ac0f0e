"""One WebSocket API of API Gateway: what becomes of a handshake, a message and the end of a connection.

It knows routes, functions and open connections, and turns what happens into events, and results into answers. It never
looks into a message: `routing` says which route a message takes.
"""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from localgateway.api.authorizer import Authorizer, judge
from localgateway.api.routing import Routing
from localgateway.aws.template import ACCOUNT_ID
from localgateway.contract import events
from localgateway.contract.events import ConnectionContext, Event
from localgateway.contract.invoke import Result
from localgateway.contract.project import Function
from localgateway.contract.results import IntegrationFailure, describe, read_body, read_status, read_subprotocol
from localgateway.faults import Faults
from localgateway.limits import Limits
from localgateway.runtime.invocations import Invocations
from localgateway.wire.http import Request, phrase
from localgateway.wire.websocket import GOING_AWAY, Connection

log = logging.getLogger(__name__)

# The texts of API Gateway's own answers.
FORBIDDEN = "Forbidden"
FAILED = "Internal server error"
TIMED_OUT = "Endpoint request timed out"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a handshake: 101 where `is_accepted`, else `status` and `message`."""

    context: ConnectionContext
    request_id: str
    status: int
    message: str = ""
    subprotocol: str | None = None

    @property
    def is_accepted(self) -> bool:
        return 200 <= self.status < 300


class Api:
    """A deployed WebSocket API. Lives on one event loop; nothing here is called from another thread."""

    def __init__(
        self,
        *,
        routing: Routing,
        stage: str,
        api_id: str,
        address: str,
        is_secure: bool = False,
        invocations: Invocations,
        limits: Limits,
        faults: Faults,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.stage = stage
        self.limits = limits
        self.faults = faults
        self.invocations = invocations
        self.connections: dict[str, Connection] = {}
        self.is_closing = False
        self._routing = routing
        self._api_id = api_id
        self._domain_name = address
        self._scheme = "https" if is_secure else "http"
        self._clock_ms = clock_ms
        # How far `advance` has moved this API's clocks ahead of the real ones.
        self._ahead_seconds = 0.0
        self._random_bytes = random_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    def deploy(self, routing: Routing) -> None:
        """Run these functions from now on. Connections stay open, as they do on AWS."""
        self._routing = routing

    async def connect(self, request: Request, source_ip: str) -> Verdict:
        """Ask the authorizer and the $connect function, where there are any, whether to admit a client.

        The connection's id is not in use yet: until `opened`, sending to it is answered 410.
        """
        now_ms = self.now_ms()
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
        headers = self._received_headers(request, source_ip, now_ms)
        if authorizer := self._routing.authorizer:
            verdict = await self._authorize(authorizer, Verdict(context, request_id, HTTPStatus.OK), request, headers)
            if not verdict.is_accepted:
                return verdict
            context = verdict.context
        function = self._routing.routes.get("$connect")
        if function is None:
            return Verdict(context, request_id, HTTPStatus.OK)
        event = events.connect_event(
            context, headers=headers, query=request.query, request_id=request_id, now_ms=now_ms
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
        """Register a connection; called when its 101 has been written."""
        self.connections[connection.context.connection_id] = connection

    def message(self, connection: Connection, text: str) -> asyncio.Task[None]:
        """Start the function that a message is for, beside those of all messages before it."""
        return self.start(self._message(connection, text))

    def ended(self, connection: Connection, code: int, reason: str) -> None:
        """Forget a connection and start its $disconnect function, without waiting for it."""
        self.connections.pop(connection.context.connection_id, None)
        function = self._routing.routes.get("$disconnect")
        if function is None or self.faults.take("lose-disconnect", connection.context.connection_id):
            return
        event = events.disconnect_event(
            connection.context, code=code, reason=reason, request_id=self._new_id(), now_ms=self.now_ms()
        )
        self.start(self._disconnect(function, event))

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in the background; closing the API waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def close(self) -> None:
        """Close every connection with 1001; their $disconnect functions get `stop_seconds`."""
        self.is_closing = True
        for connection in list(self.connections.values()):
            connection.close(*GOING_AWAY)
        await self._settle()

    async def reset(self) -> None:
        """Give running functions a moment to end, then cut every connection without a $disconnect. Disarms all faults,
        resets the clocks and forgets past invocations.
        """
        self.faults.clear()
        self.invocations.forget()
        await self._settle()
        self._drop_connections()
        await self._settle()
        # A handshake in progress may have opened one meanwhile.
        self._drop_connections()
        self.invocations.forget()
        self._ahead_seconds = 0

    def time(self) -> float:
        """Return the time that connections' clocks use, in seconds since an arbitrary moment."""
        return time.monotonic() + self._ahead_seconds

    def now_ms(self) -> int:
        """Return the time that events carry, in epoch milliseconds."""
        return self._clock_ms() + round(self._ahead_seconds * 1000)

    def advance(self, seconds: float) -> None:
        """Move time forward at once: connections whose time is up close, and events carry later times."""
        self._ahead_seconds += seconds
        for connection in list(self.connections.values()):
            connection.check_clocks()

    async def quiet(self) -> None:
        """Wait until no function runs, including those that nobody waits for."""
        while work := [*self._tasks, *self.invocations.running]:
            await asyncio.wait(work)

    async def _authorize(
        self, authorizer: Authorizer, verdict: Verdict, request: Request, headers: list[tuple[str, str]]
    ) -> Verdict:
        """Return the verdict with what the authorizer adds to it, or a refusal."""
        if not authorizer.can_be_asked_about(request):
            return replace(verdict, status=HTTPStatus.UNAUTHORIZED, message=HTTPStatus.UNAUTHORIZED.phrase)
        context = verdict.context
        arn = events.to_method_arn(context, region=os.environ["AWS_REGION"], account_id=ACCOUNT_ID)
        event = events.authorizer_event(
            context,
            arn=arn,
            headers=headers,
            query=request.query,
            request_id=verdict.request_id,
            now_ms=context.connected_at_ms,
        )
        try:
            result = await self._invoke("authorizer", authorizer.function, event, lambda result: result.outcome)
        except TimeoutError:
            result = Result("timeout")
        status, carried = judge(result, arn, self.limits.authorizer_result_bytes)
        if status != HTTPStatus.OK:
            log.info("authorizer refuses %s with %d", context.connection_id, status)
            is_failure = status == HTTPStatus.INTERNAL_SERVER_ERROR
            return replace(verdict, status=status, message=FAILED if is_failure else phrase(status))
        return replace(verdict, context=replace(context, authorizer=carried))

    async def _message(self, connection: Connection, text: str) -> None:
        request_id = self._new_id()
        routing = self._routing
        route_key = routing.select(text)
        if route_key is None:
            send_error(connection, FORBIDDEN, request_id)
            return
        event = events.message_event(
            connection.context,
            route_key=route_key,
            body=text,
            message_id=self._new_id(),
            request_id=request_id,
            now_ms=self.now_ms(),
        )
        try:
            result = await self._invoke(route_key, routing.routes[route_key], event)
            read_status(result)
            if route_key in routing.route_responses:
                body = read_body(result.payload, self.limits.message_bytes)
                if body is not None and connection.is_open:
                    connection.send(body)
        except TimeoutError:
            send_error(connection, TIMED_OUT, request_id)
        except IntegrationFailure:
            send_error(connection, FAILED, request_id)

    async def _disconnect(self, function: Function, event: Event) -> None:
        with suppress(TimeoutError):
            await self._invoke("$disconnect", function, event)

    async def _invoke(
        self, cause: str, function: Function, event: Event, say: Callable[[Result], str] = describe
    ) -> Result:
        """Run a function and log a line about it, without anything that the client sent.

        Raises:
            TimeoutError: if the integration timeout passes first; the function continues, as on Lambda.
        """
        started_at = time.monotonic()
        outcome = "timed out"
        try:
            result = await asyncio.wait_for(self.invocations.invoke(function, event), self.limits.integration_seconds)
            outcome = say(result)
            return result
        finally:
            connection_id = event["requestContext"]["connectionId"]
            duration_ms = (time.monotonic() - started_at) * 1000
            log.info("%s %s %s %s %.0f ms", cause, function.name, connection_id, outcome, duration_ms)

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
        return events.to_id(self._random_bytes(events.ID_BYTES))

    def _received_headers(self, request: Request, source_ip: str, now_ms: int) -> list[tuple[str, str]]:
        """Return the headers as they arrive on AWS: the client's, and where it came from."""
        hops = [value for name, value in request.headers if name.lower() == "x-forwarded-for"]
        added = [
            ("X-Amzn-Trace-Id", events.to_trace_header(now_ms, self._random_bytes(12))),
            ("X-Forwarded-For", ", ".join([*hops, source_ip])),
            ("X-Forwarded-Port", self._domain_name.rpartition(":")[2]),
            ("X-Forwarded-Proto", self._scheme),
        ]
        names = {name.lower() for name, _ in added}
        return [header for header in request.headers if header[0].lower() not in names] + added


def send_error(connection: Connection, message: str, request_id: str) -> None:
    """Send API Gateway's own error frame, if the connection is still open."""
    if connection.is_open:
        connection.send(to_error(message, connection.context.connection_id, request_id))


def to_error(message: str, connection_id: str, request_id: str) -> bytes:
    """Write API Gateway's error JSON, byte for byte as AWS spaces it."""
    return (f'{{"message": "{message}", "connectionId":"{connection_id}", "requestId":"{request_id}"}}').encode()
