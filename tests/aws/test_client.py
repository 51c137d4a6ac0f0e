"""Retries, deadlines, clocks and the choice of a client: for every service in JSON, beside boto3's clients."""

from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import boto3
import pytest
import trustme
from botocore import exceptions
from botocore.retries.standard import ThrottledRetryableChecker

from chalicelib.aws.client import THROTTLED_CODES, JsonClient, connect
from chalicelib.aws.dynamodb import DynamoDBClient
from chalicelib.aws.queue import SQSClient
from chalicelib.aws.sigv4 import Credentials
from tests.aws.conftest import PATIENCE_SECONDS, REGION
from tests.conftest import Clock
from tests.support.management_server import (
    ManagementServer,
    Move,
    answer,
    closes,
    json_answer,
    json_refusal,
    pauses,
    serving,
)

ITEM = {"Item": {"n": {"N": "7"}}}
URL = {"QueueUrl": "https://sqs.eu-central-1.amazonaws.com/123456789012/q"}
# Each client, with one of its calls and what may be answered.
Ask = Callable[[Any], dict[str, Any]]
SERVICES: dict[str, tuple[type[JsonClient], Ask, dict[str, Any]]] = {
    "dynamodb": (DynamoDBClient, lambda client: client.get_item(TableName="t", Key={"PK": {"S": "P"}}), ITEM),
    "sqs": (SQSClient, lambda client: client.get_queue_url(QueueName="q"), URL),
}
OURS = [DynamoDBClient, SQSClient]


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> tuple[type[JsonClient], Ask, dict[str, Any]]:
    return SERVICES[request.param]


class TestRetries:
    @pytest.fixture
    def ask(self, service: Any, connect_json: Any) -> Callable[[], Any]:
        """Calls the service, with our client or boto3's, and returns the content of the response."""
        client = connect_json(service[0])

        def ask() -> Any:
            content = service[1](client)
            content.pop("ResponseMetadata", None)
            return content

        return ask

    @pytest.mark.parametrize(
        "bad",
        [
            *(pytest.param(json_refusal(code), id=code) for code in sorted(THROTTLED_CODES)),
            pytest.param(json_refusal("InternalServerError", 500), id="500"),
            pytest.param(answer(503), id="503"),
            pytest.param(closes, id="closed"),
        ],
    )
    def test_what_may_pass_is_retried(
        self, json_server: ManagementServer, service: Any, ask: Callable[[], Any], bad: Move
    ) -> None:
        json_server.then(bad, bad, json_answer(service[2]))
        assert ask() == service[2]
        assert len(json_server.requests) == 3
        assert len({request.body for request in json_server.requests}) == 1

    @pytest.mark.parametrize(
        ("bad", "reason"),
        [(json_refusal("ThrottlingException"), "ThrottlingException"), (answer(503), "503"), (closes, "endpoint URL")],
    )
    def test_retries_are_limited(
        self, json_server: ManagementServer, service: Any, ask: Callable[[], Any], bad: Move, reason: str
    ) -> None:
        json_server.then(*[bad] * 9)
        with pytest.raises((exceptions.ClientError, exceptions.ConnectionClosedError), match=reason) as failed:
            ask()
        tries = len(json_server.requests)
        assert 3 <= tries <= service[0].limits.tries
        if isinstance(failed.value, exceptions.ClientError):
            assert f"(reached max retries: {tries - 1})" in str(failed.value)

    def test_a_damaged_answer_is_retried(self, json_server: ManagementServer, kind: Any, connect_json: Any) -> None:
        damaged = answer(200, b'{"Item":{}}', "x-amz-crc32: 1")
        json_server.then(damaged, damaged, json_answer(ITEM))
        content = connect_json(DynamoDBClient).get_item(TableName="t", Key={"PK": {"S": "P"}})
        assert content["Item"] == ITEM["Item"]
        assert len(json_server.requests) == 3

    @pytest.mark.parametrize(
        "code", ["ValidationException", "AccessDeniedException", "ConditionalCheckFailedException"]
    )
    def test_what_is_wrong_is_not_retried(
        self, json_server: ManagementServer, ask: Callable[[], Any], code: str
    ) -> None:
        json_server.then(json_refusal(code))
        with pytest.raises(exceptions.ClientError, match=rf"^An error occurred \({code}\) when calling the .*: No\.$"):
            ask()
        assert len(json_server.requests) == 1

    def test_our_throttling_codes_are_those_of_boto3(self) -> None:
        assert set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES) >= THROTTLED_CODES


