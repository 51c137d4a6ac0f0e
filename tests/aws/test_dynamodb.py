"""What is behind the table: the same truths about both clients, against a server that answers as a test says."""

import json
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.endpoint
import pytest
import trustme
from boto3.dynamodb.types import TypeSerializer
from botocore import exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.aws import dynamodb, exchange
from chalicelib.aws.dynamodb import LeanDynamoDB, connect, find_endpoint
from chalicelib.aws.sigv4 import Credentials
from chalicelib.errors import TableError
from chalicelib.store.table import Table, Value
from tests.conftest import Clock
from tests.support.management_server import ManagementServer, Move, answer, closes, pauses, serving

KEY = {"PK": "P", "SK": "S"}
PATIENCE_SECONDS = 0.5
CONFIG = {"connect_timeout": 1, "read_timeout": 3, "retries": {"mode": "standard", "total_max_attempts": 3}}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither client pauses before it tries again."""
    monkeypatch.setattr(dynamodb, "FIRST_PAUSE_SECONDS", 0)
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "ANSWER_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setitem(CONFIG, "read_timeout", PATIENCE_SECONDS)


@pytest.fixture
def server() -> Iterator[ManagementServer]:
    with serving(None) as server:
        server.endpoint = server.endpoint.removesuffix("/api")
        yield server


@pytest.fixture(params=["lean", "boto3"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(
    kind: Any, server: ManagementServer, session: boto3.session.Session, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.endpoint)
    client = connect(session, kind, CONFIG)
    assert isinstance(client, LeanDynamoDB) == (kind == "lean")
    yield client
    client.close()


@pytest.fixture
def rows(client: Any) -> Table:
    return Table(client, "t", lambda: 0)


def says(content: dict[str, Any], status: int = 200) -> bytes:
    """An answer as DynamoDB gives it."""
    body = json.dumps(content).encode()
    return answer(status, body, "Content-Type: application/x-amz-json-1.0", f"x-amz-crc32: {zlib.crc32(body)}")


def refuses(code: str, status: int = 400, **told: Any) -> bytes:
    return says({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "No.", **told}, status)


def on(server: ManagementServer, *answers: Move) -> None:
    """The next requests are answered so, one after the other."""
    for each in answers:
        server.on("", each)


ITEM = {"Item": {"PK": {"S": "P"}, "SK": {"S": "S"}, "n": {"N": "7"}, "all": {"SS": ["a", "b"]}, "raw": {"B": "AA=="}}}
PLAIN = {"PK": "P", "SK": "S", "n": 7, "all": frozenset("ab")}


class TestWhatIsAsked:
    def test_both_clients_ask_the_same(self, server: ManagementServer, client: Any, rows: Table) -> None:
        for content in (
            *({}, {}, ITEM, {"Attributes": ITEM["Item"]}, {}, {}),
            *({"UnprocessedItems": {}}, {"Items": []}, {"Items": []}, {"Items": []}, {"Items": []}),
        ):
            on(server, says(content))
        rows.put({**KEY, "text": 'é"\n', "n": 1, "none": None, "all": frozenset("ba")}, "#n < :n", {":n": 3})
        rows.put_new(KEY)
        assert rows.get(KEY) == PLAIN
        assert rows.update(KEY, "SET #n = :n", {":n": 1}).item == PLAIN
        rows.delete(KEY)
        rows.put_both(KEY, KEY)
        rows.write([KEY], [KEY])
        list(rows.query("P", "0", "9", ["n"], page_items=5))
        list(rows.connections_of("u_1"))
        list(rows.connections())
        list(rows.listed_connections(1, 4, KEY, page_items=5))
        asked = [
            (request.headers["x-amz-target"].partition(".")[2], json.loads(request.body)) for request in server.requests
        ]
        tokens = [body.pop("ClientRequestToken") for _, body in asked if "TransactItems" in body]
        assert len(tokens) == 1
        assert 1 <= len(tokens[0]) <= 36
        assert asked == ASKED
        for request in server.requests:
            assert (request.method, request.path) == ("POST", "/")
            assert request.headers["content-type"] == "application/x-amz-json-1.0"
            assert "/eu-central-1/dynamodb/aws4_request, SignedHeaders=" in request.headers["authorization"]

    def test_a_connection_is_used_again(self, server: ManagementServer, rows: Table) -> None:
        on(server, says({}), says({}))
        rows.get(KEY)
        rows.get(KEY)
        assert [request.tcp for request in server.requests] == [0, 0]


class TestPages:
    def test_are_read_one_after_the_other_as_they_are_asked_for(self, server: ManagementServer, rows: Table) -> None:
        key = {"PK": {"S": "P"}, "SK": {"S": "1"}}
        on(server, says({"Items": [{"SK": {"S": "1"}}], "LastEvaluatedKey": key}))
        items = rows.query("P", "0", "9")
        assert next(items) == {"SK": "1"}
        assert len(server.requests) == 1
        on(server, says({"Items": [], "LastEvaluatedKey": key}), says({"Items": [{"SK": {"S": "2"}}]}))
        assert list(items) == [{"SK": "2"}]
        assert [json.loads(request.body).get("ExclusiveStartKey") for request in server.requests] == [None, key, key]

    def test_may_be_as_large_as_dynamodb_makes_them(self, server: ManagementServer, rows: Table) -> None:
        items = [{"SK": {"S": f"{n}"}, "data": {"S": '"' * 250_000}} for n in range(4)]
        on(server, says({"Items": items}))
        assert [len(str(item["data"])) for item in rows.query("P", "0", "9")] == [250_000] * 4


class TestConditions:
    def test_what_stands_in_the_way_is_told(self, server: ManagementServer, rows: Table) -> None:
        on(server, refuses("ConditionalCheckFailedException", **ITEM))
        written = rows.update(KEY, "SET #n = :n", {":n": 1}, "#n < :n")
        assert (written.applied, written.item) == (False, PLAIN)

    def test_what_cancelled_a_transaction_is_told(self, server: ManagementServer, rows: Table) -> None:
        reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed", **ITEM}]
        on(server, refuses("TransactionCanceledException", CancellationReasons=reasons))
        assert rows.put_both(KEY, KEY) == (None, PLAIN)


THROTTLED = ("ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException")


class TestTryingAgain:
    @pytest.mark.parametrize(
        "bad",
        [
            *(pytest.param(refuses(code), id=code) for code in THROTTLED),
            pytest.param(refuses("TransactionInProgressException"), id="in progress"),
            pytest.param(refuses("InternalServerError", 500), id="500"),
            pytest.param(answer(503), id="503"),
            pytest.param(answer(200, b'{"Item":{}}', "x-amz-crc32: 1"), id="damaged"),
            pytest.param(closes, id="closed"),
        ],
    )
    def test_what_is_over_soon_is_waited_for(self, server: ManagementServer, rows: Table, bad: Move) -> None:
        on(server, bad, bad, says(ITEM))
        assert rows.get(KEY) == PLAIN
        assert len(server.requests) == 3
        assert len({request.body for request in server.requests}) == 1

    def test_a_transaction_is_sent_again_under_its_own_token(self, server: ManagementServer, rows: Table) -> None:
        on(server, closes, says({}))
        assert rows.put_both(KEY, KEY) == (None, None)
        assert len({json.loads(request.body)["ClientRequestToken"] for request in server.requests}) == 1

    @pytest.mark.parametrize(
        ("bad", "reason"),
        [
            (refuses("ThrottlingException"), "ThrottlingException"),
            (answer(503), "503"),
            (closes, "ConnectionClosedError"),
        ],
    )
    def test_but_not_for_ever(self, server: ManagementServer, rows: Table, bad: Move, reason: str) -> None:
        on(server, *[bad] * 9)
        with pytest.raises(TableError, match=f"^DynamoDB GetItem failed: {reason}$"):
            rows.get(KEY)
        assert 3 <= len(server.requests) <= dynamodb.TRIES

    def test_what_is_not_answered_is_asked_again(self, impatient: None, server: ManagementServer, client: Any) -> None:
        on(server, pauses(2 * PATIENCE_SECONDS), says(ITEM))
        assert Table(client, "t", lambda: 0).get(KEY) == PLAIN

    @pytest.mark.parametrize("code", ["ValidationException", "AccessDeniedException", "ResourceNotFoundException"])
    def test_what_is_wrong_stays_wrong(self, server: ManagementServer, rows: Table, code: str) -> None:
        on(server, refuses(code))
        with pytest.raises(TableError, match=f"^DynamoDB Query failed: {code}$"):
            next(rows.query("P", "0", "9"))
        assert len(server.requests) == 1


class TestOurs:
    """What boto3's client does otherwise, or cannot be shown to do in a test's time."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock(1_795_426_210.0)

    @pytest.fixture
    def client(self, server: ManagementServer, clock: Clock) -> Iterator[LeanDynamoDB]:
        self.credentials = Credentials("A", "secret", "token")
        self.pauses: list[float] = []
        self.longest: list[float] = []
        client = LeanDynamoDB(
            server.endpoint, "eu-central-1", lambda: self.credentials, None, clock, clock, self.pause, lambda: 1.0
        )
        yield client
        client.close()

    @pytest.fixture
    def kind(self) -> str:
        return "lean"

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def test_pauses_grow_from_one_to_the_next(
        self, server: ManagementServer, rows: Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dynamodb, "FIRST_PAUSE_SECONDS", 0.2)
        on(server, *[answer(500)] * 5)
        with pytest.raises(TableError):
            rows.get(KEY)
        assert self.pauses == [0.2, 0.4, 0.8, 1.6]

    def test_no_try_begins_when_the_caller_must_be_answered(
        self, server: ManagementServer, rows: Table, clock: Clock
    ) -> None:
        def late(_: object) -> None:
            clock.now += dynamodb.BEGIN_SECONDS + 1

        server.on("", late, answer(500))
        with pytest.raises(TableError):
            rows.get(KEY)
        assert len(server.requests) == 1

    def test_a_connect_that_waits_for_the_table_is_answered_in_time(self) -> None:
        assert dynamodb.BEGIN_SECONDS + exchange.LONGEST_SECONDS < 29

    def test_new_credentials_count_within_a_second(self, server: ManagementServer, rows: Table, clock: Clock) -> None:
        on(server, says({}), says({}))
        rows.get(KEY)
        self.credentials = Credentials("B", "secret", None)
        clock.now += 1
        rows.get(KEY)
        first, then = (request.headers for request in server.requests)
        assert "Credential=A/" in first["authorization"]
        assert first["x-amz-security-token"] == "token"
        assert "Credential=B/" in then["authorization"]
        assert "x-amz-security-token" not in then

    def test_a_clock_that_is_minutes_off_is_set_and_stays_so(
        self, server: ManagementServer, rows: Table, clock: Clock
    ) -> None:
        theirs = f"Date: {formatdate(clock.now + 600, usegmt=True)}"
        body = b'{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired"}'
        on(server, answer(400, body, theirs), says(ITEM), says(ITEM))
        assert [rows.get(KEY), rows.get(KEY)] == [PLAIN, PLAIN]
        stamps = [request.headers["x-amz-date"] for request in server.requests]
        assert stamps == ["20261123T093010Z", "20261123T094010Z", "20261123T094010Z"]

    @pytest.mark.parametrize("seconds_off", [0, 600])
    def test_a_signature_that_is_wrong_otherwise_is_refused(
        self, server: ManagementServer, rows: Table, clock: Clock, seconds_off: int
    ) -> None:
        theirs = f"Date: {formatdate(clock.now + seconds_off, usegmt=True)}"
        body = b'{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"no"}'
        on(server, answer(400, body, theirs), answer(400, body, theirs), answer(400, body, theirs))
        with pytest.raises(TableError, match="^DynamoDB GetItem failed: InvalidSignatureException$"):
            rows.get(KEY)
        assert len(server.requests) == (2 if seconds_off else 1)

    def test_a_clock_that_runs_away_is_followed_once(self, server: ManagementServer, rows: Table, clock: Clock) -> None:
        body = b'{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"no"}'
        for tries in range(1, 9):
            on(server, answer(400, body, f"Date: {formatdate(clock.now + 600 * tries, usegmt=True)}"))
        with pytest.raises(TableError):
            rows.get(KEY)
        assert len(server.requests) == 2

    def test_a_refusal_by_a_clock_that_is_off_is_a_refusal(
        self, server: ManagementServer, rows: Table, clock: Clock
    ) -> None:
        body = b'{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}'
        on(server, answer(400, body, f"Date: {formatdate(clock.now + 600, usegmt=True)}"))
        assert not rows.put(KEY, "attribute_not_exists(PK)")
        assert len(server.requests) == 1

    def test_where_nobody_is_it_is_tried_again_too(self, clock: Clock) -> None:
        self.pauses: list[float] = []
        credentials = Credentials("A", "secret", None)
        client = LeanDynamoDB(
            "http://127.0.0.1:9", "eu-central-1", lambda: credentials, None, clock, clock, self.pause, lambda: 0.5
        )
        with pytest.raises(TableError, match="^DynamoDB GetItem failed: EndpointConnectionError$"):
            Table(client, "t", clock).get(KEY)
        assert len(self.pauses) == dynamodb.TRIES - 1

    @pytest.mark.parametrize("body", [b"<html>", b"\xff"])
    def test_what_is_no_answer_is_asked_again_and_then_an_error(
        self, server: ManagementServer, rows: Table, body: bytes
    ) -> None:
        on(server, *[answer(200, body)] * 5)
        with pytest.raises(TableError, match="^DynamoDB GetItem failed: HTTPClientError$"):
            rows.get(KEY)

    def test_nobody_reads_more_than_a_page_can_be(self, server: ManagementServer, client: LeanDynamoDB) -> None:
        on(server, *[answer(200, b" " * (dynamodb.MAX_BODY_BYTES + 1))] * 5)
        with pytest.raises(exceptions.HTTPClientError):
            client.get_item(TableName="t", Key={})


