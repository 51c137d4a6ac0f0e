"""Amazon API Gateway's WebSocket API on one's own machine, for any AWS Chalice project.

`python -m localgateway` runs a project; `LocalGateway` does the same for tests; `attach` makes `chalice local` serve
WebSockets too.

Architecture invariant: this package knows what API Gateway knows: events, routes and @connections. It imports nothing
of the project it runs and never looks into a frame.
"""

from localgateway.api.routing import Additions
from localgateway.attach import attach
from localgateway.errors import GatewayError
from localgateway.gateway import LocalGateway
from localgateway.limits import Limits

__all__ = ["Additions", "GatewayError", "Limits", "LocalGateway", "attach"]
