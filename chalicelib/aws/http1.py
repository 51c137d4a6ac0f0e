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
_STATUS_LINE: Final = re.compile(rb"http/1\.([01]) ([1-5]\d\d)(?: [^\r\n]*)?(?=\r\n|\Z)")
_FINAL: Final = frozenset({b"http/1.1 2", b"http/1.1 4", b"http/1.1 5"})
_DECIMAL: Final = re.compile(rb"\d{1,9}")
_HEXADECIMAL: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")


class Answer(NamedTuple):
    """One answer.

    Attributes:
        status: 200 to 599.
        body: without any transfer coding.
        is_last: whether the connection must be closed now.
        head: the status line and the header lines.
    """

    status: int
    body: bytes
    is_last: bool
    head: bytes

    @property
    def headers(self) -> Mapping[str, str]:
        """By their names in lower case; of a repeated one the last. Of an answer that says yes nobody asks for them."""
        fields = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:])
        return {name.lower(): value.strip(" \t") for name, _, value in fields}


class BadAnswer(Exception):
    """What came is no answer, or more than we read."""


class _Incoming:
    """The bytes that came and were not read yet."""

    def __init__(self, first: bytes, receive: Callable[[], bytes]) -> None:
        # Grows in place: a page of a table comes in hundreds of pieces.
        self.unread = bytearray(first)
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
                raise BadAnswer("too long")
        return bytes(self.unread)


def read_answer(first: bytes, receive: Callable[[], bytes], max_body_bytes: int = MAX_BODY_BYTES) -> Answer:
    """The answer that begins with `first`, wherever its bytes are divided.

    Args:
        first: the first bytes that came, at least one.
        receive: gives the next, or none at the end of the connection; what it raises ends the reading.
        max_body_bytes: of a longer body nothing is kept.

    Raises:
        BadAnswer: it is none, or larger than the limits.
        ConnectionError: the connection was closed before its end.
    """
    incoming = _Incoming(first, receive)
    status = 0
    while status < 200:
        head = incoming.until(b"\r\n\r\n", MAX_HEAD_BYTES)
        plain = head.lower()
        found = _STATUS_LINE.match(plain)
        if not found:
            raise BadAnswer("no status line")
        version, status = found[1], int(found[2])
    body, is_delimited = _body(status, plain, incoming, max_body_bytes)
    is_last = (
        not is_delimited
        or version == b"0"
        or b"close" in (_field(plain, b"\r\nconnection:") or b"")
        or bool(incoming.unread)
    )
    return Answer(status, body, is_last, head)


def read_whole(data: bytes) -> Answer | None:
    """The answer that the data is, if it is one of the usual kind and nothing else; what `read_answer` would give.

    Nearly every answer to a POST is: a head and a length, at once. This is the short way for those.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    plain = head.lower()
    _, name, rest = plain.partition(b"\r\ncontent-length:")
    size = rest.partition(b"\r\n")[0].strip()
    if (
        not end
        or not name
        or plain[:10] not in _FINAL
        or not plain[9:12].isdigit()
        # Has no body, whatever it says.
        or plain[9:12] == b"204"
        or size != b"%d" % len(body)
        or b"\r\ncontent-length:" in rest
        or b"\r\ntransfer-encoding:" in plain
        or b"close" in plain
    ):
        return None
    return Answer(int(plain[9:12]), body, False, head)


def _field(plain: bytes, name: bytes) -> bytes | None:
    """Return the header's value, if there is one."""
    start = plain.find(name)
    if start < 0:
        return None
    start += len(name)
    end = plain.find(b"\r\n", start)
    return plain[start : end if end >= 0 else None].strip()


def _body(status: int, plain: bytes, incoming: _Incoming, limit: int) -> tuple[bytes, bool]:
    """Return the body, and whether it surely ends where it should."""
    if status in (204, 304):
        return b"", True
    size = _field(plain, b"\r\ncontent-length:")
    coding = _field(plain, b"\r\ntransfer-encoding:")
    if coding is not None:
        if coding != b"chunked":
            raise BadAnswer("unknown coding")
        return b"".join(_chunks(incoming, limit)), size is None
    if size is None:
        return incoming.to_the_end(limit), False
    if not _DECIMAL.fullmatch(size) or int(size) > limit:
        raise BadAnswer("no length that we read")
    return incoming.exactly(int(size)), plain.count(b"\r\ncontent-length:") == 1


def _chunks(incoming: _Incoming, left: int) -> Iterator[bytes]:
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
