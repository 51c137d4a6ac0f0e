"""What can be asked and told about the gateway itself, under /_localgateway/: for programs on this machine only.

AWS has nothing of the kind, so no application may lean on it; it is for consoles, scripts and the curious.
"""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from localgateway.admission import is_loopback, is_of_another_site, read_host
from localgateway.api import Api
from localgateway.faults import BadFault, read_fault
from localgateway.http1 import Request, Response
from localgateway.management import to_iso

PREFIX = "/_localgateway/"

Answer = tuple[HTTPStatus, Any]


def handle(api: Api, request: Request, source_ip: str) -> Response:
    """Answer one call; whoever is not on this machine, and every page that is not this gateway's, is refused."""
    is_local = is_loopback(source_ip) and is_loopback(read_host(request.header("host") or ""))
    if not is_local or is_of_another_site(request):
        return respond(HTTPStatus.FORBIDDEN, {"message": "Only programs on this machine may call this."})
    methods = RESOURCES.get(request.path.removeprefix(PREFIX))
    if methods is None:
        return respond(
            HTTPStatus.NOT_FOUND, {"message": f"There are {', '.join(PREFIX + name for name in RESOURCES)}."}
        )
    if request.method not in methods:
        return respond(HTTPStatus.METHOD_NOT_ALLOWED, {"message": f"Use {', '.join(methods)}."})
    return respond(*methods[request.method](api, request))


def list_faults(api: Api, request: Request) -> Answer:
    return HTTPStatus.OK, {"faults": [fault.to_json() for fault in api.faults.armed]}


def arm_fault(api: Api, request: Request) -> Answer:
    try:
        api.faults.arm(read_fault(json.loads(request.body)))
    except BadFault as error:
        return HTTPStatus.BAD_REQUEST, {"message": str(error)}
    except ValueError:
        return HTTPStatus.BAD_REQUEST, {"message": "The body is no JSON."}
    return list_faults(api, request)


def clear_faults(api: Api, request: Request) -> Answer:
    api.faults.clear()
    return list_faults(api, request)


def list_connections(api: Api, request: Request) -> Answer:
    connections = [
        {
            "id": connection.context.connection_id,
            "connectedAt": to_iso(connection.context.connected_at_ms),
            "lastActiveAt": to_iso(connection.last_active_ms),
            "sourceIp": connection.context.source_ip,
            "userAgent": connection.context.user_agent,
        }
        for connection in api.connections.values()
    ]
    return HTTPStatus.OK, {"connections": connections}


RESOURCES: dict[str, dict[str, Callable[[Api, Request], Answer]]] = {
    "faults": {"GET": list_faults, "POST": arm_fault, "DELETE": clear_faults},
    "connections": {"GET": list_connections},
}


def respond(status: HTTPStatus, body: Any) -> Response:
    return Response(status, [("Content-Type", "application/json")], json.dumps(body, separators=(",", ":")).encode())
