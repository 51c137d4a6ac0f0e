"""HTTP/1.1 as bytes: what is a request, what is not, and where it stops being HTTP."""

from http import HTTPStatus

import pytest

from localgateway import Limits
from localgateway.wire.http import Expectation, Leftover, Malformed, Request, RequestReader, Response

LIMITS = Limits(url_chars=20, header_bytes=40, header_count=3, message_bytes=10)


def read(*chunks, limits=LIMITS):
    reader = RequestReader(limits)
    return [event for chunk in chunks for event in reader.feed(chunk)]


class TestRequests:
    def test_header_names_and_values_are_as_sent(self):
        (request,) = read(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-a:  1 \r\nx-A: 2\r\n\r\n")
        assert isinstance(request, Request)
        assert (request.method, request.path, request.query) == ("GET", "/a", "b=c")
        assert request.version == "1.1"
        assert [name for name, _ in request.headers] == ["Host", "X-a", "x-A"]
        assert request.header("x-a") == "1"
        assert request.header("none") is None
        assert (request.body, request.is_last, request.is_upgrade) == (b"", False, False)

    def test_a_request_may_come_byte_by_byte(self):
        data = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        (request,) = read(*[data[i : i + 1] for i in range(len(data))])
        assert isinstance(request, Request)
        assert request.target == "/a"
        assert request.headers == [("Host", "x"), ("Content-Length", "5")]
        assert request.body == b"hello"

    def test_many_may_come_at_once(self):
        requests = read(b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /3 HTTP/1.1\r\n\r\n")
        assert [(request.target, request.body) for request in requests] == [("/1", b""), ("/2", b"x"), ("/3", b"")]

    @pytest.mark.parametrize(
        ("line", "is_last"),
        [
            (b"HTTP/1.1\r\nConnection: close", True),
            (b"HTTP/1.1\r\nConnection: keep-alive", False),
            (b"HTTP/1.0\r\nHost: x", True),
        ],
    )
    def test_the_last_one_says_so(self, line, is_last):
        (request,) = read(b"GET / " + line + b"\r\n\r\n")
        assert request.is_last is is_last

    def test_a_body_past_the_limit_is_truncated_one_byte_after_it(self):
        first, second = read(
            b"POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\n", b"x" * 25, b"xxxxxGET / HTTP/1.1\r\n\r\n"
        )
        assert first.body == b"x" * 11
        assert second.method == "GET"

    def test_expect_continue_is_reported_before_the_body(self):
        events = read(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n", b"x")
        assert [type(event) for event in events] == [Expectation, Request]

    def test_after_an_upgrade_nothing_is_http(self):
        head = b"GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        request, leftover = read(head + b"\x81\x00anything")
        assert request.is_upgrade
        assert leftover == Leftover(b"\x81\x00anything")


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"GET /" + b"x" * 20 + b" HTTP/1.1\r\n\r\n", HTTPStatus.REQUEST_URI_TOO_LONG),
            (b"GET / HTTP/1.1\r\nA: " + b"x" * 40 + b"\r\n\r\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
            (b"GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
            (b"nonsense\r\n\r\n", HTTPStatus.BAD_REQUEST),
            (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", HTTPStatus.BAD_REQUEST),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", HTTPStatus.BAD_REQUEST),
            (b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n", HTTPStatus.BAD_REQUEST),
        ],
    )
    def test_what_is_malformed_or_too_much(self, data, status):
        assert read(data) == [Malformed(status)]

    def test_what_is_right_before_it_still_counts(self):
        request, malformed = read(b"GET / HTTP/1.1\r\n\r\nnonsense")
        assert isinstance(request, Request)
        assert malformed == Malformed(HTTPStatus.BAD_REQUEST)

    def test_a_header_that_never_ends_is_counted_while_it_comes(self):
        events = read(b"GET / HTTP/1.1\r\nA: ", *[b"x" * 10] * 7)
        assert events == [Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)]

    def test_a_piece_may_hold_several_requests_and_parts_of_others(self):
        request = b"GET / HTTP/1.1\r\nA: 1\r\n\r\n"
        events = read(request[:10], request[10:] + request * 9 + request[:10], request[10:])
        assert [type(event) for event in events] == [Request] * 11

    def test_the_limits_are_per_request(self):
        request = b"GET /%s HTTP/1.1\r\nA: %s\r\n\r\n" % (b"x" * 15, b"x" * 30)
        assert all(isinstance(event, Request) for event in read(*[request] * 5))


class TestResponses:
    def test_it_has_a_date_a_length_and_its_headers(self):
        head, _, body = Response(403, [("X-A", "1")], b"no").to_bytes().partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 403 Forbidden"
        assert lines[1].startswith("Date: ")
        assert lines[1].endswith(" GMT")
        assert lines[2:] == ["X-A: 1", "Content-Length: 2"]
        assert body == b"no"

    def test_the_last_one_says_that_the_connection_closes(self):
        assert b"\r\nConnection: close\r\n" in Response(400).to_bytes(is_last=True)

    @pytest.mark.parametrize("status", [101, 204])
    def test_some_have_no_length(self, status):
        assert b"Content-Length" not in Response(status).to_bytes()

    def test_to_head_it_keeps_the_length_and_drops_the_body(self):
        assert Response(200, [], b"body").to_bytes(is_head=True).endswith(b"Content-Length: 4\r\n\r\n")

    def test_a_status_without_a_name_has_none(self):
        assert Response(599).to_bytes().startswith(b"HTTP/1.1 599 \r\n")
