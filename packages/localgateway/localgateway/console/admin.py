"""Calls about the gateway itself, under /_localgateway/: for programs on this machine only.

AWS has nothing like it, so no application may rely on it; it is for the console and for scripts.
"""

import asyncio
import json
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

from websockets.exceptions import ProtocolError
from websockets.frames import Close, CloseCode

from localgateway.api.api import Api
from localgateway.aws.tables import MAX_ROWS, Tables, Unreadable
from localgateway.console.feed import Feed, read_event_id, show_connection, show_invocation
from localgateway.contract.project import Project
from localgateway.faults import KINDS, BadFault, Fault, read_fault
from localgateway.wire.admission import is_of_this_machine
from localgateway.wire.http import Request, Response

PREFIX = "/_localgateway/"
ROWS = 50

Later = Coroutine[Any, Any, Response]


class BadCall(ValueError):
    """A call cannot be answered; the message is a sentence for the caller."""


class Admin:
    """Answers the calls about one gateway. Lives on its event loop."""

    def __init__(self, api: Api, tables: Tables, project: Callable[[], Project]) -> None:
        """Prepare to answer for an API; `project` returns what it serves, which a deployment changes."""
        self._api = api
        self._tables = tables
        self._project = project
        # Tells this gateway's invocations from an earlier gateway's, which had the same numbers.
        self._instance = secrets.token_hex(4)
        self._feeds: set[Feed] = set()
        # A name that ends with a slash takes an argument after it.
        self._resources: Mapping[str, Mapping[str, Callable[[Request, str], Response | Feed | Later]]] = {
            "faults": {"GET": self._list_faults, "POST": self._arm_fault, "DELETE": self._disarm},
            "connections": {"GET": self._list_connections},
            "connections/": {"DELETE": self._close_connection},
            "invocations": {"GET": self._list_invocations},
            "tables": {"GET": self._list_tables},
            "tables/": {"GET": self._read_table},
            "feed": {"GET": self._open_feed},
        }

    def handle(self, request: Request, source_ip: str) -> Response | Feed | Later:
        """Answer one call: at once, later, or for as long as the caller reads.

        Refuses other machines, and pages other than this gateway's own.
        """
        if not is_of_this_machine(request, source_ip):
            return say(HTTPStatus.FORBIDDEN, "Only programs on this machine may call this.")
        name, slash, target = request.path.removeprefix(PREFIX).partition("/")
        methods = self._resources.get(name + slash)
        if methods is None:
            return say(HTTPStatus.NOT_FOUND, f"There are {', '.join(PREFIX + name for name in self._resources)}.")
        if request.method not in methods:
            return say(HTTPStatus.METHOD_NOT_ALLOWED, f"Use {', '.join(methods)}.")
        try:
            return methods[request.method](request, unquote(target))
        except (BadCall, BadFault) as error:
            return say(HTTPStatus.BAD_REQUEST, str(error))

    # Faults.

    def _list_faults(self, request: Request, target: str) -> Response:
        return respond({"faults": [fault.to_json() for fault in self._api.faults.armed]})

    def _arm_fault(self, request: Request, target: str) -> Response:
        self._api.faults.arm(read_body(request))
        return self._list_faults(request, target)

    def _disarm(self, request: Request, target: str) -> Response:
        """Disarm what a POST of the same body armed; everything, if there is no body."""
        if request.body:
            fault = read_body(request)
            self._api.faults.disarm(fault.name, fault.target)
        else:
            self._api.faults.clear()
        return self._list_faults(request, target)

    # Connections.

    def _list_connections(self, request: Request, target: str) -> Response:
        return respond({"connections": [show_connection(one) for one in self._api.connections.values()]})

    def _close_connection(self, request: Request, target: str) -> Response:
        """Close a connection from the server's side with any code; 1006 cuts it."""
        query = dict(parse_qsl(request.query))
        code = read_close_code(query.get("code", "1000"))
        reason = query.get("reason", "")
        if len(reason.encode()) > 123:
            raise BadCall("reason has at most 123 bytes.")
        connection = self._api.connections.get(target)
        if connection is None:
            return say(HTTPStatus.NOT_FOUND, "There is no such connection.")
        if code == CloseCode.ABNORMAL_CLOSURE:
            connection.cut()
        else:
            connection.close(code, reason)
        return respond({"closed": target})

    # What has run.

    def _list_invocations(self, request: Request, target: str) -> Response:
        return respond({"invocations": [show_invocation(one) for one in self._api.invocations.ended]})

    # Tables.

    def _list_tables(self, request: Request, target: str) -> Response:
        return respond({"tables": list(self._tables.keys)})

    def _read_table(self, request: Request, target: str) -> Response | Later:
        if target not in self._tables.keys:
            return say(HTTPStatus.NOT_FOUND, "resources.json has no such table.")
        query = dict(parse_qsl(request.query))
        limit = query.get("limit", str(ROWS))
        if not (limit.isascii() and limit.isdecimal() and len(limit) < 4 and 1 <= int(limit) <= MAX_ROWS):
            raise BadCall(f"limit is a number from 1 to {MAX_ROWS}.")

        async def read() -> Response:
            try:
                return respond(await asyncio.to_thread(self._tables.read, target, int(limit), query.get("after")))
            except Unreadable as error:
                return say(HTTPStatus.BAD_GATEWAY, str(error))

        return read()

    # The feed.

    def _open_feed(self, request: Request, target: str) -> Response | Feed:
        if len(self._feeds) >= self._api.limits.feeds:
            return say(HTTPStatus.SERVICE_UNAVAILABLE, f"There are {len(self._feeds)} readers already; close one.")
        project = self._project()
        about = {
            "instance": self._instance,
            "project": project.name,
            "path": f"/{self._api.stage}",
            "functions": list(project.functions),
            "routes": list(project.routes),
            "faults": {name: asdict(kind) for name, kind in KINDS.items()},
            "tables": list(self._tables.keys),
            "shownConnections": self._api.limits.feed_connections,
        }
        # A browser's EventSource sends the header only when it reconnects by itself.
        position = request.header("last-event-id") or dict(parse_qsl(request.query)).get("after")
        number = read_event_id(position, self._instance)
        feed = Feed(self._api, about, number, self._feeds.discard)
        self._feeds.add(feed)
        return feed


def read_body(request: Request) -> Fault:
    """Read a fault from a body.

    Raises:
        BadFault: if it is not a fault.
        BadCall: if it is not JSON.
    """
    try:
        value = json.loads(request.body)
    except ValueError:
        raise BadCall("The body is not JSON.") from None
    return read_fault(value)


def read_close_code(text: str) -> int:
    """Read a code that a close frame may carry, or 1006, which stands for no close frame.

    Raises:
        BadCall: if it is neither.
    """
    code = int(text) if text.isascii() and text.isdecimal() and len(text) == 4 else 0
    if code != CloseCode.ABNORMAL_CLOSURE:
        try:
            Close(code, "").check()
        except ProtocolError:
            raise BadCall(
                "code is one that a close frame may carry, such as 1000 or 4000, or 1006 to cut it."
            ) from None
    return code


def say(status: HTTPStatus, sentence: str) -> Response:
    return respond({"message": sentence}, status)


def respond(body: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(status, [("Content-Type", "application/json")], json.dumps(body, separators=(",", ":")).encode())
