"""Connections that are kept, and what comes over them: our client and boto3's side by side, over real sockets."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import trustme
from botocore import exceptions

from chalicelib.aws.http import Exchange, Limits
from chalicelib.aws.management import ManagementClient
from tests.aws.conftest import PATIENCE_SECONDS, Connect
from tests.conftest import Clock
from tests.support.management_server import OK, ManagementServer, answer, closes, pauses, refuses, resets, serving

ID = "L0SM9cOFvHcCIhw="
CONNECTION = (
    b'{"connectedAt":"2026-11-23T09:30:00.123Z","lastActiveAt":"2026-11-23T09:30:01Z",'
    b'"identity":{"sourceIp":"203.0.113.7","userAgent":"Tests/1.0"}}'
)
LIMITS = Limits()
Pairs = list[tuple[socket.socket, socket.socket]]


class TestIdleConnections:
    @pytest.fixture
    def pairs(self) -> Iterator[Pairs]:
        """Three connections, each with its other end."""
        pairs = [socket.socketpair() for _ in range(3)]
        yield pairs
        for ends in pairs:
            for end in ends:
                end.close()

    @pytest.fixture
    def exchange(self, clock: Clock) -> Exchange:
        return Exchange("http://127.0.0.1:1", LIMITS, clock)

    def test_an_empty_pool_has_no_connection(self, exchange: Exchange) -> None:
        assert exchange.take() is None

    def test_the_latest_connection_is_taken_first_and_each_once(self, exchange: Exchange, pairs: Pairs) -> None:
        for ours, _ in pairs:
            exchange.give(ours)
        assert [exchange.take() for _ in range(4)] == [pairs[2][0], pairs[1][0], pairs[0][0], None]

    def test_a_connection_that_has_ended_is_closed_and_skipped(
        self, exchange: Exchange, pairs: Pairs, clock: Clock
    ) -> None:
        for ours, _ in pairs:
            exchange.give(ours)
        pairs[2][1].close()
        clock.now += LIMITS.trusted_seconds
        assert exchange.take() is pairs[1][0]
        assert pairs[2][0].fileno() == -1

    def test_a_connection_with_unrequested_bytes_is_skipped(
        self, exchange: Exchange, pairs: Pairs, clock: Clock
    ) -> None:
        exchange.give(pairs[0][0])
        pairs[0][1].sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        clock.now += LIMITS.trusted_seconds
        assert exchange.take() is None

    def test_after_a_minute_a_connection_is_closed(self, exchange: Exchange, pairs: Pairs, clock: Clock) -> None:
        exchange.give(pairs[0][0])
        clock.now += LIMITS.idle_seconds
        exchange.give(pairs[1][0])
        assert exchange.take() is pairs[1][0]
        exchange.give(pairs[1][0])
        clock.now += 0.1
        assert exchange.take() is pairs[1][0]
        assert pairs[0][0].fileno() == -1

    def test_an_exchange_that_is_dropped_leaves_no_connection_open(self, pairs: Pairs) -> None:
        exchange = Exchange("http://127.0.0.1:1", LIMITS)
        exchange.give(pairs[0][0])
        del exchange
        assert pairs[0][0].fileno() == -1

    def test_dialling_ends_when_its_time_is_over(self, clock: Clock) -> None:
        with pytest.raises(exceptions.ConnectTimeoutError):
            Exchange("http://127.0.0.1:1", LIMITS._replace(dial_seconds=0), clock).dial()

    def test_each_address_of_a_host_is_tried(self, clock: Clock) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            # On most machines ::1 is the first of localhost's addresses, and nobody listens there.
            Exchange(f"http://localhost:{listener.getsockname()[1]}", LIMITS, clock).dial().close()

    def test_a_host_without_an_address_is_an_error(self, clock: Clock) -> None:
        with pytest.raises(exceptions.EndpointConnectionError) as failed:
            Exchange("https://nobody.invalid", LIMITS, clock).dial()
        assert isinstance(failed.value.__cause__, socket.gaierror)


class TestResponsesInAnyForm:
    @pytest.mark.parametrize(
        "form",
        [
            answer(200, CONNECTION),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            % (len(CONNECTION), CONNECTION),
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CONNECTION,
            b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(CONNECTION), CONNECTION),
            b"HTTP/1.1 100 Continue\r\n\r\n" + answer(200, CONNECTION),
        ],
        ids=["with a length", "chunked", "up to the close", "HTTP/1.0", "after a 100"],
    )
    def test_a_response_is_read(self, client: Any, server: ManagementServer, form: bytes) -> None:
        server.on(ID, form, *([closes] if b"close" in form else []))
        assert client.get_connection(ConnectionId=ID)["Identity"]["SourceIp"] == "203.0.113.7"
        client.post_to_connection(ConnectionId=ID, Data="still there")
        assert server.requests[-1].body == b"still there"

    def test_a_response_may_come_in_pieces(self, client: Any, server: ManagementServer) -> None:
        whole = answer(200, CONNECTION)
        server.on(ID, whole[:5], pauses(0.05), whole[5:60], pauses(0.05), whole[60:])
        assert client.get_connection(ConnectionId=ID)["Identity"]["UserAgent"] == "Tests/1.0"


class TestConnectionsAreKept:
    def test_one_call_after_another_uses_the_same(self, client: Any, server: ManagementServer) -> None:
        for n in range(5):
            client.post_to_connection(ConnectionId=f"c{n}", Data="hi")
        server.on(ID, refuses(410, "GoneException"))
        with pytest.raises(client.exceptions.GoneException):
            client.post_to_connection(ConnectionId=ID, Data="hi")
        client.post_to_connection(ConnectionId="last", Data="hi")
        assert {request.tcp for request in server.requests} == {0}

    def test_threads_never_share_one(self, client: Any, server: ManagementServer) -> None:
        server.on("slow", pauses(0.3), OK)
        with ThreadPoolExecutor(8) as threads:
            ids = ["slow", *(f"c{n}" for n in range(7))] * 5
            list(threads.map(lambda id_: client.post_to_connection(ConnectionId=id_, Data=id_), ids))
        assert sorted(request.body.decode() for request in server.requests) == sorted(ids)
        assert 2 <= len({request.tcp for request in server.requests}) <= 8

    def test_one_that_was_closed_meanwhile_is_replaced(self, client: Any, server: ManagementServer) -> None:
        server.on("a", OK, closes)
        client.post_to_connection(ConnectionId="a", Data="1")
        client.post_to_connection(ConnectionId="b", Data="2")
        assert [(request.body, request.tcp) for request in server.requests] == [(b"1", 0), (b"2", 1)]

    @pytest.mark.parametrize("ends", [closes, resets])
    @pytest.mark.parametrize("scheme", ["https", "http"])
    @pytest.mark.usefixtures("trusted")
    def test_one_that_ends_without_an_answer_is_replaced_at_once(
        self, connect: Connect, authority: trustme.CA, scheme: str, ends: Any
    ) -> None:
        with serving(authority if scheme == "https" else None) as server:
            client = connect(server.endpoint)
            client.post_to_connection(ConnectionId="a", Data="1")
            server.on("b", ends)
            client.post_to_connection(ConnectionId="b", Data="2")
        assert [(request.body, request.tcp) for request in server.requests] == [(b"1", 0), (b"2", 0), (b"2", 1)]

    def test_one_that_ends_only_after_a_while_was_not_dead_before(
        self, connect_ours: Connect, server: ManagementServer
    ) -> None:
        client = connect_ours(server.endpoint, limits=ManagementClient.limits._replace(dead_seconds=0.01))
        client.post_to_connection(ConnectionId="a", Data="hi")
        server.on("b", pauses(0.1), closes)
        with pytest.raises(exceptions.ConnectionClosedError):
            client.post_to_connection(ConnectionId="b", Data="hi")
        assert [request.connection_id for request in server.requests] == ["a", "b"]


class TestNobodyAnswers:
    @pytest.fixture
    def patience(self) -> float:
        return PATIENCE_SECONDS

    def test_in_time(self, client: Any, server: ManagementServer) -> None:
        server.on(ID, pauses(3 * PATIENCE_SECONDS), OK)
        with pytest.raises(exceptions.ReadTimeoutError):
            client.post_to_connection(ConnectionId=ID, Data="hi")
        assert len(server.requests) == 1

    def test_in_full(self, client: Any, server: ManagementServer) -> None:
        server.on(ID, answer(200, CONNECTION)[:-10], pauses(3 * PATIENCE_SECONDS))
        with pytest.raises(exceptions.ReadTimeoutError):
            client.get_connection(ConnectionId=ID)

    def test_because_nobody_listens(self, connect: Connect) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(exceptions.EndpointConnectionError, match=f"127.0.0.1:{port}"):
            connect(f"http://127.0.0.1:{port}/api").post_to_connection(ConnectionId=ID, Data="hi")

    def test_because_no_connection_is_accepted(self, connect: Connect) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as crowd:
            for _ in range(4):
                knock = crowd.enter_context(socket.socket())
                knock.setblocking(False)
                knock.connect_ex(listener.getsockname())
            client = connect(f"http://127.0.0.1:{listener.getsockname()[1]}/api")
            with pytest.raises(exceptions.ConnectTimeoutError):
                client.post_to_connection(ConnectionId=ID, Data="hi")

    @pytest.mark.parametrize("ends", [closes, resets])
    def test_because_a_new_connection_ends(self, client: Any, server: ManagementServer, ends: Any) -> None:
        server.on(ID, ends)
        with pytest.raises(exceptions.ConnectionClosedError):
            client.post_to_connection(ConnectionId=ID, Data="hi")

    @pytest.mark.parametrize("ends", [closes, resets])
    @pytest.mark.parametrize("part", [10, -10], ids=["in its head", "in its body"])
    def test_because_the_response_breaks_off(self, client: Any, server: ManagementServer, part: int, ends: Any) -> None:
        server.on(ID, answer(200, CONNECTION)[:part], ends)
        with pytest.raises(exceptions.ConnectionClosedError):
            client.get_connection(ConnectionId=ID)
        assert len(server.requests) == 1

    def test_in_http(self, client: Any, server: ManagementServer) -> None:
        server.on(ID, b"SSH-2.0-OpenSSH_9.6\r\n\r\n", closes)
        with pytest.raises(exceptions.HTTPClientError):
            client.post_to_connection(ConnectionId=ID, Data="hi")

    def test_in_tls(self, connect_ours: Connect, trusted: None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = connect_ours(f"https://127.0.0.1:{listener.getsockname()[1]}/api")
            with pytest.raises(exceptions.ConnectTimeoutError):
                client.post_to_connection(ConnectionId=ID, Data="hi")

    def test_at_any_address(self, connect_ours: Connect, server: ManagementServer) -> None:
        client = connect_ours(server.endpoint, limits=ManagementClient.limits._replace(dial_seconds=0))
        with pytest.raises(exceptions.ConnectTimeoutError):
            client.post_to_connection(ConnectionId=ID, Data="hi")

    def test_a_response_that_trickles_in_is_not_waited_for(
        self, connect_ours: Connect, server: ManagementServer, clock: Clock
    ) -> None:
        def too_much_time_passes(_: socket.socket) -> None:
            clock.now += LIMITS.answer_seconds + 1

        first, second, third = OK[:9], OK[9:20], OK[20:]
        server.on(ID, first, pauses(0.1), too_much_time_passes, second, pauses(0.1), third)
        client = connect_ours(server.endpoint, limits=ManagementClient.limits, monotonic=clock)
        with pytest.raises(exceptions.ReadTimeoutError):
            client.post_to_connection(ConnectionId=ID, Data="hi")


class TestCertificates:
    def test_of_an_unknown_authority_are_not_trusted(
        self, connect: Connect, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
        with serving(authority) as server:
            with pytest.raises(exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
                connect(server.endpoint).post_to_connection(ConnectionId=ID, Data="secret")
            assert server.requests == []

    def test_for_another_host_are_not_trusted(self, connect: Connect, authority: trustme.CA, trusted: None) -> None:
        with serving(authority, name="other.example.com") as server:
            with pytest.raises(exceptions.SSLError, match="SSL validation failed"):
                connect(server.endpoint).post_to_connection(ConnectionId=ID, Data="secret")
            assert server.requests == []
