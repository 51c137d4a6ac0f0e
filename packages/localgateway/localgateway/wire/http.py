"""HTTP/1.1 as bytes: reads requests and writes responses, without a socket.

httptools (llhttp, the parser of Node.js) does the syntax, so chunked bodies, keep-alive and pipelining are as strict as
elsewhere. What a client can make us hold in memory is counted here, before the parser has seen the end of it.
"""

import time
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NoReturn

import httptools

from localgateway.limits import Limits

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names and values are as sent, in order, and `body` ends at the limit.

    A request to change the protocol (`is_upgrade`) has no body: what follows it is Leftover.
    """

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    is_upgrade: bool
    is_last: bool

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever the case of its name."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request; Date and Content-Length are added when it is written.

    A body of None is written later, until the connection closes.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | None = b""

    def to_bytes(self, *, is_last: bool = False, is_head: bool = False) -> bytes:
        """Write the response, without its body to HEAD; `is_last` says that the connection closes after it."""
        lines = [f"HTTP/1.1 {self.status:d} {phrase(self.status)}", f"Date: {date(int(time.time()))}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.status >= 200 and self.status != HTTPStatus.NO_CONTENT and self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        if is_last:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head if is_head else head + (self.body or b"")


# Many responses share a second.
@lru_cache(maxsize=1)
def date(epoch_seconds: int) -> str:
    return formatdate(epoch_seconds, usegmt=True)


def phrase(status: int) -> str:
    """Return the reason phrase of a status, or the empty string if it has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class Expectation:
    """The client waits for a 100 before it sends the body."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """What follows a request to change the protocol: no longer HTTP, so nothing more is read here."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """Input that is not HTTP or exceeds a limit: answer with `status` and close; nothing more is read."""

    status: HTTPStatus


class RequestReader:
    """Turns the bytes of one TCP connection into requests, in order."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._received: list[Request | Expectation | Leftover | Malformed] = []
        self._refusal = HTTPStatus.BAD_REQUEST
        self._is_head_open = False
        self._is_same_head = False

    def feed(self, data: bytes) -> list[Request | Expectation | Leftover | Malformed]:
        """Parse more bytes and return what is complete now."""
        self._is_same_head = self._is_head_open
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._received.append(Leftover(data[upgrade.args[0] :]))
        except httptools.HttpParserError:
            self._received.append(Malformed(self._refusal))
        if self._is_same_head and self._is_head_open:
            # The parser buffers an unfinished header line silently, so count what goes in.
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.url_chars + self._limits.header_bytes:
                self._received.append(Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        received, self._received = self._received, []
        return received

    # Called by httptools; an exception raised here ends feed_data() with HttpParserError.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._header_bytes = 0
        self._body = bytearray()
        self._head_bytes = 0
        self._is_head_open = True
        self._is_same_head = False
        self._is_expecting = False

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self._limits.url_chars:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1").rstrip(" \t")))
        self._header_bytes += len(name) + len(value)
        if len(self._headers) > self._limits.header_count or self._header_bytes > self._limits.header_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if name.lower() == b"expect" and value.lower() == b"100-continue":
            self._is_expecting = True

    def on_headers_complete(self) -> None:
        self._is_head_open = False
        if self._is_expecting:
            self._received.append(Expectation())

    def on_body(self, body: bytes) -> None:
        # One byte past the limit shows that it was too large; the rest is discarded.
        room = self._limits.message_bytes + 1 - len(self._body)
        self._body += body[:room]

    def on_message_complete(self) -> None:
        self._received.append(
            Request(
                method=self._parser.get_method().decode("latin-1"),
                target=self._target.decode("latin-1"),
                version=self._parser.get_http_version(),
                headers=self._headers,
                body=bytes(self._body),
                is_upgrade=self._parser.should_upgrade(),
                is_last=not self._parser.should_keep_alive(),
            )
        )

    def _refuse(self, status: HTTPStatus) -> NoReturn:
        self._refusal = status
        raise ValueError(status)
