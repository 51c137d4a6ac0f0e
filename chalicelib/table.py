"""The single DynamoDB table: keys, items, conditional writes, paging. The only file that talks DynamoDB.

Invariants: the base table is never scanned; an item whose `ttl` has passed is not there, whether or not DynamoDB
has swept it yet (it may take days); every failure leaves here as a TableError.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from zlib import crc32

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import TableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# What an item may hold here: a string or a whole number. None is left out when it is written.
Value = str | int
Item = Mapping[str, Value | None]

INDEX = "GSI1"
# Anonymous connections share the index partition ANON#0 to ANON#7: DynamoDB takes 1,000 writes a second on each.
ANONYMOUS_SHARDS = 8


def connection_key(connection_id: str) -> dict[str, str]:
    """The primary key of a connection's row."""
    return {"PK": f"CONN#{connection_id}", "SK": "CONN"}


def owner_keys(connection_id: str, user_id: str | None) -> dict[str, str]:
    """The index keys of a connection's row: by user, or by shard for someone anonymous."""
    anonymous = f"ANON#{crc32(connection_id.encode()) % ANONYMOUS_SHARDS}"
    return {"GSI1PK": anonymous if user_id is None else _user(user_id), "GSI1SK": f"CONN#{connection_id}"}


def endpoint_key() -> dict[str, str]:
    """The primary key of the row that holds the management endpoint."""
    return {"PK": "ENDPOINT", "SK": "ENDPOINT"}


class Table:
    """The table `name` behind a low-level DynamoDB `client`; `clock` gives epoch seconds."""

    def __init__(self, client: "DynamoDBClient", name: str, clock: Callable[[], float]) -> None:
        self._client = client
        self._name = name
        self._clock = clock

    def put(self, item: Item) -> None:
        """The item stands in the table, whatever stood there before. Raises TableError."""
        with _translated("PutItem"):
            self._client.put_item(TableName=self._name, Item=_marshal(item))

    def put_new(self, item: Item) -> bool:
        """The item stands in the table and replaced nothing.

        Returns:
            False where another item stands under that key; it is untouched. True where the very same item did:
            that is our own write, whose answer was lost and which boto3 then sent again.

        Raises:
            TableError: DynamoDB failed; the item may stand there all the same.
        """
        with _translated("PutItem"):
            try:
                self._client.put_item(
                    TableName=self._name,
                    Item=_marshal(item),
                    ConditionExpression="attribute_not_exists(PK)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except self._client.exceptions.ConditionalCheckFailedException as refused:
                return bool(refused.response.get("Item") == _marshal(item))
        return True

    def get(self, key: Mapping[str, str]) -> dict[str, Value] | None:
        """The item under `key` as it stands now (a consistent read), or None. Raises TableError."""
        with _translated("GetItem"):
            answer = self._client.get_item(TableName=self._name, Key=_marshal(key), ConsistentRead=True)
        item = _unmarshal(answer.get("Item", {}))
        return item if item and self._is_alive(item) else None

    def delete(
        self, key: Mapping[str, str], where: str | None = None, values: Mapping[str, Value] | None = None
    ) -> bool:
        """No item stands under `key`, unless one stands there that is not as `where` says.

        Args:
            key: the primary key.
            where: a condition expression over the item that stands there.
            values: what the expression's `:names` stand for.

        Returns:
            Whether an item was deleted. Deleting twice is no error.

        Raises:
            TableError: DynamoDB failed.
        """
        condition: dict[str, Any] = {}
        if where is not None:
            condition = {"ConditionExpression": where, "ExpressionAttributeValues": _marshal(values or {})}
        with _translated("DeleteItem"):
            try:
                answer = self._client.delete_item(
                    TableName=self._name, Key=_marshal(key), ReturnValues="ALL_OLD", **condition
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return "Attributes" in answer

    def connections_of(self, user_id: str) -> Iterator[str]:
        """The ids of the user's connections, page by page. Eventually consistent. Raises TableError."""
        return self._index_ids(
            "query",
            KeyConditionExpression="GSI1PK = :owner",
            ExpressionAttributeValues={":owner": {"S": _user(user_id)}},
        )

    def connections(self) -> Iterator[str]:
        """The ids of all connections, page by page. Eventually consistent. Raises TableError.

        Reads the index, which holds connections and nothing else, so the cost grows with them and not with
        the table.
        """
        return self._index_ids("scan", ExpressionAttributeValues={})

    def _index_ids(
        self, operation: str, *, ExpressionAttributeValues: Mapping[str, Any], **arguments: Any
    ) -> Iterator[str]:
        pages = self._client.get_paginator(operation).paginate(  # type: ignore[call-overload]
            TableName=self._name,
            IndexName=INDEX,
            ProjectionExpression="GSI1SK",
            FilterExpression="#ttl > :now",
            ExpressionAttributeNames={"#ttl": "ttl"},
            ExpressionAttributeValues={**ExpressionAttributeValues, ":now": {"N": str(int(self._clock()))}},
            **arguments,
        )
        with _translated(operation.capitalize()):
            for page in pages:
                for item in page["Items"]:
                    yield item["GSI1SK"]["S"].removeprefix("CONN#")

    def _is_alive(self, item: Mapping[str, Value]) -> bool:
        ttl = item.get("ttl")
        return not isinstance(ttl, int) or ttl > self._clock()


@contextmanager
def _translated(operation: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise TableError(operation, error.response["Error"].get("Code", "unknown")) from error
    except BotoCoreError as error:
        raise TableError(operation, type(error).__name__) from error


def _user(user_id: str) -> str:
    return f"USER#{user_id}"


def _marshal(item: Item) -> dict[str, Any]:
    return {
        name: {"N": str(value)} if isinstance(value, int) else {"S": value}
        for name, value in item.items()
        if value is not None
    }


def _unmarshal(item: Mapping[str, Any]) -> dict[str, Value]:
    # Attributes of other types are not ours (a newer version's, say) and are passed over.
    plain: dict[str, Value] = {}
    for name, typed in item.items():
        if "S" in typed:
            plain[name] = typed["S"]
        elif "N" in typed:
            plain[name] = int(float(typed["N"]))
    return plain
