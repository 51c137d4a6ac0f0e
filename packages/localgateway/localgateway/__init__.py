"""Amazon API Gateway's WebSocket API on your own machine, for any AWS Chalice project.

`localgateway` runs a project; `LocalGateway` does the same for tests; `attach` makes `chalice local` serve WebSockets
too.

Architecture invariant: this package knows what API Gateway knows: events, routes and @connections. It imports nothing
of the project it runs and never looks into a frame. Its names are imported when they are first used, so that importing
the package costs nothing to a pytest that has it installed, and to the processes that run functions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localgateway.api.routing import Additions
    from localgateway.attach import attach
    from localgateway.errors import GatewayError
    from localgateway.gateway import LocalGateway
    from localgateway.limits import Limits

__all__ = ["Additions", "GatewayError", "Limits", "LocalGateway", "attach"]

HOMES = {
    "Additions": "localgateway.api.routing",
    "GatewayError": "localgateway.errors",
    "Limits": "localgateway.limits",
    "LocalGateway": "localgateway.gateway",
    "attach": "localgateway.attach",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(HOMES[name]), name)
    # `attach` is also the name of its module, which the import has just put here.
    globals()[name] = value
    return value
