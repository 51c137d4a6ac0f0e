"""Whose requests are served at all: every page that a browser on this machine shows can reach its loopback ports.

Two headers that no page can choose tell it from a program. Host still has the name of a site that has been rebound to
127.0.0.1, so only names that nobody else can own are served. Origin and Sec-Fetch-Site say that a page of another site
has sent the request.
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
    """The rules of a gateway that listens on an address and may be called by some names more."""

    listens_on: str
    allowed_hosts: frozenset[str] = field(default_factory=frozenset)

    def admits_handshake(self, request: Request) -> bool:
        """Tell whether a client may ask for a WebSocket: from any Origin, as on AWS, where $connect is to judge it.

        Beyond loopback this machine's names are not known, and whoever is near can connect without a browser's help.
        """
        return not is_loopback(self.listens_on) or self._is_known(request)

    def admits_call(self, request: Request) -> bool:
        """Tell whether a request of any other kind is served: those are for programs and for nobody's pages."""
        return self._is_known(request) and not is_of_another_site(request)

    def _is_known(self, request: Request) -> bool:
        """Tell whether the request is for a name that is this machine's; an address is nobody else's name."""
        header = request.header("host") or ""
        host = read_host(header)
        if host in self.allowed_hosts or host == self.listens_on or is_loopback(host) or is_address(host):
            return True
        log.warning("Refused a request for the host %.100r: --allow-host would let it in.", header)
        return False


def is_of_this_machine(request: Request, source_ip: str) -> bool:
    """Tell whether a program on this machine has sent this, or a page that the gateway itself has served."""
    is_local = is_loopback(source_ip) and is_loopback(read_host(request.header("host") or ""))
    return is_local and not is_of_another_site(request)


def is_of_another_site(request: Request) -> bool:
    """Tell whether a browser says that a page from elsewhere has sent this; a program says nothing of the kind."""
    origin = request.header("origin")
    if origin is not None and origin.partition("://")[2].lower() != (request.header("host") or "").lower():
        return True
    return request.header("sec-fetch-site") not in (None, "same-origin", "none")


@lru_cache
def read_host(header: str) -> str:
    """Return the name in a Host header, without its port; of one that is none, the empty string."""
    try:
        return (urlsplit(f"//{header}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


@lru_cache
def is_loopback(host: str) -> bool:
    """Tell whether a name or an address means this machine and nothing else."""
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
