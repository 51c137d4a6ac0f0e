"""What is behind app.websocket_api: the same truths about both clients, against a real server over TLS."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from typing import Any

import boto3
import pytest
import trustme
from botocore import exceptions
from chalice.app import WebsocketAPI, WebsocketDisconnectedError

from chalicelib.aws import exchange, lean, management
from chalicelib.aws.management import ManagementSession, prepare
from chalicelib.aws.session import trust
from chalicelib.aws.sigv4 import Credentials
from tests.conftest import Clock
from tests.support.management_server import OK, ManagementServer, answer, closes, pauses, refuses, resets, serving

ID = "L0SM9cOFvHcCIhw="
CONNECTION = (
    b'{"connectedAt":"2026-11-23T09:30:00.123Z","lastActiveAt":"2026-11-23T09:30:01Z",'
    b'"identity":{"sourceIp":"203.0.113.7","userAgent":"Tests/1.0"}}'
)
# Long enough for a busy machine to answer, short enough to wait for.
PATIENCE_SECONDS = 0.5


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority of the server's certificate is the one that AWS_CA_BUNDLE names."""
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))


@pytest.fixture
def server(authority: trustme.CA, trusted: None) -> Iterator[ManagementServer]:
    with serving(authority) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clients lose patience soon, and boto3's tries once, as the lean one does after a timeout."""
    monkeypatch.setattr(exchange, "CONNECT_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(exchange, "ANSWER_SECONDS", PATIENCE_SECONDS)
    for name in ("connect_timeout", "read_timeout"):
        monkeypatch.setitem(management.CONFIG, name, PATIENCE_SECONDS)
    monkeypatch.setitem(management.CONFIG, "retries", {"total_max_attempts": 1})


# Makes the client for an endpoint.
Connect = Callable[[str], Any]


@pytest.fixture
def connect_lean(session: boto3.session.Session) -> Iterator[Connect]:
    with ExitStack() as stack:
        yield lambda endpoint: _client(session, "lean", endpoint, stack)


@pytest.fixture(params=["lean", "boto3"])
def connect(request: pytest.FixtureRequest, session: boto3.session.Session) -> Iterator[Connect]:
    with ExitStack() as stack:
        yield lambda endpoint: _client(session, request.param, endpoint, stack)


def _client(session: boto3.session.Session, kind: Any, endpoint: str, stack: ExitStack) -> Any:
    client = ManagementSession(session, lambda: endpoint, kind).client("apigatewaymanagementapi")
    stack.callback(client.close)
    return client


@pytest.fixture
def client(connect: Connect, server: ManagementServer) -> Any:
    return connect(server.endpoint)


@pytest.fixture
def lean_client(connect_lean: Connect, server: ManagementServer) -> Any:
    return connect_lean(server.endpoint)


class TestWhatIsAsked:
    def test_a_post_brings_its_data_to_the_connection(self, client: Any, server: ManagementServer) -> None:
        client.post_to_connection(ConnectionId=ID, Data="é")
        (request,) = server.requests
        assert (request.method, request.path, request.body) == (
            "POST",
            "/api/@connections/L0SM9cOFvHcCIhw%3D",
            "é".encode(),
        )

    @pytest.mark.parametrize("has_tls", [True, False])
    def test_a_long_one_arrives_whole(
        self, connect: Connect, authority: trustme.CA, trusted: None, has_tls: bool
    ) -> None:
        data = "0123456789" * 500_000
        with serving(authority if has_tls else None) as server:
            connect(server.endpoint).post_to_connection(ConnectionId=ID, Data=data)
        assert server.requests[0].body == data.encode()

    def test_data_may_be_bytes(self, client: Any, server: ManagementServer) -> None:
        client.post_to_connection(ConnectionId=ID, Data=b"\x00\xff")
        assert server.requests[0].body == b"\x00\xff"

    def test_a_connection_is_asked_about(self, client: Any, server: ManagementServer) -> None:
        server.on(ID, answer(200, CONNECTION))
        told = client.get_connection(ConnectionId=ID)
        assert told["ConnectedAt"].isoformat() == "2026-11-23T09:30:00.123000+00:00"
        assert told["LastActiveAt"].isoformat() == "2026-11-23T09:30:01+00:00"
        assert told["Identity"] == {"SourceIp": "203.0.113.7", "UserAgent": "Tests/1.0"}
        assert server.requests[0].method == "GET"

    def test_a_connection_is_closed(self, client: Any, server: ManagementServer) -> None:
        server.on(ID, b"HTTP/1.1 204 No Content\r\nx-amzn-RequestId: R1\r\n\r\n")
        told = client.delete_connection(ConnectionId=ID)
        assert server.requests[0].method == "DELETE"
        assert told["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert told["ResponseMetadata"]["RequestId"] == "R1"

    def test_an_endpoint_without_tls_will_do_for_a_desk(self, connect: Connect) -> None:
        with serving(None) as server:
            connect(server.endpoint).post_to_connection(ConnectionId=ID, Data="hi")
            assert [request.body for request in server.requests] == [b"hi"]


class TestAnswersInAnyForm:
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
    def test_it_is_read(self, client: Any, server: ManagementServer, form: bytes) -> None:
        server.on(ID, form, *([closes] if b"close" in form else []))
        assert client.get_connection(ConnectionId=ID)["Identity"]["SourceIp"] == "203.0.113.7"
        client.post_to_connection(ConnectionId=ID, Data="still there")
        assert server.requests[-1].body == b"still there"

    def test_it_may_come_in_pieces(self, client: Any, server: ManagementServer) -> None:
        whole = answer(200, CONNECTION)
        server.on(ID, whole[:5], pauses(0.05), whole[5:60], pauses(0.05), whole[60:])
        assert client.get_connection(ConnectionId=ID)["Identity"]["UserAgent"] == "Tests/1.0"


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "name", "code", "message"),
        [
            (refuses(410, "GoneException"), "GoneException", "GoneException", ""),
            (refuses(410, "GoneException:http://internal/"), "GoneException", "GoneException", ""),
            (
                answer(403, b'{"message":"Forbidden"}', "x-amzn-ErrorType: ForbiddenException"),
                *["ForbiddenException"] * 2,
                "Forbidden",
            ),
            (
                answer(413, b'{"Message":"big"}', "x-amzn-ErrorType: PayloadTooLargeException"),
                *["PayloadTooLargeException"] * 2,
                "big",
            ),
            (answer(400, b'{"__type":"com.amazonaws#BadRequestException"}'), "ClientError", "BadRequestException", ""),
            (answer(404, b'{"message":"Not Found"}'), "ClientError", "404", "Not Found"),
            (answer(410, b"no JSON"), "ClientError", "410", "no JSON"),
            (answer(301, b"", "Location: https://example.com/"), "ClientError", "301", ""),
        ],
    )
    def test_they_are_raised_by_what_they_say(
        self, client: Any, server: ManagementServer, given: bytes, name: str, code: str, message: str
    ) -> None:
        server.on(ID, given)
        with pytest.raises(client.exceptions.ClientError) as refused:
            client.post_to_connection(ConnectionId=ID, Data="hi")
        assert type(refused.value).__name__ == name
        assert refused.value.response["Error"] == {"Code": code, "Message": message}
        assert (
            str(refused.value) == f"An error occurred ({code}) when calling the PostToConnection operation: {message}"
        )
        assert len(server.requests) == 1

    def test_each_kind_is_an_attribute_of_the_client(self, client: Any, server: ManagementServer) -> None:
        for status, kind in [(410, "Gone"), (403, "Forbidden"), (413, "PayloadTooLarge")]:
            server.on(ID, refuses(status, f"{kind}Exception"))
            with pytest.raises(getattr(client.exceptions, f"{kind}Exception")):
                client.post_to_connection(ConnectionId=ID, Data="hi")

    def test_chalice_makes_its_own_error_of_a_410(self, connect: Connect, server: ManagementServer) -> None:
        api = WebsocketAPI(env={})
        api._client = connect(server.endpoint)
        prepare_any(api)
        server.on(ID, refuses(410, "GoneException"))
        with pytest.raises(WebsocketDisconnectedError):
            api.send(ID, "hi")
        server.on(ID, refuses(410, "GoneException"))
        with pytest.raises(WebsocketDisconnectedError):
            api.close(ID)
        server.on(ID, answer(200, CONNECTION))
        assert api.info(ID)["Identity"]["SourceIp"] == "203.0.113.7"


