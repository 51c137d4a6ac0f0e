"""What is behind the table: the same truths about our client and boto3's, against a server that a test scripts."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.aws.client import JsonClient
from chalicelib.aws.dynamodb import DynamoDBClient
from chalicelib.errors import TableError
from chalicelib.store.table import Table, Value
from tests.support.management_server import ManagementServer, closes, json_answer, json_refusal

KEY = {"PK": "P", "SK": "S"}
ITEM = {"Item": {"PK": {"S": "P"}, "SK": {"S": "S"}, "n": {"N": "7"}, "all": {"SS": ["a", "b"]}, "raw": {"B": "AA=="}}}
PLAIN = {"PK": "P", "SK": "S", "n": 7, "all": frozenset("ab")}


@pytest.fixture
def rows(connect_json: Callable[[type[JsonClient]], Any]) -> Table:
    return Table(connect_json(DynamoDBClient), "t", lambda: 0)


class TestRequests:
    def test_both_clients_ask_the_same(self, json_server: ManagementServer, rows: Table) -> None:
        for content in (
            *({}, {}, ITEM, {"Attributes": ITEM["Item"]}, {}, {}),
            *({"UnprocessedItems": {}}, {"Items": []}, {"Items": []}, {"Items": []}),
        ):
            json_server.then(json_answer(content))
        rows.put({**KEY, "text": 'é"\n', "n": 1, "none": None, "all": frozenset("ba")}, "#n < :n", {":n": 3})
        rows.put_new(KEY)
        assert rows.get(KEY) == PLAIN
        assert rows.update(KEY, "SET #n = :n", {":n": 1}).item == PLAIN
        rows.delete(KEY)
        rows.put_both(KEY, KEY)
        rows.write([KEY], [KEY])
        list(rows.query("P", "0", "9", ["n"], page_items=5))
        list(rows.query_index("USER#u_1"))
        list(rows.scan_index(1, 4, KEY, page_items=5))
        requests = json_server.requests
        asked = [(request.headers["x-amz-target"].partition(".")[2], json.loads(request.body)) for request in requests]
        tokens = [body.pop("ClientRequestToken") for _, body in asked if "TransactItems" in body]
        assert len(tokens) == 1
        assert 1 <= len(tokens[0]) <= 36
        assert asked == ASKED
        for request in requests:
            assert (request.method, request.path) == ("POST", "/")
            assert request.headers["content-type"] == "application/x-amz-json-1.0"
            assert "/eu-central-1/dynamodb/aws4_request, SignedHeaders=" in request.headers["authorization"]

    def test_a_connection_is_used_again(self, json_server: ManagementServer, rows: Table) -> None:
        json_server.then(json_answer({}), json_answer({}))
        rows.get(KEY)
        rows.get(KEY)
        assert [request.tcp for request in json_server.requests] == [0, 0]

    def test_a_transaction_is_retried_under_its_own_token(self, json_server: ManagementServer, rows: Table) -> None:
        json_server.then(closes, json_answer({}))
        assert rows.put_both(KEY, KEY) == (None, None)
        assert len({json.loads(request.body)["ClientRequestToken"] for request in json_server.requests}) == 1


class TestPages:
    def test_pages_are_read_one_by_one_as_they_are_needed(self, json_server: ManagementServer, rows: Table) -> None:
        key = {"PK": {"S": "P"}, "SK": {"S": "1"}}
        json_server.then(json_answer({"Items": [{"SK": {"S": "1"}}], "LastEvaluatedKey": key}))
        items = rows.query("P", "0", "9")
        assert next(items) == {"SK": "1"}
        assert len(json_server.requests) == 1
        json_server.then(
            json_answer({"Items": [], "LastEvaluatedKey": key}), json_answer({"Items": [{"SK": {"S": "2"}}]})
        )
        assert list(items) == [{"SK": "2"}]
        starts = [json.loads(request.body).get("ExclusiveStartKey") for request in json_server.requests]
        assert starts == [None, key, key]

    def test_a_page_may_be_as_large_as_dynamodb_makes_it(self, json_server: ManagementServer, rows: Table) -> None:
        items = [{"SK": {"S": f"{n}"}, "data": {"S": '"' * 250_000}} for n in range(4)]
        json_server.then(json_answer({"Items": items}))
        assert [len(str(item["data"])) for item in rows.query("P", "0", "9")] == [250_000] * 4


class TestRefusals:
    def test_a_condition_returns_the_item_in_the_way(self, json_server: ManagementServer, rows: Table) -> None:
        json_server.then(json_refusal("ConditionalCheckFailedException", **ITEM))
        written = rows.update(KEY, "SET #n = :n", {":n": 1}, "#n < :n")
        assert (written.applied, written.item) == (False, PLAIN)

    def test_a_transaction_returns_the_items_in_the_way(self, json_server: ManagementServer, rows: Table) -> None:
        reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed", **ITEM}]
        json_server.then(json_refusal("TransactionCanceledException", CancellationReasons=reasons))
        assert rows.put_both(KEY, KEY) == (None, PLAIN)

    @pytest.mark.parametrize("code", ["ValidationException", "AccessDeniedException", "ResourceNotFoundException"])
    def test_what_is_wrong_is_not_retried(self, json_server: ManagementServer, rows: Table, code: str) -> None:
        json_server.then(json_refusal(code))
        with pytest.raises(TableError, match=f"^DynamoDB Query failed: {code}$"):
            next(rows.query("P", "0", "9"))
        assert len(json_server.requests) == 1


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.integers(-(10**14), 10**14) | TEXTS | st.frozensets(TEXTS.filter(bool), min_size=1, max_size=4)


@pytest.mark.slow
@given(item=st.dictionaries(TEXTS.filter(bool), VALUES, max_size=5))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_client_reads_what_the_other_writes(
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
        put_item=lambda **request: written.append(request["Item"]) or {}, exceptions=DynamoDBClient.exceptions
    )
    Table(client, "t", lambda: 0).put(item)
    theirs = {name: TypeSerializer().serialize(value) for name, value in item.items()}
    assert [sort(written[0])] == [sort(theirs)]


def sort(typed: dict[str, Any]) -> dict[str, Any]:
    """Sort the sets, whose order does not matter."""
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
    "ProjectionExpression": "GSI1PK, GSI1SK, #ttl",
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
            **ALL_OLD,
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
            "ExpressionAttributeValues": {":owner": {"S": "USER#u_1"}},
        },
    ),
    ("Scan", {**INDEX, "Segment": 1, "TotalSegments": 4, "ExclusiveStartKey": WIRE_KEY, "Limit": 5}),
]
