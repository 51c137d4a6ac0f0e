"""HTTP on real sockets: requests one after another, in pieces, at once, and too large."""

import contextlib

import pytest

from gatewaykit import ECHO, RECORDING, SIGNED, handshake, is_alive, read_response


class TestHttp:
    def test_a_connection_is_kept_for_the_next_request(self, serve):
        probe = serve(RECORDING)
        connection = probe.raw()
        for _ in range(3):
            connection.sendall(f"GET /api/@connections/zzz HTTP/1.1\r\nHost: localhost\r\n{SIGNED}\r\n\r\n".encode())
            assert read_response(connection)[0] == 400

    def test_requests_may_come_all_at_once(self, serve):
        probe = serve(RECORDING)
        alice, alice_id = probe.joins(), probe.connection_id()
        head = f"POST /api/@connections/{alice_id} HTTP/1.1\r\nHost: localhost\r\n{SIGNED}\r\nContent-Length: 1\r\n\r\n"
        connection = probe.raw("".join(f"{head}{number}" for number in range(5)).encode())
        assert [alice.receives() for _ in range(5)] == list("01234")
        answers = b""
        while answers.count(b"HTTP/1.1 200 OK") < 5:
            answers += connection.recv(65536)

    def test_a_body_may_come_in_chunks(self, serve):
        probe = serve(RECORDING)
        alice, alice_id = probe.joins(), probe.connection_id()
        head = f"POST /api/@connections/{alice_id} HTTP/1.1\r\nHost: localhost\r\n{SIGNED}\r\n"
        connection = probe.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        connection.sendall(b"2\r\nde\r\n0\r\n\r\n")
        assert read_response(connection)[0] == 200
        assert alice.receives() == "abcde"

    def test_expect_continue_is_answered(self, serve):
        probe = serve(RECORDING)
        alice, alice_id = probe.joins(), probe.connection_id()
        head = f"POST /api/@connections/{alice_id} HTTP/1.1\r\nHost: localhost\r\n{SIGNED}\r\nContent-Length: 2\r\n"
        connection = probe.raw(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ok")
        assert read_response(connection)[0] == 200
        assert alice.receives() == "ok"

    def test_head_has_the_headers_of_an_answer_and_no_body(self, serve):
        connection = serve(RECORDING).raw(b"HEAD /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while received := connection.recv(1000):
            answer += received
        assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"Content-Length: 23\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")


class TestHttpLimits:
    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (handshake("/api?" + "x" * 4_092), 414),
            (handshake("/api", "X-Long: " + "x" * 10_300), 431),
            (handshake("/api", *[f"X-{number}: 1" for number in range(101)]), 431),
            (b"GET /api HTTP/1.1\r\nX-Endless: " + b"x" * 2_000_000, 431),
            (b"GET /" + b"x" * 2_000_000, 414),
            (b"no http at all\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
            (b"GET /api HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            (b"POST /api HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"POST /api HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx", 400),
        ],
        ids=[
            "url",
            "header",
            "many headers",
            "endless header",
            "endless url",
            "nonsense",
            "TLS",
            "length",
            "two lengths",
            "other upgrade",
        ],
    )
    def test_what_is_too_much_or_no_http_is_refused_and_the_connection_closed(self, serve, data, status):
        probe = serve(ECHO)
        connection = probe.raw()
        # It may be refused before it has been sent to the end.
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        answered, headers, _ = read_response(connection)
        assert (answered, headers["connection"]) == (status, "close")
        assert is_alive(probe)

    def test_the_longest_url_passes(self, serve):
        serve(ECHO).joins("?" + "x" * (4_096 - len("/api?")))

    def test_a_body_far_too_long_is_read_and_refused(self, serve):
        probe = serve(ECHO)
        body = b"x" * 3_000_000
        head = (
            f"POST /api/@connections/L0SM9cOFvHcCIhw= HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            "Authorization: AWS4-HMAC-SHA256 x\r\n\r\n"
        )
        status, _, _ = read_response(probe.raw(head.encode() + body))
        assert status == 410