def prepare_any(api: WebsocketAPI) -> None:
    api.session = object()
    prepare(api, "https://example.com/api")


class TestTryingAgain:
    @pytest.mark.parametrize(
        "passing", [refuses(429, "LimitExceededException"), answer(500), answer(503, b"<html>Busy</html>")]
    )
    def test_what_passes_is_tried_again(self, client: Any, server: ManagementServer, passing: bytes) -> None:
        server.on(ID, passing)
        client.post_to_connection(ConnectionId=ID, Data="hi")
        assert [request.body for request in server.requests] == [b"hi", b"hi"]

    @pytest.mark.parametrize(
        ("lasting", "kind", "code"),
        [
            (refuses(429, "LimitExceededException"), "LimitExceededException", "LimitExceededException"),
            (answer(500), "ClientError", "500"),
            (answer(502, b"<html>Bad</html>"), "ClientError", "502"),
            (answer(504, b'{"message":"late"}'), "ClientError", "504"),
        ],
    )
    def test_what_lasts_is_raised_in_the_end(
        self, client: Any, server: ManagementServer, lasting: bytes, kind: str, code: str
    ) -> None:
        for _ in range(10):
            server.on(ID, lasting)
        with pytest.raises(client.exceptions.ClientError) as refused:
            client.post_to_connection(ConnectionId=ID, Data="hi")
        assert (type(refused.value).__name__, refused.value.response["Error"]["Code"]) == (kind, code)
        retries = len(server.requests) - 1
        assert 1 <= retries < lean.TRIES
        assert f"(reached max retries: {retries})" in str(refused.value)

    def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(
        self, client: Any, server: ManagementServer
    ) -> None:
        server.on("a", OK, closes)
        client.post_to_connection(ConnectionId="a", Data="1")
        client.post_to_connection(ConnectionId="b", Data="2")
        assert [(request.body, request.tcp) for request in server.requests] == [(b"1", 0), (b"2", 1)]

    @pytest.mark.parametrize("ends", [closes, resets])
    @pytest.mark.parametrize("scheme", ["https", "http"])
    @pytest.mark.usefixtures("trusted")
    def test_a_kept_connection_that_ends_without_an_answer_is_replaced_at_once(
        self, connect: Connect, authority: trustme.CA, scheme: str, ends: Any
    ) -> None:
        with serving(authority if scheme == "https" else None) as server:
            client = connect(server.endpoint)
            client.post_to_connection(ConnectionId="a", Data="1")
            server.on("b", ends)
            client.post_to_connection(ConnectionId="b", Data="2")
        assert [(request.body, request.tcp) for request in server.requests] == [(b"1", 0), (b"2", 0), (b"2", 1)]


