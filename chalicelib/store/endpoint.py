"""The management endpoint: the URL that any Lambda POSTs to, never the wss:// URL that clients dial.

Learnt from the $connect event, kept in memory, stored in the table; a Lambda that never sees a socket (REST, queue,
schedule) reads it from there. APIGW_MANAGEMENT_ENDPOINT overrides all of it.
"""

import re
from typing import Final

from chalicelib.errors import ConfigurationError
from chalicelib.protocol.events import ConnectEvent
from chalicelib.store import keys
from chalicelib.store.table import Table

_EXAMPLE: Final = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api"
_HAS_PORT: Final = re.compile(r":\d+$")


class Endpoint:
    """The management endpoint of one API.

    Args:
        rows: the table that keeps it for the Lambdas that never see a socket.
        override: the endpoint that replaces whatever is learnt, or None.
        region: the AWS Region this Lambda runs in, if known.
    """

    def __init__(self, rows: Table, override: str | None, region: str | None) -> None:
        self._rows = rows
        self._region = region
        self._override = override
        self._learnt: str | None = None

    def learn(self, event: ConnectEvent) -> str:
        """Return the endpoint of the event's API and make it known to every Lambda.

        Writes the table once per Lambda instance and endpoint, not per connection.
        """
        endpoint = self._override or management_endpoint(event, self._region)
        if endpoint != self._learnt:
            self._rows.put({**keys.endpoint_key(), "managementEndpoint": endpoint})
            self._learnt = endpoint
        return endpoint

    def resolve(self) -> str:
        """Return the endpoint: the override, otherwise what this instance learnt, otherwise what the table holds.

        Raises ConfigurationError: it is not known yet.
        """
        if self._override:
            return self._override
        if self._learnt is None:
            row = self._rows.get(keys.endpoint_key())
            stored = row.get("managementEndpoint") if row else None
            if not isinstance(stored, str):
                raise ConfigurationError(
                    "APIGW_MANAGEMENT_ENDPOINT",
                    "is not set and no client has connected yet, so nobody knows where the sockets are: "
                    "connect once or set it",
                    _EXAMPLE,
                )
            self._learnt = stored
        return self._learnt


def management_endpoint(event: ConnectEvent, region: str | None) -> str:
    """Return the endpoint of the API that the client connected to.

    A custom domain does not serve @connections under its stage, so there the API's own name is used. A domain name with
    a port is not AWS but a local gateway, which serves the endpoint over the client's scheme; a header is believed
    nowhere else.
    """
    context = event.context
    scheme, domain = "https", context.domain_name
    if _HAS_PORT.search(domain):
        scheme = "http" if event.headers.get("x-forwarded-proto") == "http" else "https"
    elif region and context.api_id and not domain.startswith(f"{context.api_id}."):
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        domain = f"{context.api_id}.execute-api.{region}.{suffix}"
    return f"{scheme}://{domain}/{context.stage}"
