"""Requests are signed as botocore signs them, whatever is in them."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import auth
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws import dynamodb
from chalicelib.aws.exchange import Exchange
from chalicelib.aws.lean import Address, request
from chalicelib.aws.sigv4 import Credentials, second

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
TLS = ssl.create_default_context()


class Boto3:
    """boto3's client of one endpoint, which shows what it would send."""

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
    """It is that time for botocore."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda: datetime.fromtimestamp(epoch, UTC))
        yield


def text(header: str | bytes | None) -> str | None:
    return header.decode() if isinstance(header, bytes) else header


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
    to = Exchange(endpoint, TLS if endpoint.startswith("https:") else None)
    now = second(epoch, to.host, region, credentials)
    ours = request(Address.of(to.path), now, method, connection_id, data if method == "POST" else b"")
    head, _, body = ours.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = dict(header.split(": ", 1) for header in lines)
    assert line == f"{method} {urlsplit(theirs.url).path} HTTP/1.1"
    assert body == ((theirs.body or b"") if method == "POST" else b"")
    for name in ("Authorization", "X-Amz-Date", "X-Amz-Security-Token"):
        assert headers.get(name) == text(theirs.headers.get(name)), name
    assert headers["Content-Length"] == str(len(body))


@given(
    endpoint=st.sampled_from(
        ["https://dynamodb.eu-central-1.amazonaws.com", "http://127.0.0.1:8001", "http://[::1]:8001/"]
    ),
    region=st.sampled_from(["eu-central-1", "us-gov-west-1"]),
    text_=IDS,
    credentials=st.builds(Credentials, WORDS, WORDS, st.none() | WORDS),
    epoch=st.integers(946_684_800, 4_102_444_800),
)
def test_a_request_to_the_table_is_what_botocore_would_send(
    endpoint: str, region: str, text_: str, credentials: Credentials, epoch: int
) -> None:
    asked = {"TableName": "t", "Key": {"PK": {"S": text_}}, "ConsistentRead": True}
    with at(epoch):
        theirs = boto3_at("dynamodb", endpoint, region).prepare("get_item", credentials, **asked)
    host = Exchange(endpoint, TLS if endpoint.startswith("https:") else None).host
    now = second(epoch, host, region, credentials, "dynamodb", dynamodb.headers("GetItem"))
    head, _, body = dynamodb.request(now, json.dumps(asked).encode()).partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = dict(header.split(": ", 1) for header in lines)
    assert line == f"POST {urlsplit(theirs.url).path or '/'} HTTP/1.1"
    assert body == theirs.body
    for name in ("Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Target", "Content-Type"):
        assert headers.get(name) == text(theirs.headers.get(name)), name
    assert headers["Content-Length"] == str(len(body))
