"""For the Python that runs functions: resolve names below localhost to this machine (RFC 6761, section 6.3).

MiniStack's APIs have such names, and not every resolver knows the rule.
"""

import socket

_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host, *arguments, **named):
    inside = isinstance(host, str) and host.endswith(".localhost")
    return _getaddrinfo("127.0.0.1" if inside else host, *arguments, **named)


socket.getaddrinfo = getaddrinfo
