"""What happens in the gateway, as Server-Sent Events: first the state, then what changes.

Nothing reports to a feed. It polls a few times a second and sends the difference: so it costs nothing while nobody
reads, and a burst costs one event. A slow reader gets fewer events, nothing is kept for it, and in the end it is
disconnected. A reader that reconnects with Last-Event-ID gets no invocation twice.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from itertools import islice
from typing import Any

from localgateway.api.api import Api
from localgateway.api.management import to_iso
from localgateway.runtime.invocations import Invocation
from localgateway.wire.http import Response
from localgateway.wire.websocket import Connection

# How many invocations one event has at most; the next event continues from there.
MAX_INVOCATIONS = 200
MAX_LINE_CHARS = 131_072
# How many running invocations are listed, and from which age on: most end before anybody could read of them.
MAX_RUNNING = 100
RUNNING_MS = 250
# A reader that vanished is noticed only when it is written to.
HEARTBEAT_SECONDS = 15
HEARTBEAT = b":\n\n"
HEADERS = [
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]


class View:
    """What one reader knows; `look` returns what is new to it.

    Attributes:
        number: the last invocation that was sent to it.
    """

    def __init__(self, api: Api, number: int = 0) -> None:
        self.number = number
        self._api = api
        self._marks: dict[str, tuple[int, int, int]] = {}
        self._told: dict[str, Any] = {}

    def look(self) -> dict[str, Any]:
        """Return what has changed, if anything: `connections`, `closed`, `invocations`, and the rest as a whole."""
        changes = {**self._look_at_connections(), "invocations": self._look_at_invocations()}
        whole = {"total": len(self._api.connections), "running": self._running(), "faults": self._faults()}
        changed = {name: value for name, value in whole.items() if self._told.get(name) != value}
        self._told |= changed
        return {name: value for name, value in changes.items() if value} | changed

    def _look_at_connections(self) -> dict[str, Any]:
        newest = islice(reversed(self._api.connections.items()), self._api.limits.feed_connections)
        marks, known, changed = {}, self._marks, []
        for key, connection in newest:
            marks[key] = (connection.last_active_ms, connection.received.messages, connection.sent.messages)
            if known.get(key) != marks[key]:
                changed.append(show_connection(connection))
        self._marks = marks
        return {"connections": changed[::-1], "closed": [key for key in known if key not in marks]}

    def _look_at_invocations(self) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = []
        chars = 0
        for invocation in islice(self._api.invocations.after(self.number), MAX_INVOCATIONS):
            chars += sum(map(len, invocation.lines))
            if shown and chars > MAX_LINE_CHARS:
                break
            shown.append(show_invocation(invocation))
            self.number = invocation.number
        return shown

    def _running(self) -> list[dict[str, Any]]:
        before_ms = time.time_ns() // 1_000_000 - RUNNING_MS
        old = (one for one in self._api.invocations.running.values() if one.started_at_ms <= before_ms)
        return [
            {
                "function": one.function,
                "cause": one.cause,
                "route": one.route,
                "connectionId": one.connection_id,
                "startedAt": to_iso(one.started_at_ms),
            }
            for one in islice(old, MAX_RUNNING)
        ]

    def _faults(self) -> list[dict[str, Any]]:
        return [fault.to_json() for fault in self._api.faults.armed]


class Feed(asyncio.Protocol):
    """Writes to one reader, until it leaves or has not read for too long."""

    def __init__(self, api: Api, about: Mapping[str, Any], number: int, over: Callable[["Feed"], None]) -> None:
        """Prepare to begin.

        Args:
            about: what the first event says about the gateway; its `instance` tells this gateway from another one.
            number: the last invocation that the reader knows.
            over: called when the reader has left.
        """
        self._api = api
        self._about = about
        self._view = View(api, number)
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        """Write the head of the response and the first event on a connection that is this feed's from now on."""
        self._transport = transport
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=self._api.limits.feed_buffer_bytes)
        head = Response(HTTPStatus.OK, HEADERS, body=None).to_bytes(is_last=True)
        transport.write(head + self._to_event({"gateway": dict(self._about), **self._view.look()}))
        self._written_at = self._loop.time()
        self._timer = self._loop.call_later(self._api.limits.feed_seconds, self._tell)

    def data_received(self, data: bytes) -> None:
        """Ignore input: the response never ends, so no request can follow."""
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        for timer in (self._timer, self._patience):
            if timer:
                timer.cancel()
        self._over(self)

    def pause_writing(self) -> None:
        self._patience = self._loop.call_later(self._api.limits.feed_patience_seconds, self._transport.abort)

    def resume_writing(self) -> None:
        if self._patience:
            self._patience.cancel()
        self._patience = None

    def _tell(self) -> None:
        self._timer = self._loop.call_later(self._api.limits.feed_seconds, self._tell)
        if self._patience:
            return
        if changes := self._view.look():
            self._write(self._to_event(changes))
        elif self._loop.time() - self._written_at > HEARTBEAT_SECONDS:
            self._write(HEARTBEAT)

    def _write(self, data: bytes) -> None:
        self._transport.write(data)
        self._written_at = self._loop.time()

    def _to_event(self, changes: Mapping[str, Any]) -> bytes:
        # JSON has no line breaks of its own, so an event is one line of data.
        data = json.dumps({"now": self._api.now_ms(), **changes}, separators=(",", ":"))
        return f"id: {self._about['instance']}-{self._view.number}\ndata: {data}\n\n".encode()


def read_event_id(event_id: str | None, instance: str) -> int:
    """Return the number of the last invocation that a reader knows, 0 if it read another gateway's feed."""
    name, _, number = (event_id or "").rpartition("-")
    return int(number) if name == instance and number.isascii() and number.isdecimal() and len(number) < 16 else 0


def show_connection(connection: Connection) -> dict[str, Any]:
    """Describe a connection as JSON."""
    context = connection.context
    return {
        "id": context.connection_id,
        "connectedAt": to_iso(context.connected_at_ms),
        "lastActiveAt": to_iso(connection.last_active_ms),
        "sourceIp": context.source_ip,
        "userAgent": context.user_agent,
        "received": {"messages": connection.received.messages, "bytes": connection.received.size_bytes},
        "sent": {"messages": connection.sent.messages, "bytes": connection.sent.size_bytes},
    }


def show_invocation(invocation: Invocation) -> dict[str, Any]:
    """Describe an invocation as JSON."""
    row = asdict(invocation)
    return {
        "number": row.pop("number"),
        "startedAt": to_iso(row.pop("started_at_ms")),
        "durationMs": round(row.pop("duration_ms"), 1),
        "connectionId": row.pop("connection_id"),
        **row,
    }
