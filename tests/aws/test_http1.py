"""An HTTP response from the bytes of a socket: any form that is allowed, any division, and never too much."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.http1 import MAX_BODY_BYTES, MAX_HEAD_BYTES, BadResponse, Response, read_response

BODY = b'{"message":"Forbidden"}'
PLAIN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 23\r\nX-Amzn-ErrorType:  ForbiddenException \r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b'A;ext="1"\r\n{"message"\r\nd\r\n:"Forbidden"}\r\n0\r\nTrailer: 1\r\n\r\n'
)


def read(*pieces: bytes) -> Response:
    """Read what comes in these pieces before the connection ends."""
    rest = iter(pieces[1:])
    return read_response(pieces[0], lambda: next(rest, b""))


def test_status_headers_and_body_are_read() -> None:
    response = read(PLAIN)
    assert (response.status, response.body, response.is_last) == (403, BODY, False)
    assert response.headers == {"content-length": "23", "x-amzn-errortype": "ForbiddenException"}


def test_chunks_are_put_together() -> None:
    assert read(CHUNKED)[:3] == (403, BODY, False)


@pytest.mark.parametrize("status", [204, 304])
def test_some_responses_have_no_body_and_no_length(status: int) -> None:
    assert read(b"HTTP/1.1 %d\r\n\r\n" % status)[:3] == (status, b"", False)


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    assert read(b"HTTP/1.1 200 OK\r\n\r\nab", b"c")[:3] == (200, b"abc", True)


def test_what_comes_before_the_response_is_skipped() -> None:
    assert read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN).status == 403


@pytest.mark.parametrize(
    "whole",
    [
        PLAIN.replace(b"Content", b"connection: Close\r\nContent"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN + b"HTTP/1.1 200 OK\r\n\r\n",
        PLAIN.replace(b"Content-Length: 23", b"Content-Length: 23\r\nContent-Length: 23"),
        CHUNKED.replace(b"Transfer", b"Content-Length: 3\r\nTransfer"),
        PLAIN.replace(b"Content-Length:", b"Content-Length :"),
        PLAIN.replace(b"Content-Length", b"X: 1\r\n Content-Length"),
    ],
    ids=[
        "it says so",
        "HTTP/1.0",
        "something follows",
        "two lengths",
        "a length and chunks",
        "a space makes another header of the length",
        "the length is part of another header",
    ],
)
def test_a_connection_is_not_used_again_when(whole: bytes) -> None:
    response = read(whole)
    assert (response.status, response.body, response.is_last) == (403, BODY, True)


@given(st.sampled_from([PLAIN, CHUNKED]), st.lists(st.integers(1, 120), max_size=20))
def test_how_the_bytes_are_divided_does_not_matter(whole: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[start:end] for start, end in itertools.pairwise(edges)]
    assert read(*pieces) == read(whole)


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED])
def test_a_response_that_breaks_off_is_an_error(whole: bytes) -> None:
    for end in range(1, len(whole)):
        with pytest.raises(ConnectionError, match="closed in the middle of a response"):
            read(whole[:end])


@pytest.mark.parametrize(
    ("whole", "why"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no status line"),
        (b"HTTP/2 200\r\n\r\n", "no status line"),
        (b"HTTP/1.1 99 x\r\n\r\n", "no status line"),
        (b"HTTP/1.1 2000\r\n\r\n", "no status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n", "no length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "unknown coding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n", "no chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n", "no chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "no end of a chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n", "too long"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES, "too long"),
    ],
)
def test_what_is_not_a_response_is_refused(whole: bytes, why: str) -> None:
    with pytest.raises(BadResponse, match=why):
        read(whole)


@pytest.mark.parametrize(
    ("start", "rest"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1_000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3e8\r\n%b\r\n" % (b"x" * 1_000)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 1_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: %b\r\n" % (b"x" * 995)),
    ],
    ids=["a head", "a body", "chunks", "a chunk's extension", "trailers"],
)
def test_nothing_endless_is_read_for_ever(start: bytes, rest: bytes) -> None:
    pieces = 0

    def receive() -> bytes:
        nonlocal pieces
        pieces += 1
        return rest

    with pytest.raises(BadResponse, match="too long"):
        read_response(start, receive)
    assert pieces <= MAX_BODY_BYTES / 1_000 + 1


@given(st.lists(st.binary(min_size=1), min_size=1))
def test_any_bytes_are_a_response_or_refused(pieces: list[bytes]) -> None:
    with contextlib.suppress(BadResponse, ConnectionError):
        read(*pieces)


@given(st.binary())
def test_any_bytes_after_a_status_line_are_a_response_or_refused(rest: bytes) -> None:
    with contextlib.suppress(BadResponse, ConnectionError):
        assert read(b"HTTP/1.1 200 OK\r\n" + rest).status == 200