class TestConnectionsAreKept:
    def test_one_after_another_use_the_same(self, client: Any, server: ManagementServer) -> None:
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


@pytest.mark.usefixtures("impatient")
class TestNobodyAnswers:
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

    def test_because_no_connection_is_let_in(self, connect: Connect) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as crowd:
            for _ in range(4):
                knock = crowd.enter_context(socket.socket())
                knock.setblocking(False)
                knock.connect_ex(listener.getsockname())
            client = connect(f"http://127.0.0.1:{listener.getsockname()[1]}/api")
            with pytest.raises(exceptions.ConnectTimeoutError):
                client.post_to_connection(ConnectionId=ID, Data="hi")

    @pytest.mark.parametrize("ends", [closes, resets])
    def test_because_a_new_connection_is_cut_off(self, client: Any, server: ManagementServer, ends: Any) -> None:
        server.on(ID, ends)
        with pytest.raises(exceptions.ConnectionClosedError):
            client.post_to_connection(ConnectionId=ID, Data="hi")

    @pytest.mark.parametrize("ends", [closes, resets])
    @pytest.mark.parametrize("part", [10, -10], ids=["in its head", "in its body"])
    def test_because_the_answer_is_cut_off(self, client: Any, server: ManagementServer, part: int, ends: Any) -> None:
        server.on(ID, answer(200, CONNECTION)[:part], ends)
        with pytest.raises(exceptions.ConnectionClosedError):
            client.get_connection(ConnectionId=ID)
        assert len(server.requests) == 1

    def test_in_http(self, client: Any, server: ManagementServer) -> None:
        server.on(ID, b"SSH-2.0-OpenSSH_9.6\r\n\r\n", closes)
        with pytest.raises(exceptions.HTTPClientError):
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


