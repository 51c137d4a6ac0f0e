"""Which requests are served: any web page in a browser on this machine can reach its loopback ports.

Headers that no page can choose tell pages from programs. Host keeps the name of a site that was rebound to 127.0.0.1,
so only names that nobody else can own are served. Origin and Sec-Fetch-Site show that a page of another site sent the
request.
"""

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from localgateway.wire.http import Request

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules of a gateway that listens on an address and may have further names."""

    listens_on: str
    allowed_hosts: frozenset[str] = field(default_factory=frozenset)

    def admits_handshake(self, request: Request) -> bool:
        """Tell whether a handshake is served: from any Origin, as on AWS, where $connect has to check it."""
        return self.admits_host(request.header("host") or "")

    def admits_host(self, header: str) -> bool:
        """Tell whether sockets and REST routes, which serve web pages too, are served under the name in a Host header.

        A gateway that listens beyond loopback cannot know this machine's names, and does not check them.
        """
        return not is_loopback(self.listens_on) or self._is_known(header)

    def admits_call(self, request: Request) -> bool:
        """Tell whether any other request is served: those are for programs, not for web pages."""
        return self._is_known(request.header("host") or "") and not is_of_another_site(request)

    def _is_known(self, header: str) -> bool:
        """Tell whether a request's Host is this machine's; an IP address can be no other site's name."""
        host = read_host(header)
        if host in self.allowed_hosts or host == self.listens_on or is_loopback(host) or is_address(host):
            return True
        log.warning("Refused a request for the host %.100r: --allow-host would admit it.", header)
        return False


def is_of_this_machine(request: Request, source_ip: str) -> bool:
    """Tell whether a program on this machine sent this, or a page that the gateway itself served."""
    is_local = is_loopback(source_ip) and is_loopback(read_host(request.header("host") or ""))
    return is_local and not is_of_another_site(request)


def is_of_another_site(request: Request) -> bool:
    """Tell whether a browser reports that a page from elsewhere sent this; programs send no such headers."""
    origin = request.header("origin")
    if origin is not None and origin.partition("://")[2].lower() != (request.header("host") or "").lower():
        return True
    return request.header("sec-fetch-site") not in (None, "same-origin", "none")


@lru_cache
def read_host(header: str) -> str:
    """Return the name in a Host header without its port, or the empty string if it is malformed."""
    try:
        return (urlsplit(f"//{header}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


@lru_cache
def is_loopback(host: str) -> bool:
    """Tell whether a name or an address always means this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@lru_cache
def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
