"""An HTTP answer from the bytes of a socket: any form that is allowed, any division, and never too much."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.http1 import MAX_BODY_BYTES, MAX_HEAD_BYTES, Answer, BadAnswer, read_answer, read_whole

BODY = b'{"message":"Forbidden"}'
PLAIN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 23\r\nX-Amzn-ErrorType:  ForbiddenException \r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b'A;ext="1"\r\n{"message"\r\nd\r\n:"Forbidden"}\r\n0\r\nTrailer: 1\r\n\r\n'
)


def read(*pieces: bytes) -> Answer:
    """The answer that comes in these pieces before the connection ends."""
    rest = iter(pieces[1:])
    return read_answer(pieces[0], lambda: next(rest, b""))


def test_status_headers_and_body_are_read() -> None:
    answer = read(PLAIN)
    assert (answer.status, answer.body, answer.is_last) == (403, BODY, False)
    assert answer.headers == {"content-length": "23", "x-amzn-errortype": "ForbiddenException"}


def test_chunks_are_put_together() -> None:
    assert read(CHUNKED)[:3] == (403, BODY, False)


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body_and_no_length(status: int) -> None:
    assert read(b"HTTP/1.1 %d\r\n\r\n" % status)[:3] == (status, b"", False)


def test_a_body_without_a_length_goes_on_to_the_end_of_the_connection() -> None:
    assert read(b"HTTP/1.1 200 OK\r\n\r\nab", b"c")[:3] == (200, b"abc", True)


def test_what_comes_before_the_answer_is_skipped() -> None:
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
    answer = read(whole)
    assert (answer.status, answer.body, answer.is_last) == (403, BODY, True)


@given(st.sampled_from([PLAIN, CHUNKED]), st.lists(st.integers(1, 120), max_size=20))
def test_it_is_the_same_however_its_bytes_are_divided(whole: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[start:end] for start, end in itertools.pairwise(edges)]
    assert read(*pieces) == read(whole)


@given(
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"http/1.1", b"HTTP/2"]),
    st.sampled_from([b"100", b"200", b"204", b"301", b"304", b"410", b"5x3", b"600"]),
    st.lists(
        st.sampled_from(
            [
                b"Content-Length: 2",
                b"content-length:2 ",
                b"Content-Length: 02",
                b"Content-Length: 3",
                b"Content-Length : 2",
                b"Transfer-Encoding: chunked",
                b"Connection: Close",
                b"Connection: keep-alive",
                b"X: close",
                b"no colon",
            ]
        ),
        max_size=3,
    ),
    st.sampled_from([b"", b"ok", b"ok!"]),
)
def test_the_short_way_for_usual_answers_gives_what_the_long_one_does(
    version: bytes, status: bytes, headers: list[bytes], body: bytes
) -> None:
    data = b"\r\n".join([version + b" " + status + b" Reason", *headers, b"", body])
    short = read_whole(data)
    if short:
        assert short == read(data)


def test_the_short_way_is_the_one_that_answers_to_posts_take() -> None:
    assert read_whole(PLAIN)
    assert read_whole(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n")


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED])
def test_an_answer_that_is_cut_off_anywhere_is_none(whole: bytes) -> None:
    for end in range(1, len(whole)):
        with pytest.raises(ConnectionError, match="closed in the middle of an answer"):
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
def test_what_is_no_answer_is_refused(whole: bytes, why: str) -> None:
    with pytest.raises(BadAnswer, match=why):
        read(whole)


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1_000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3e8\r\n%b\r\n" % (b"x" * 1_000)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 1_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: %b\r\n" % (b"x" * 995)),
    ],
    ids=["a head", "a body", "chunks", "a chunk's extension", "trailers"],
)
def test_nothing_without_an_end_is_read_for_ever(begins: bytes, goes_on: bytes) -> None:
    pieces = 0

    def receive() -> bytes:
        nonlocal pieces
        pieces += 1
        return goes_on

    with pytest.raises(BadAnswer, match="too long"):
        read_answer(begins, receive)
    assert pieces <= MAX_BODY_BYTES / 1_000 + 1


@given(st.lists(st.binary(min_size=1), min_size=1))
def test_any_bytes_are_an_answer_or_refused(pieces: list[bytes]) -> None:
    with contextlib.suppress(BadAnswer, ConnectionError):
        read(*pieces)


@given(st.binary())
def test_any_bytes_after_a_status_line_are_an_answer_or_refused(rest: bytes) -> None:
    with contextlib.suppress(BadAnswer, ConnectionError):
        assert read(b"HTTP/1.1 200 OK\r\n" + rest).status == 200
