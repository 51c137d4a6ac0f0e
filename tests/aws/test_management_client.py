"""What is behind app.websocket_api: the same truths about our client and boto3's, against a real server over TLS."""

from email.utils import formatdate
from typing import Any

import pytest
import trustme
from botocore import exceptions
from chalice.app import WebsocketAPI, WebsocketDisconnectedError

from chalicelib.aws.management import ManagementClient, prepare
from chalicelib.aws.sigv4 import Credentials
from tests.aws.conftest import PATIENCE_SECONDS, REGION, Connect
from tests.aws.test_http import CONNECTION, ID
from tests.conftest import Clock
from tests.support.management_server import ManagementServer, answer, pauses, refuses, serving

LIMITS = ManagementClient.limits


class TestRequests:
    def test_a_post_brings_its_data_to_the_connection(self, client: Any, server: ManagementServer) -> None:
        client.post_to_connection(ConnectionId=ID, Data="é")
        (request,) = server.requests
        assert (request.method, request.path, request.body) == (
            "POST",
            "/api/@connections/L0SM9cOFvHcCIhw%3D",
            "é".encode(),
        )

    def test_data_may_be_bytes(self, client: Any, server: ManagementServer) -> None:
        client.post_to_connection(ConnectionId=ID, Data=b"\x00\xff")
        assert server.requests[0].body == b"\x00\xff"

    def test_a_connection_is_looked_up(self, client: Any, server: ManagementServer) -> None:
        server.on(ID, answer(200, CONNECTION))
        found = client.get_connection(ConnectionId=ID)
        assert found["ConnectedAt"].isoformat() == "2026-11-23T09:30:00.123000+00:00"
        assert found["LastActiveAt"].isoformat() == "2026-11-23T09:30:01+00:00"
        assert found["Identity"] == {"SourceIp": "203.0.113.7", "UserAgent": "Tests/1.0"}
        assert server.requests[0].method == "GET"

    def test_a_connection_is_closed(self, client: Any, server: ManagementServer) -> None:
        server.on(ID, b"HTTP/1.1 204 No Content\r\nx-amzn-RequestId: R1\r\n\r\n")
        closed = client.delete_connection(ConnectionId=ID)
        assert server.requests[0].method == "DELETE"
        assert closed["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert closed["ResponseMetadata"]["RequestId"] == "R1"

    def test_a_local_endpoint_needs_no_tls(self, connect: Connect) -> None:
        with serving(None) as server:
            connect(server.endpoint).post_to_connection(ConnectionId=ID, Data="hi")
            assert [request.body for request in server.requests] == [b"hi"]

    def test_new_credentials_sign_from_the_next_second_on(self, server: ManagementServer) -> None:
        credentials = iter([Credentials("OLD", "secret", None), Credentials("NEW", "secret", "token")])
        clock = Clock(1_795_426_210)
        client = ManagementClient(server.endpoint, REGION, lambda: next(credentials), clock=clock)
        client.post_to_connection(ConnectionId=ID, Data="hi")
        clock.now += 1
        client.post_to_connection(ConnectionId=ID, Data="hi")
        client.close()
        old, new = (request.headers for request in server.requests)
        assert old["authorization"].startswith("AWS4-HMAC-SHA256 Credential=OLD/")
        assert "x-amz-security-token" not in old
        assert new["authorization"].startswith("AWS4-HMAC-SHA256 Credential=NEW/")
        assert new["x-amz-security-token"] == "token"


class TestLongRequests:
    @pytest.fixture
    def patience(self) -> float:
        """Long enough for five megabytes on a busy machine."""
        return 60

    @pytest.mark.parametrize("has_tls", [True, False])
    def test_a_long_one_arrives_whole(
        self, connect: Connect, authority: trustme.CA, trusted: None, has_tls: bool
    ) -> None:
        data = "0123456789" * 500_000
        with serving(authority if has_tls else None) as server:
            connect(server.endpoint).post_to_connection(ConnectionId=ID, Data=data)
        assert server.requests[0].body == data.encode()


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
    def test_a_refusal_is_raised_by_its_code(
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
        api.session = object()
        prepare(api, "https://example.com/api")
        server.on(ID, refuses(410, "GoneException"))
        with pytest.raises(WebsocketDisconnectedError):
            api.send(ID, "hi")
        server.on(ID, refuses(410, "GoneException"))
        with pytest.raises(WebsocketDisconnectedError):
            api.close(ID)
        server.on(ID, answer(200, CONNECTION))
        assert api.info(ID)["Identity"]["SourceIp"] == "203.0.113.7"

    def test_a_connection_that_is_described_wrongly_is_an_error(self, ours: Any, server: ManagementServer) -> None:
        for body in (b"", b"[]", b"{}", b'{"connectedAt":1}'):
            server.on(ID, answer(200, body))
            with pytest.raises(exceptions.HTTPClientError):
                ours.get_connection(ConnectionId=ID)
        assert len(server.requests) == 4


class TestRetries:
    @pytest.mark.parametrize(
        "passing", [refuses(429, "LimitExceededException"), answer(500), answer(503, b"<html>Busy</html>")]
    )
    def test_what_may_pass_is_retried(self, client: Any, server: ManagementServer, passing: bytes) -> None:
        server.on(ID, passing)
        client.post_to_connection(ConnectionId=ID, Data="hi")
        assert [request.body for request in server.requests] == [b"hi", b"hi"]

    @pytest.mark.parametrize(
        ("lasting", "kind_", "code"),
        [
            (refuses(429, "LimitExceededException"), "LimitExceededException", "LimitExceededException"),
            (answer(500), "ClientError", "500"),
            (answer(502, b"<html>Bad</html>"), "ClientError", "502"),
            (answer(504, b'{"message":"late"}'), "ClientError", "504"),
        ],
    )
    @pytest.mark.slow
    def test_what_lasts_is_raised_in_the_end(
        self, client: Any, server: ManagementServer, lasting: bytes, kind_: str, code: str
    ) -> None:
        for _ in range(10):
            server.on(ID, lasting)
        with pytest.raises(client.exceptions.ClientError) as refused:
            client.post_to_connection(ConnectionId=ID, Data="hi")
        assert (type(refused.value).__name__, refused.value.response["Error"]["Code"]) == (kind_, code)
        retries = len(server.requests) - 1
        assert 1 <= retries < LIMITS.tries
        assert f"(reached max retries: {retries})" in str(refused.value)

    def test_one_call_takes_less_than_ten_seconds_whatever_happens(self) -> None:
        assert LIMITS.longest_seconds == 8.5
        assert LIMITS.begin_seconds + LIMITS.longest_seconds < 10

    @pytest.mark.slow
    def test_no_try_begins_after_its_time(self, connect_ours: Connect, server: ManagementServer) -> None:
        client = connect_ours(server.endpoint, limits=LIMITS._replace(begin_seconds=PATIENCE_SECONDS))
        for _ in range(LIMITS.tries):
            server.on(ID, pauses(PATIENCE_SECONDS * 0.7), answer(503))
        with pytest.raises(exceptions.ClientError, match="reached max retries: "):
            client.post_to_connection(ConnectionId=ID, Data="hi")
        assert 1 <= len(server.requests) <= 2


class TestClocks:
    def test_requests_follow_aws_clock(self, ours: Any, server: ManagementServer) -> None:
        server.on("a", answer(403, b"", "Date: Mon, 23 Nov 2026 09:30:10 GMT", "x-amzn-ErrorType: ForbiddenException"))
        ours.post_to_connection(ConnectionId="a", Data="hi")
        ours.post_to_connection(ConnectionId="b", Data="hi")
        dates = [request.headers["x-amz-date"] for request in server.requests]
        assert not dates[0].startswith("20261123T09301")
        assert all("20261123T093010Z" <= date <= "20261123T093030Z" for date in dates[1:])
        assert [request.connection_id for request in server.requests] == ["a", "a", "b"]

    def test_a_refusal_for_another_reason_is_not_retried(self, ours: Any, server: ManagementServer) -> None:
        now = formatdate(usegmt=True)
        for header in (f"Date: {now}", "Date: yesterday", "X-Other: 1"):
            server.on(ID, answer(403, b"", header, "x-amzn-ErrorType: ForbiddenException"))
            with pytest.raises(ours.exceptions.ForbiddenException):
                ours.post_to_connection(ConnectionId=ID, Data="hi")
        assert len(server.requests) == 3

    def test_a_clock_is_followed_once_per_request(self, ours: Any, server: ManagementServer) -> None:
        for day in (22, 21, 20):
            date = f"Date: {formatdate(1_795_426_210 - day * 86_400, usegmt=True)}"
            server.on(ID, answer(403, b"", date, "x-amzn-ErrorType: ForbiddenException"))
        with pytest.raises(ours.exceptions.ForbiddenException):
            ours.post_to_connection(ConnectionId=ID, Data="hi")
        assert len(server.requests) == 2