class TestTimeouts:
    @pytest.fixture
    def patience(self) -> float:
        return PATIENCE_SECONDS

    def test_what_is_not_answered_is_retried(
        self, json_server: ManagementServer, service: Any, connect_json: Any
    ) -> None:
        client = connect_json(service[0])
        json_server.then(pauses(2 * PATIENCE_SECONDS), json_answer(service[2]))
        assert service[1](client).items() >= service[2].items()
        assert len(json_server.requests) == 2


class TestOurs:
    """What boto3's client does otherwise, or cannot be shown to do in a test's time."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock(1_795_426_210.0)

    @pytest.fixture
    def ours(self, json_server: ManagementServer, service: Any, clock: Clock) -> Iterator[JsonClient]:
        self.credentials = Credentials("A", "secret", "token")
        client = self.connect(service[0], json_server.endpoint, clock)
        yield client
        client.close()

    def connect(self, ours: type[JsonClient], endpoint: str, clock: Clock) -> JsonClient:
        self.pauses: list[float] = []
        return ours(
            endpoint,
            REGION,
            lambda: self.credentials,
            clock=clock,
            monotonic=clock,
            sleep=self.pauses.append,
            jitter=lambda: 1.0,
        )

    def test_pauses_double(self, json_server: ManagementServer, service: Any, ours: JsonClient) -> None:
        json_server.then(*[answer(500)] * 5)
        with pytest.raises(exceptions.ClientError):
            service[1](ours)
        assert self.pauses == ([0.2, 0.4, 0.8, 1.6] if ours.service == "dynamodb" else [1, 2])

    def test_no_try_begins_when_the_caller_must_be_answered(
        self, json_server: ManagementServer, service: Any, ours: JsonClient, clock: Clock
    ) -> None:
        def late(_: object) -> None:
            clock.now += ours.limits.begin_seconds + 1

        json_server.on("", late, answer(500))
        with pytest.raises(exceptions.ClientError):
            service[1](ours)
        assert len(json_server.requests) == 1

    @pytest.mark.parametrize("ours", OURS)
    def test_a_handler_that_waits_for_a_call_is_answered_in_time(self, ours: type[JsonClient]) -> None:
        assert ours.limits.begin_seconds + ours.limits.longest_seconds < 29

    def test_new_credentials_count_within_a_second(
        self, json_server: ManagementServer, service: Any, ours: JsonClient, clock: Clock
    ) -> None:
        json_server.then(json_answer(service[2]), json_answer(service[2]))
        service[1](ours)
        self.credentials = Credentials("B", "secret", None)
        clock.now += 1
        service[1](ours)
        first, then = (request.headers for request in json_server.requests)
        assert "Credential=A/" in first["authorization"]
        assert first["x-amz-security-token"] == "token"
        assert "Credential=B/" in then["authorization"]
        assert "x-amz-security-token" not in then

    def test_a_clock_that_is_minutes_off_is_set_and_stays_set(
        self, json_server: ManagementServer, service: Any, ours: JsonClient, clock: Clock
    ) -> None:
        date = f"Date: {formatdate(clock.now + 600, usegmt=True)}"
        json_server.then(json_refusal("InvalidSignatureException", 400, date), *[json_answer(service[2])] * 2)
        assert [service[1](ours), service[1](ours)] == [service[2], service[2]]
        stamps = [request.headers["x-amz-date"] for request in json_server.requests]
        assert stamps == ["20261123T093010Z", "20261123T094010Z", "20261123T094010Z"]

    @pytest.mark.parametrize(("seconds_off", "requests"), [(0, 1), (600, 2)])
    def test_a_signature_that_stays_wrong_is_refused(
        self,
        json_server: ManagementServer,
        service: Any,
        ours: JsonClient,
        clock: Clock,
        seconds_off: int,
        requests: int,
    ) -> None:
        date = f"Date: {formatdate(clock.now + seconds_off, usegmt=True)}"
        json_server.then(*[json_refusal("InvalidSignatureException", 400, date)] * 3)
        with pytest.raises(exceptions.ClientError, match="InvalidSignatureException"):
            service[1](ours)
        assert len(json_server.requests) == requests

    def test_a_clock_that_runs_away_is_followed_once(
        self, json_server: ManagementServer, service: Any, ours: JsonClient, clock: Clock
    ) -> None:
        for tries in range(1, 9):
            date = f"Date: {formatdate(clock.now + 600 * tries, usegmt=True)}"
            json_server.then(json_refusal("InvalidSignatureException", 400, date))
        with pytest.raises(exceptions.ClientError):
            service[1](ours)
        assert len(json_server.requests) == 2

    def test_a_refusal_by_a_clock_that_is_off_is_a_refusal(
        self, json_server: ManagementServer, service: Any, ours: JsonClient, clock: Clock
    ) -> None:
        date = f"Date: {formatdate(clock.now + 600, usegmt=True)}"
        json_server.then(json_refusal("ConditionalCheckFailedException", 400, date))
        with pytest.raises(ours.exceptions.ConditionalCheckFailedException):
            service[1](ours)
        assert len(json_server.requests) == 1

    def test_an_unreachable_host_is_tried_again_too(self, service: Any, clock: Clock) -> None:
        self.credentials = Credentials("A", "secret", None)
        client = self.connect(service[0], "http://127.0.0.1:9", clock)
        with pytest.raises(exceptions.EndpointConnectionError):
            service[1](client)
        assert len(self.pauses) == client.limits.tries - 1

    @pytest.mark.parametrize("body", [b"<html>", b"\xff"])
    def test_what_is_not_json_is_retried_and_then_an_error(
        self, json_server: ManagementServer, service: Any, ours: JsonClient, body: bytes
    ) -> None:
        json_server.then(*[answer(200, body)] * 5)
        with pytest.raises(exceptions.HTTPClientError):
            service[1](ours)
        assert len(json_server.requests) == ours.limits.tries

    def test_no_more_is_read_than_a_body_may_have(
        self, json_server: ManagementServer, service: Any, ours: JsonClient
    ) -> None:
        json_server.then(*[answer(200, b" " * (ours.limits.max_body_bytes + 1))] * 5)
        with pytest.raises(exceptions.HTTPClientError):
            service[1](ours)


@pytest.mark.parametrize("ours", OURS)
class TestWhichClient:
    def test_the_setting_decides(self, session: boto3.session.Session, ours: type[JsonClient]) -> None:
        assert isinstance(connect(ours, session, "lean"), ours)
        assert connect(ours, session, "boto3").meta.service_model.service_name == ours.service

    def test_it_speaks_tls_where_the_endpoint_does(
        self,
        session: boto3.session.Session,
        ours: type[JsonClient],
        authority: trustme.CA,
        trusted: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        _, ask, content = SERVICES[ours.service]
        with serving(authority, path="") as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
            monkeypatch.delenv(f"AWS_ENDPOINT_URL_{ours.service.upper()}")
            server.then(json_answer(content))
            assert ask(connect(ours, session, "lean")) == content

    @pytest.mark.parametrize("variable", ["HTTP_PROXY", "AWS_USE_FIPS_ENDPOINT"])
    def test_boto3_takes_over_where_only_it_knows_the_way(
        self,
        session: boto3.session.Session,
        ours: type[JsonClient],
        variable: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO", logger="chalicelib")
        monkeypatch.setenv(variable, "http://proxy.example.com:3128")
        monkeypatch.setattr(session, "client", lambda *_, **__: "boto3's", raising=False)
        assert connect(ours, session, "lean") == "boto3's"
        assert caplog.messages == [
            f"Only boto3 knows the way to {ours.title} here, so it asks: it needs more time to start."
        ]


def test_limits_are_an_argument(json_server: ManagementServer) -> None:
    limits = DynamoDBClient.limits._replace(tries=1)
    client = DynamoDBClient(
        json_server.endpoint, REGION, lambda: Credentials("A", "s", None), limits=limits, sleep=lambda _: None
    )
    json_server.then(answer(500))
    with pytest.raises(exceptions.ClientError):
        client.get_item(TableName="t", Key={})
    client.close()
    assert len(json_server.requests) == 1