class TestWhichClient:
    def test_the_one_that_the_setting_names(self, session: boto3.session.Session) -> None:
        assert isinstance(connect(session, "lean", {}), LeanDynamoDB)
        assert connect(session, "boto3", {}).meta.service_model.service_name == "dynamodb"

    def test_over_tls_where_the_endpoint_has_it(
        self, session: boto3.session.Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        with serving(authority) as server, authority.cert_pem.tempfile() as path:
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint.removesuffix("/api"))
            monkeypatch.delenv("AWS_ENDPOINT_URL_DYNAMODB")
            monkeypatch.setenv("AWS_CA_BUNDLE", path)
            on(server, says(ITEM))
            assert Table(connect(session, "lean", {}), "t", lambda: 0).get(KEY) == PLAIN

    @pytest.mark.parametrize("variable", ["HTTP_PROXY", "AWS_USE_FIPS_ENDPOINT"])
    def test_boto3s_where_only_that_knows_the_way_and_a_line_says_so(
        self, session: boto3.session.Session, variable: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        caplog.set_level("INFO", logger="chalicelib")
        monkeypatch.setenv(variable, "http://proxy.example.com:3128")
        monkeypatch.setattr(session, "client", lambda *_, **__: "boto3's", raising=False)
        assert connect(session, "lean", {}) == "boto3's"
        assert caplog.messages == [
            "Only boto3 knows the way to DynamoDB here, so it asks: it needs more time to start."
        ]

    @pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1", "ap-southeast-5"])
    def test_the_endpoint_is_the_one_that_boto3_finds(self, region: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ENDPOINT_URL_DYNAMODB")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
        theirs = boto3.client("dynamodb", region_name=region).meta.endpoint_url
        assert find_endpoint({"AWS_CONFIG_FILE": "/nowhere"}, region) == theirs

    @pytest.mark.parametrize(
        ("environ", "endpoint"),
        [
            ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_DYNAMODB": "http://b"}, "http://b"),
            ({"AWS_ENDPOINT_URL": "http://a"}, "http://a"),
            ({"AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None),
            ({"AWS_ENDPOINT_URL": "http://a", "AWS_USE_FIPS_ENDPOINT": "true"}, None),
            ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, None),
            ({"AWS_ENDPOINT_URL": "http://a/"}, "http://a/"),
            ({"AWS_ENDPOINT_URL": "http://a/b"}, None),
            ({"AWS_ENDPOINT_URL": "localhost:8000"}, None),
            ({"AWS_CONFIG_FILE": "/dev/null"}, None),
        ],
    )
    def test_what_the_environment_says_of_it_counts(self, environ: dict[str, str], endpoint: str | None) -> None:
        assert find_endpoint(environ, "eu-central-1") == endpoint

    @pytest.mark.parametrize("region", [None, "cn-north-1", "us-iso-east-1", "us-isob-east-1", "eusc-de-east-1"])
    def test_where_there_is_none_and_in_other_parts_of_aws_boto3_decides(self, region: str | None) -> None:
        assert find_endpoint({"AWS_CONFIG_FILE": "/nowhere"}, region) is None


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.integers(-(10**14), 10**14) | TEXTS | st.frozensets(TEXTS.filter(bool), min_size=1, max_size=4)


@given(item=st.dictionaries(TEXTS.filter(bool), VALUES, max_size=5))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_one_client_writes_the_other_reads(
    item: dict[str, Value], lean_dynamodb: Any, dynamodb: Any, table_name: str
) -> None:
    item = item | KEY
    item.pop("ttl", None)
    lean, theirs = (Table(client, table_name, lambda: 0) for client in (lean_dynamodb, dynamodb))
    for writer, reader in ((lean, theirs), (theirs, lean), (lean, lean)):
        writer.put(item)
        assert reader.get(KEY) == item
        writer.delete(KEY)


@given(item=st.dictionaries(TEXTS, VALUES, max_size=5))
def test_values_are_written_as_boto3_would_write_them(item: dict[str, Value]) -> None:
    written: list[Any] = []
    client: Any = SimpleNamespace(
        put_item=lambda **asked: written.append(asked["Item"]), exceptions=LeanDynamoDB.exceptions
    )
    Table(client, "t", lambda: 0).put(item)
    theirs = {name: TypeSerializer().serialize(value) for name, value in item.items()}
    assert [sort(written[0])] == [sort(theirs)]


def sort(typed: dict[str, Any]) -> dict[str, Any]:
    """A set has no order."""
    return {name: {"SS": sorted(value["SS"])} if "SS" in value else value for name, value in typed.items()}


LIVE = {
    "ConditionExpression": "attribute_not_exists(PK) OR #ttl <= :now",
    "ExpressionAttributeNames": {"#ttl": "ttl"},
    "ExpressionAttributeValues": {":now": {"N": "0"}},
}
WIRE_KEY = {"PK": {"S": "P"}, "SK": {"S": "S"}}
ALL_OLD = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
INDEX = {
    "TableName": "t",
    "IndexName": "GSI1",
    "ProjectionExpression": "GSI1SK",
    "FilterExpression": "#ttl > :now",
    "ExpressionAttributeNames": {"#ttl": "ttl"},
}
ASKED: list[tuple[str, dict[str, Any]]] = [
    (
        "PutItem",
        {
            "TableName": "t",
            "Item": {**WIRE_KEY, "text": {"S": 'é"\n'}, "n": {"N": "1"}, "all": {"SS": ["a", "b"]}},
            "ConditionExpression": "#n < :n",
            "ExpressionAttributeNames": {"#n": "n"},
            "ExpressionAttributeValues": {":n": {"N": "3"}},
        },
    ),
    ("PutItem", {"TableName": "t", "Item": WIRE_KEY, **ALL_OLD, **LIVE}),
    ("GetItem", {"TableName": "t", "Key": WIRE_KEY, "ConsistentRead": True}),
    (
        "UpdateItem",
        {
            "TableName": "t",
            "Key": WIRE_KEY,
            "UpdateExpression": "SET #n = :n",
            "ReturnValues": "ALL_NEW",
            "ExpressionAttributeNames": {"#n": "n"},
            "ExpressionAttributeValues": {":n": {"N": "1"}},
            **ALL_OLD,
        },
    ),
    ("DeleteItem", {"TableName": "t", "Key": WIRE_KEY, "ReturnValues": "ALL_OLD", **ALL_OLD}),
    ("TransactWriteItems", {"TransactItems": [{"Put": {"TableName": "t", "Item": WIRE_KEY, **ALL_OLD, **LIVE}}] * 2}),
    (
        "BatchWriteItem",
        {"RequestItems": {"t": [{"PutRequest": {"Item": WIRE_KEY}}, {"DeleteRequest": {"Key": WIRE_KEY}}]}},
    ),
    (
        "Query",
        {
            "TableName": "t",
            "KeyConditionExpression": "PK = :partition AND SK BETWEEN :first AND :last",
            "FilterExpression": "attribute_not_exists(#ttl) OR #ttl > :now",
            "ProjectionExpression": "#n",
            "ExpressionAttributeNames": {"#ttl": "ttl", "#n": "n"},
            "ExpressionAttributeValues": {
                ":partition": {"S": "P"},
                ":first": {"S": "0"},
                ":last": {"S": "9"},
                ":now": {"N": "0"},
            },
            "ScanIndexForward": True,
            "ConsistentRead": True,
            "Limit": 5,
        },
    ),
    (
        "Query",
        {
            **INDEX,
            "KeyConditionExpression": "GSI1PK = :owner",
            "ExpressionAttributeValues": {":owner": {"S": "USER#u_1"}, ":now": {"N": "0"}},
        },
    ),
    ("Scan", {**INDEX, "ExpressionAttributeValues": {":now": {"N": "0"}}}),
    (
        "Scan",
        {
            "TableName": "t",
            "IndexName": "GSI1",
            "ProjectionExpression": "GSI1PK, GSI1SK, #ttl",
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "Segment": 1,
            "TotalSegments": 4,
            "ExclusiveStartKey": WIRE_KEY,
            "Limit": 5,
        },
    ),
]
