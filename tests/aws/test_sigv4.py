"""Requests are signed as botocore signs them, whatever is in them, and follow the credentials and AWS's clock."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from functools import cache
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import auth
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.client import JsonClient
from chalicelib.aws.dynamodb import DynamoDBClient
from chalicelib.aws.http import Exchange, Limits
from chalicelib.aws.management import connection_request
from chalicelib.aws.queue import SQSClient
from chalicelib.aws.sigv4 import SKEW_SECONDS, Credentials, Signer, signed_request
from tests.conftest import Clock

OPERATIONS = {"POST": "post_to_connection", "GET": "get_connection", "DELETE": "delete_connection"}
ENDPOINTS = (
    "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api",
    "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/$default/",
    "https://a1b2c3d4e5.execute-api.cn-north-1.amazonaws.com.cn:443/~stage/with-more_of.it/@x",
    "https://vpce-1-2.execute-api.us-gov-west-1.vpce.amazonaws.com:8443/dev",
    "http://127.0.0.1:8001/api",
    "http://LOCALHOST:80/api",
    "http://[::1]:8001/api",
    "http://[::1]",
)
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
WORDS = st.text("ABCxyz019/+=", min_size=1, max_size=40)


class Boto3:
    """A client of boto3's for one endpoint, which shows what it would send."""

    def __init__(self, service: str, endpoint: str, region: str) -> None:
        session = boto3.session.Session(aws_access_key_id="-", aws_secret_access_key="-", region_name=region)
        self.credentials = session.get_credentials()
        self.client: Any = session.client(service, endpoint_url=endpoint)
        self.client.meta.events.register("before-send", self._keep)

    def _keep(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        self.sent = request
        response = AWSResponse(request.url, 200, {}, None)
        response._content = b"{}"
        return response

    def prepare(self, operation: str, credentials: Credentials, **asked: Any) -> AWSPreparedRequest:
        self.credentials.access_key, self.credentials.secret_key, self.credentials.token = credentials
        getattr(self.client, operation)(**asked)
        return self.sent


@cache
def boto3_at(service: str, endpoint: str, region: str) -> Boto3:
    return Boto3(service, endpoint, region)


@contextmanager
def at(epoch: int) -> Iterator[None]:
    """Set the time for botocore."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda: datetime.fromtimestamp(epoch, UTC))
        yield


def text(header: str | bytes | None) -> str | None:
    return header.decode() if isinstance(header, bytes) else header


@pytest.mark.slow
@given(
    endpoint=st.sampled_from(ENDPOINTS),
    region=st.sampled_from(["eu-central-1", "us-gov-west-1"]),
    method=st.sampled_from(sorted(OPERATIONS)),
    # These two mean directories; botocore signs something else than it sends.
    connection_id=IDS.filter(lambda id_: id_ not in (".", "..")),
    data=IDS | st.binary(max_size=200),
    credentials=st.builds(Credentials, WORDS, WORDS, st.none() | WORDS),
    epoch=st.integers(946_684_800, 4_102_444_800),
)
def test_a_request_is_what_botocore_would_send(
    endpoint: str,
    region: str,
    method: str,
    connection_id: str,
    data: str | bytes,
    credentials: Credentials,
    epoch: int,
) -> None:
    asked = {"ConnectionId": connection_id} | ({"Data": data} if method == "POST" else {})
    with at(epoch):
        management = boto3_at("apigatewaymanagementapi", endpoint, region)
        theirs = management.prepare(OPERATIONS[method], credentials, **asked)
    exchange = Exchange(endpoint, Limits())
    now = Signer(exchange.host, region, "execute-api", lambda: credentials, lambda: epoch).now()
    ours = connection_request(now, method, exchange.path, connection_id, data if method == "POST" else b"")
    head, _, body = ours.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = dict(header.split(": ", 1) for header in lines)
    assert line == f"{method} {urlsplit(theirs.url).path} HTTP/1.1"
    assert body == ((theirs.body or b"") if method == "POST" else b"")
    for name in ("Authorization", "X-Amz-Date", "X-Amz-Security-Token"):
        assert headers.get(name) == text(theirs.headers.get(name)), name
    assert headers["Content-Length"] == str(len(body))


JSON_CALLS: list[tuple[type[JsonClient], str, str, Any]] = [
    (DynamoDBClient, "GetItem", "get_item", lambda text: {"TableName": "t", "Key": {"PK": {"S": text}}}),
    (SQSClient, "GetQueueUrl", "get_queue_url", lambda text: {"QueueName": text}),
    (
        SQSClient,
        "SendMessage",
        "send_message",
        lambda text: {"QueueUrl": "https://sqs.invalid/0/q", "MessageBody": text, "DelaySeconds": 7},
    ),
]


@pytest.mark.slow
@given(
    call=st.sampled_from(JSON_CALLS),
    endpoint=st.sampled_from(
        ["https://dynamodb.eu-central-1.amazonaws.com", "http://127.0.0.1:8001", "http://[::1]:8001/"]
    ),
    region=st.sampled_from(["eu-central-1", "us-gov-west-1"]),
    text_=IDS,
    credentials=st.builds(Credentials, WORDS, WORDS, st.none() | WORDS),
    epoch=st.integers(946_684_800, 4_102_444_800),
)
def test_a_request_in_json_is_what_botocore_would_send(
    call: tuple[type[JsonClient], str, str, Any],
    endpoint: str,
    region: str,
    text_: str,
    credentials: Credentials,
    epoch: int,
) -> None:
    client, operation, method, parameters_of = call
    parameters = parameters_of(text_)
    with at(epoch):
        theirs = boto3_at(client.service, endpoint, region).prepare(method, credentials, **parameters)
    host = Exchange(endpoint, Limits()).host
    signer = Signer(host, region, client.service, lambda: credentials, lambda: epoch)
    now = signer.now(operation, client.headers(operation))
    body = json.dumps(parameters).encode()
    head, _, sent = signed_request(now, "POST", "/", "/", body, sha256(body).hexdigest()).partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (header.split(": ", 1) for header in lines)}
    assert line == f"POST {urlsplit(theirs.url).path or '/'} HTTP/1.1"
    assert sent == theirs.body
    ignored = ("user-agent", "amz-sdk-invocation-id", "amz-sdk-request")
    expected = {name.lower(): text(value) for name, value in theirs.headers.items() if name.lower() not in ignored}
    assert headers == expected | {"host": host, "user-agent": "Peal"}


class TestSigner:
    @pytest.fixture
    def signer(self, clock: Clock) -> Signer:
        return Signer("h", "eu-central-1", "dynamodb", lambda: Credentials("A", "s", None), clock)

    def test_what_a_second_has_in_common_is_made_once_per_kind(self, signer: Signer, clock: Clock) -> None:
        get = signer.now("Get", {"X-Amz-Target": "Get"})
        assert signer.now("Get", {"X-Amz-Target": "Get"}) is get
        assert signer.now("Put", {"X-Amz-Target": "Put"}) is not get
        clock.now += 1
        assert signer.now("Get", {"X-Amz-Target": "Get"}) is not get

    @pytest.mark.parametrize("off", [SKEW_SECONDS, -SKEW_SECONDS, 86_400])
    def test_a_clock_that_is_far_off_is_set(self, signer: Signer, clock: Clock, off: int) -> None:
        assert signer.set_clock(formatdate(clock.now + off, usegmt=True), signer.now())
        assert signer.now().epoch == clock.now + off
        assert not signer.set_clock(formatdate(clock.now + off, usegmt=True), signer.now())

    def test_each_request_signed_before_may_sign_again(self, signer: Signer, clock: Clock) -> None:
        first = second = signer.now()
        assert signer.set_clock(formatdate(clock.now + 600, usegmt=True), first)
        assert signer.set_clock(formatdate(clock.now + 600, usegmt=True), second)
        assert signer.now().epoch == clock.now + 600

    @pytest.mark.parametrize("date", ["", "yesterday"])
    def test_without_a_date_the_clock_stays(self, signer: Signer, date: str) -> None:
        assert not signer.set_clock(date, signer.now())

    def test_a_few_seconds_do_not_count(self, signer: Signer, clock: Clock) -> None:
        assert not signer.set_clock(formatdate(clock.now + SKEW_SECONDS - 1, usegmt=True), signer.now())