class TestTheLeanOneAlone:
    """What boto3's does not do, or cannot be shown to do in a test's time."""

    def test_an_answer_that_trickles_in_is_not_waited_for(self, server: ManagementServer, clock: Clock) -> None:
        def too_much_time_goes_by(_: socket.socket) -> None:
            clock.now += exchange.ANSWER_SECONDS + 1

        first, second, third = OK[:9], OK[9:20], OK[20:]
        server.on(ID, first, pauses(0.1), too_much_time_goes_by, second, pauses(0.1), third)
        tls = trust()
        client = lean.LeanClient(
            server.endpoint, "eu-central-1", lambda: Credentials("a", "s", None), tls, monotonic=clock
        )
        with pytest.raises(exceptions.ReadTimeoutError):
            client.post_to_connection(ConnectionId=ID, Data="hi")

    def test_one_call_takes_less_than_ten_seconds_whatever_happens(self) -> None:
        assert exchange.LONGEST_SECONDS == 8.5
        assert lean.BEGIN_SECONDS + exchange.LONGEST_SECONDS < 10

    def test_no_try_begins_after_its_time(
        self, lean_client: Any, server: ManagementServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lean, "BEGIN_SECONDS", PATIENCE_SECONDS)
        for _ in range(lean.TRIES):
            server.on(ID, pauses(PATIENCE_SECONDS * 0.7), answer(503))
        with pytest.raises(exceptions.ClientError, match="reached max retries: "):
            lean_client.post_to_connection(ConnectionId=ID, Data="hi")
        assert 1 <= len(server.requests) <= 2

    def test_a_kept_connection_that_ends_only_after_a_while_was_not_dead_beforehand(
        self, lean_client: Any, server: ManagementServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange, "DEAD_SECONDS", 0.01)
        lean_client.post_to_connection(ConnectionId="a", Data="hi")
        server.on("b", pauses(0.1), closes)
        with pytest.raises(exceptions.ConnectionClosedError):
            lean_client.post_to_connection(ConnectionId="b", Data="hi")
        assert [request.connection_id for request in server.requests] == ["a", "b"]

    def test_a_host_of_which_no_address_answers_is_given_up(
        self, connect_lean: Connect, server: ManagementServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange, "DIAL_SECONDS", 0)
        with pytest.raises(exceptions.ConnectTimeoutError):
            connect_lean(server.endpoint).post_to_connection(ConnectionId=ID, Data="hi")

    @pytest.mark.usefixtures("impatient")
    def test_a_peer_that_takes_a_connection_and_speaks_no_tls_is_not_waited_for(
        self, connect_lean: Connect, trusted: None
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = connect_lean(f"https://127.0.0.1:{listener.getsockname()[1]}/api")
            with pytest.raises(exceptions.ConnectTimeoutError):
                client.post_to_connection(ConnectionId=ID, Data="hi")

    def test_an_answer_about_a_connection_that_says_something_else_is_an_error(
        self, lean_client: Any, server: ManagementServer
    ) -> None:
        for body in (b"", b"[]", b"{}", b'{"connectedAt":1}'):
            server.on(ID, answer(200, body))
            with pytest.raises(exceptions.HTTPClientError):
                lean_client.get_connection(ConnectionId=ID)

    def test_requests_follow_a_clock_that_is_not_ours(self, lean_client: Any, server: ManagementServer) -> None:
        server.on("a", answer(403, b"", "Date: Mon, 23 Nov 2026 09:30:10 GMT", "x-amzn-ErrorType: ForbiddenException"))
        lean_client.post_to_connection(ConnectionId="a", Data="hi")
        lean_client.post_to_connection(ConnectionId="b", Data="hi")
        dates = [request.headers["x-amz-date"] for request in server.requests]
        assert not dates[0].startswith("20261123T09301")
        assert all("20261123T093010Z" <= date <= "20261123T093030Z" for date in dates[1:])
        assert [request.connection_id for request in server.requests] == ["a", "a", "b"]

    def test_a_refusal_for_another_reason_is_not_tried_again(self, lean_client: Any, server: ManagementServer) -> None:
        now = formatdate(usegmt=True)
        for header in (f"Date: {now}", "Date: yesterday", "X-Other: 1"):
            server.on(ID, answer(403, b"", header, "x-amzn-ErrorType: ForbiddenException"))
            with pytest.raises(lean_client.exceptions.ForbiddenException):
                lean_client.post_to_connection(ConnectionId=ID, Data="hi")
        assert len(server.requests) == 3

    def test_a_clock_is_followed_once_for_each_request(self, lean_client: Any, server: ManagementServer) -> None:
        for day in (22, 21, 20):
            date = f"Date: {formatdate(1_795_426_210 - day * 86_400, usegmt=True)}"
            server.on(ID, answer(403, b"", date, "x-amzn-ErrorType: ForbiddenException"))
        with pytest.raises(lean_client.exceptions.ForbiddenException):
            lean_client.post_to_connection(ConnectionId=ID, Data="hi")
        assert len(server.requests) == 2

    def test_credentials_that_were_renewed_sign_from_the_next_second_on(self, server: ManagementServer) -> None:
        credentials = iter([Credentials("OLD", "secret", None), Credentials("NEW", "secret", "token")])
        clock = Clock(1_795_426_210)
        client = lean.LeanClient(server.endpoint, "eu-central-1", lambda: next(credentials), trust(), clock)
        client.post_to_connection(ConnectionId=ID, Data="hi")
        clock.now += 1
        client.post_to_connection(ConnectionId=ID, Data="hi")
        client.close()
        old, new = (request.headers for request in server.requests)
        assert old["authorization"].startswith("AWS4-HMAC-SHA256 Credential=OLD/")
        assert "x-amz-security-token" not in old
        assert new["authorization"].startswith("AWS4-HMAC-SHA256 Credential=NEW/")
        assert new["x-amz-security-token"] == "token"
