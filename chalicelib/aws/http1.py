"""The response to an HTTP/1.1 request, read from the bytes of a socket. Pure.

Invariants: no more is kept than the limits below; what is not a response raises BadResponse; a connection that is not
surely at the end of its response is not used again, so no response is ever taken for another request's.

Source: RFC 9112, sections 2 to 7.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

# API Gateway's heads have some 400 bytes; GetConnection's body, the largest of @connections, some 200.
MAX_HEAD_BYTES: Final = 16_384
MAX_BODY_BYTES: Final = 65_536
_STATUS_LINE: Final = re.compile(rb"http/1\.([01]) ([1-5]\d\d)(?: [^\r\n]*)?(?=\r\n|\Z)")
_DECIMAL: Final = re.compile(rb"\d{1,9}")
_HEXADECIMAL: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")


class Response(NamedTuple):
    """A response with a status of 200 or more: its body, without any transfer coding, and its status and header lines.

    The connection must be closed after one that `is_last`.
    """

    status: int
    body: bytes
    is_last: bool
    head: bytes

    @property
    def headers(self) -> Mapping[str, str]:
        """The header fields by their names in lower case; the last one where a name is repeated."""
        fields = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:])
        return {name.lower(): value.strip(" \t") for name, _, value in fields}


class BadResponse(Exception):
    """What came is not a response, or is larger than the limits."""


class _Incoming:
    """The bytes that came and were not read yet."""

    def __init__(self, first: bytes, receive: Callable[[], bytes]) -> None:
        # Grows in place: a page of a table comes in hundreds of pieces.
        self.unread = bytearray(first)
        self._receive = receive

    def more(self) -> None:
        data = self._receive()
        if not data:
            raise ConnectionError("closed in the middle of a response")
        self.unread += data

    def until(self, mark: bytes, limit: int) -> bytes:
        """Read up to the next `mark`, and the mark, and return what comes before it."""
        while (end := self.unread.find(mark, 0, limit)) < 0:
            if len(self.unread) >= limit:
                raise BadResponse("too long")
            self.more()
        found = bytes(self.unread[:end])
        del self.unread[: end + len(mark)]
        return found

    def exactly(self, size: int) -> bytes:
        while len(self.unread) < size:
            self.more()
        found = bytes(self.unread[:size])
        del self.unread[:size]
        return found

    def to_the_end(self, limit: int) -> bytes:
        while data := self._receive():
            self.unread += data
            if len(self.unread) > limit:
                raise BadResponse("too long")
        return bytes(self.unread)


def read_response(first: bytes, receive: Callable[[], bytes], max_body_bytes: int = MAX_BODY_BYTES) -> Response:
    """Return the response that begins with `first`, wherever its bytes are divided.

    Args:
        first: the first bytes that came, at least one.
        receive: returns the next bytes, or none at the end of the connection; what it raises ends the reading.

    Raises:
        BadResponse: it is not a response, or is larger than the limits.
        ConnectionError: the connection was closed before its end.
    """
    incoming = _Incoming(first, receive)
    status = 0
    while status < 200:
        head = incoming.until(b"\r\n\r\n", MAX_HEAD_BYTES)
        lower = head.lower()
        found = _STATUS_LINE.match(lower)
        if not found:
            raise BadResponse("no status line")
        version, status = found[1], int(found[2])
    body, is_delimited = _body(status, lower, incoming, max_body_bytes)
    says_so = version == b"0" or b"close" in (_field(lower, b"\r\nconnection:") or b"")
    return Response(status, body, not is_delimited or says_so or bool(incoming.unread), head)


def _field(lower: bytes, name: bytes) -> bytes | None:
    """Return the header's value, if there is one."""
    start = lower.find(name)
    if start < 0:
        return None
    start += len(name)
    end = lower.find(b"\r\n", start)
    return lower[start : end if end >= 0 else None].strip()


def _body(status: int, lower: bytes, incoming: _Incoming, limit: int) -> tuple[bytes, bool]:
    """Return the body, and whether it surely ends where it should."""
    if status in (204, 304):
        return b"", True
    size = _field(lower, b"\r\ncontent-length:")
    coding = _field(lower, b"\r\ntransfer-encoding:")
    if coding is not None:
        if coding != b"chunked":
            raise BadResponse("unknown coding")
        return b"".join(_chunks(incoming, limit)), size is None
    if size is None:
        return incoming.to_the_end(limit), False
    if not _DECIMAL.fullmatch(size) or int(size) > limit:
        raise BadResponse("no length that we read")
    return incoming.exactly(int(size)), lower.count(b"\r\ncontent-length:") == 1


def _chunks(incoming: _Incoming, left: int) -> Iterator[bytes]:
    while True:
        size_line = incoming.until(b"\r\n", MAX_HEAD_BYTES).partition(b";")[0].strip()
        if not _HEXADECIMAL.fullmatch(size_line):
            raise BadResponse("no chunk")
        size = int(size_line, 16)
        if size > left:
            raise BadResponse("too long")
        if size == 0:
            break
        left -= size
        yield incoming.exactly(size)
        if incoming.exactly(2) != b"\r\n":
            raise BadResponse("no end of a chunk")
    # Trailers hold nothing that we need.
    while line := incoming.until(b"\r\n", MAX_HEAD_BYTES):
        left -= len(line)
        if left < 0:
            raise BadResponse("too long")
