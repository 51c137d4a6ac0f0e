"""The answer to an HTTP/1.1 request, read from the bytes of a socket. Pure.

Invariants: no more is kept than the limits below; what is not an answer raises BadAnswer; a connection that is not
surely at the end of its answer is not used again, so no answer is ever taken for another request's.

Source: RFC 9112, sections 2 to 7.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

# What API Gateway answers has some 400 bytes of head; of bodies, GetConnection's is the largest, with some 200.
MAX_HEAD_BYTES: Final = 16_384
MAX_BODY_BYTES: Final = 65_536
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: .*)?", re.DOTALL)
_DECIMAL: Final = re.compile(r"\d{1,9}", re.ASCII)
_HEXADECIMAL: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")


class Answer(NamedTuple):
    """One answer.

    Attributes:
        status: 200 to 599.
        headers: by their names in lower case; of a repeated one the last.
        body: without any transfer coding.
        is_last: whether the connection must be closed now.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_last: bool


class BadAnswer(Exception):
    """What came is no answer, or more than we read."""


class _Incoming:
    """The bytes that came and were not read yet."""

    def __init__(self, first: bytes, receive: Callable[[], bytes]) -> None:
        self.unread = first
        self._receive = receive

    def more(self) -> None:
        data = self._receive()
        if not data:
            raise ConnectionError("closed in the middle of an answer")
        self.unread += data

    def until(self, mark: bytes, limit: int) -> bytes:
        """What stands before the next `mark`; that and the mark are read."""
        while (end := self.unread.find(mark, 0, limit)) < 0:
            if len(self.unread) >= limit:
                raise BadAnswer("too long")
            self.more()
        found, self.unread = self.unread[:end], self.unread[end + len(mark) :]
        return found

    def exactly(self, size: int) -> bytes:
        while len(self.unread) < size:
            self.more()
        found, self.unread = self.unread[:size], self.unread[size:]
        return found

    def to_the_end(self, limit: int) -> bytes:
        while data := self._receive():
            self.unread += data
            if len(self.unread) > limit:
                raise BadAnswer("too long")
        found, self.unread = self.unread, b""
        return found


def read_answer(first: bytes, receive: Callable[[], bytes]) -> Answer:
    """The answer that begins with `first`, wherever its bytes are divided.

    Args:
        first: the first bytes that came, at least one.
        receive: gives the next, or none at the end of the connection; what it raises ends the reading.

    Raises:
        BadAnswer: it is none, or larger than the limits.
        ConnectionError: the connection was closed before its end.
    """
    incoming = _Incoming(first, receive)
    version, status, lines = _head(incoming)
    while status < 200:
        version, status, lines = _head(incoming)
    headers = dict(_header(line) for line in lines)
    body, is_delimited = _body(status, headers, incoming)
    is_clear = (
        is_delimited and len(headers) == len(lines) and not {"transfer-encoding", "content-length"} <= headers.keys()
    )
    stays_open = version == b"1" and "close" not in headers.get("connection", "").lower()
    is_last = not (is_clear and stays_open) or bool(incoming.unread)
    return Answer(status, headers, body, is_last)


def _head(incoming: _Incoming) -> tuple[bytes, int, list[bytes]]:
    """Return HTTP/1's minor version, the status and the header lines."""
    status_line, *lines = incoming.until(b"\r\n\r\n", MAX_HEAD_BYTES).split(b"\r\n")
    found = _STATUS_LINE.fullmatch(status_line)
    if not found:
        raise BadAnswer("no status line")
    return found[1], int(found[2]), lines


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon or not name or name.strip() != name:
        raise BadAnswer("no header")
    return name.lower(), value.strip(" \t")


def _body(status: int, headers: Mapping[str, str], incoming: _Incoming) -> tuple[bytes, bool]:
    """Return the body, and whether it has an end other than the connection's."""
    if status in (204, 304):
        return b"", True
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise BadAnswer("unknown coding")
        return b"".join(_chunks(incoming)), True
    if "content-length" not in headers:
        return incoming.to_the_end(MAX_BODY_BYTES), False
    size = headers["content-length"]
    if not _DECIMAL.fullmatch(size) or int(size) > MAX_BODY_BYTES:
        raise BadAnswer("no length that we read")
    return incoming.exactly(int(size)), True


def _chunks(incoming: _Incoming) -> Iterator[bytes]:
    left = MAX_BODY_BYTES
    while True:
        size_line = incoming.until(b"\r\n", MAX_HEAD_BYTES).partition(b";")[0].strip()
        if not _HEXADECIMAL.fullmatch(size_line):
            raise BadAnswer("no chunk")
        size = int(size_line, 16)
        if size > left:
            raise BadAnswer("too long")
        if size == 0:
            break
        left -= size
        yield incoming.exactly(size)
        if incoming.exactly(2) != b"\r\n":
            raise BadAnswer("no end of a chunk")
    # Trailers say nothing that we ask for.
    while line := incoming.until(b"\r\n", MAX_HEAD_BYTES):
        left -= len(line)
        if left < 0:
            raise BadAnswer("too long")
