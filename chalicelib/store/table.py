"""The single DynamoDB table: items, conditional writes, paging. The only file that talks DynamoDB.

Invariants: the base table is never scanned; an item whose `ttl` has passed is not there, whether or not DynamoDB
has swept it yet (it may take days); every failure leaves here as a TableError.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import TableError
from chalicelib.protocol.receivers import Receiver
from chalicelib.store import keys

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient as Boto3Client

    from chalicelib.aws.dynamodb import DynamoDBClient

# What an item may hold here: a string, a whole number or a set of strings. None is left out when it is written.
Value = str | int | frozenset[str]
Item = Mapping[str, Value | None]

INDEX = "GSI1"
# What one BatchWriteItem takes.
BATCH_ITEMS = 25
# How often what was left undone is tried again, 2.5 s in the mean altogether.
MAX_TRIES = 7


@dataclass(frozen=True)
class Write:
    """What became of a conditional write.

    Attributes:
        applied: whether it took place; if not, the item was not as the condition says.
        item: after an update the item as it stands now, after a delete the item that stood there; where the write
            was not applied, the item that stood in its way. None: there is no item.
    """

    applied: bool
    item: dict[str, Value] | None


class Table:
    """The table `name` behind a `client` of DynamoDB: boto3's or ours; `clock` gives epoch seconds."""

    def __init__(self, client: "DynamoDBClient | Boto3Client", name: str, clock: Callable[[], float]) -> None:
        self._client = client
        self._name = name
        self._clock = clock

    def put(self, item: Item, where: str | None = None, values: Mapping[str, Value] | None = None) -> bool:
        """The item stands in the table, whatever stood there before, unless that is not as `where` says.

        Returns whether it does. Arguments and errors as `update`.
        """
        with _translated("PutItem"):
            try:
                self._client.put_item(TableName=self._name, Item=_marshal(item), **_condition(where, values or {}))
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def put_new(self, item: Item) -> bool:
        """The item stands in the table and replaced nothing, or only what had expired.

        Returns:
            False where another item stands under that key; it is untouched. True where the very same item did:
            that is our own write, whose answer was lost and which was then sent again.

        Raises:
            TableError: DynamoDB failed; the item may stand there all the same.
        """
        with _translated("PutItem"):
            try:
                self._client.put_item(
                    TableName=self._name,
                    Item=_marshal(item),
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **self._is_vacant(),
                )
            except self._client.exceptions.ConditionalCheckFailedException as refused:
                return _standing(refused) == _unmarshal(_marshal(item))
        return True

    def get(self, key: Mapping[str, str]) -> dict[str, Value] | None:
        """The item under `key` as it stands now (a consistent read), or None. Raises TableError."""
        with _translated("GetItem"):
            answer = self._client.get_item(TableName=self._name, Key=_marshal(key), ConsistentRead=True)
        item = _unmarshal(answer.get("Item", {}))
        return item if item and self._is_alive(item) else None

    def update(
        self, key: Mapping[str, str], change: str, values: Mapping[str, Value], where: str | None = None
    ) -> Write:
        """The item under `key` is changed in one step, or is as it was.

        Args:
            key: the primary key; without a condition that says otherwise the item is made if it is missing.
            change: an update expression, attributes written as `#name`, values as `:name`.
            values: what the `:names` of both expressions stand for.
            where: a condition over the item that stands there.

        Raises:
            TableError: DynamoDB failed; the change may have taken place all the same.
        """
        with _translated("UpdateItem"):
            try:
                answer = self._client.update_item(
                    TableName=self._name,
                    Key=_marshal(key),
                    UpdateExpression=change,
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **_condition(where, values, change),
                )
            except self._client.exceptions.ConditionalCheckFailedException as refused:
                return Write(False, _standing(refused))
        return Write(True, _unmarshal(answer["Attributes"]))

    def delete(
        self, key: Mapping[str, str], where: str | None = None, values: Mapping[str, Value] | None = None
    ) -> Write:
        """No item stands under `key`, unless one stands there that is not as `where` says.

        Deleting twice is no error. Arguments and errors as `update`.
        """
        with _translated("DeleteItem"):
            try:
                answer = self._client.delete_item(
                    TableName=self._name,
                    Key=_marshal(key),
                    ReturnValues="ALL_OLD",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **_condition(where, values or {}),
                )
            except self._client.exceptions.ConditionalCheckFailedException as refused:
                return Write(False, _standing(refused))
        return Write(True, _unmarshal(answer.get("Attributes", {})) or None)

    def put_both(self, first: Item, second: Item) -> tuple[dict[str, Value] | None, dict[str, Value] | None]:
        """Both items stand in the table, or neither does, because something that has not expired is in the way.

        Returns:
            The items in the way of the first and of the second; (None, None) where both were written.

        Raises:
            TableError: DynamoDB failed, or others write the same items again and again.
        """
        puts: list[Any] = [
            {
                "Put": {
                    "TableName": self._name,
                    "Item": _marshal(item),
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    **self._is_vacant(),
                }
            }
            for item in (first, second)
        ]
        for tries in range(1, MAX_TRIES + 1):
            with _translated("TransactWriteItems"):
                try:
                    self._client.transact_write_items(TransactItems=puts)
                    return None, None
                except self._client.exceptions.TransactionCanceledException as cancelled:
                    reasons: list[Any] = cancelled.response.get("CancellationReasons", [])
            in_the_way = [_unmarshal(reason.get("Item", {})) or None for reason in reasons]
            if any(in_the_way):
                return in_the_way[0], in_the_way[1]
            # Another transaction is writing the same items: TransactionConflict.
            _pause(tries)
        raise TableError("TransactWriteItems", "TransactionCanceledException")

    def write(self, puts: Sequence[Item] = (), deletes: Sequence[Mapping[str, str]] = ()) -> None:
        """The items stand in the table and those under the keys do not, in any order, without conditions.

        Raises:
            TableError: DynamoDB failed, or left something undone again and again; the rest has taken place.
        """
        requests: list[Any] = [{"PutRequest": {"Item": _marshal(item)}} for item in puts]
        requests += [{"DeleteRequest": {"Key": _marshal(key)}} for key in deletes]
        tries = 0
        while requests:
            batch, requests = requests[:BATCH_ITEMS], requests[BATCH_ITEMS:]
            with _translated("BatchWriteItem"):
                undone = self._client.batch_write_item(RequestItems={self._name: batch})["UnprocessedItems"]
            if left := undone.get(self._name):
                tries += 1
                if tries == MAX_TRIES:
                    raise TableError("BatchWriteItem", "UnprocessedItems")
                _pause(tries)
                requests = [*left, *requests]

    def query(
        self,
        partition: str,
        first: str,
        last: str,
        fields: Sequence[str] = (),
        reverse: bool = False,
        page_items: int | None = None,
    ) -> Iterator[dict[str, Value]]:
        """The items of a partition between two sort keys, both included, page by page, as they stand now.

        Args:
            partition: the PK.
            first, last: sort keys.
            fields: which attributes are read; none means all.
            reverse: from `last` down to `first`.
            page_items: how many items are read at a time, where the caller will stop early.

        Raises:
            TableError: DynamoDB failed.
        """
        names = {f"#{field}": field for field in fields}
        options: dict[str, Any] = {"ProjectionExpression": ", ".join(names)} if fields else {}
        if page_items:
            options["Limit"] = page_items
        items = self._pages(
            "query",
            KeyConditionExpression="PK = :partition AND SK BETWEEN :first AND :last",
            FilterExpression="attribute_not_exists(#ttl) OR #ttl > :now",
            ExpressionAttributeNames={"#ttl": "ttl"} | names,
            ExpressionAttributeValues={
                ":partition": {"S": partition},
                ":first": {"S": first},
                ":last": {"S": last},
                ":now": {"N": str(int(self._clock()))},
            },
            ScanIndexForward=not reverse,
            ConsistentRead=True,
            **options,
        )
        return map(_unmarshal, items)

    def connections_of(self, user_id: str) -> Iterator[Receiver]:
        """The user's connections, page by page. Eventually consistent. Raises TableError."""
        return self._index(
            "query",
            KeyConditionExpression="GSI1PK = :owner",
            ExpressionAttributeValues={":owner": {"S": keys.owner_partition(user_id)}},
        )

    def connections(self) -> Iterator[Receiver]:
        """All connections, page by page. Eventually consistent. Raises TableError.

        Reads the index, which holds connections and nothing else, so the cost grows with them and not with
        the table.
        """
        return self._index("scan", ExpressionAttributeValues={})

    def listed_connections(
        self, segment: int, segments: int, after: Mapping[str, str] | None, page_items: int
    ) -> Iterator[dict[str, Value]]:
        """The index's items of one of so many segments, also those that have expired, page by page, as `connections`.

        Args:
            segment, segments: which part of the index; together they are all of it.
            after: the four keys of the item after which reading begins; None begins anew.
            page_items: how many items are read at a time.

        Raises:
            TableError: DynamoDB failed.
        """
        options: dict[str, Any] = {"ExclusiveStartKey": _marshal(after)} if after else {}
        items = self._pages(
            "scan",
            Limit=page_items,
            IndexName=INDEX,
            ProjectionExpression="GSI1PK, GSI1SK, #ttl",
            ExpressionAttributeNames={"#ttl": "ttl"},
            Segment=segment,
            TotalSegments=segments,
            **options,
        )
        return map(_unmarshal, items)

    def _index(
        self, operation: str, *, ExpressionAttributeValues: Mapping[str, Any], **arguments: Any
    ) -> Iterator[Receiver]:
        items = self._pages(
            operation,
            IndexName=INDEX,
            ProjectionExpression="GSI1SK",
            FilterExpression="#ttl > :now",
            ExpressionAttributeNames={"#ttl": "ttl"},
            ExpressionAttributeValues={**ExpressionAttributeValues, ":now": {"N": str(int(self._clock()))}},
            **arguments,
        )
        return (keys.read_owner_sort(item["GSI1SK"]["S"]) for item in items)

    def _pages(self, operation: str, **request: Any) -> Iterator[dict[str, Any]]:
        """The items of all pages, each read when those before it are taken."""
        ask = getattr(self._client, operation)
        while True:
            with _translated(operation.capitalize()):
                page = ask(TableName=self._name, **request)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _is_vacant(self) -> dict[str, Any]:
        return {
            "ConditionExpression": "attribute_not_exists(PK) OR #ttl <= :now",
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": {":now": {"N": str(int(self._clock()))}},
        }

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


def _pause(tries: int) -> None:
    time.sleep(random.uniform(0, 0.02 * 2**tries))


def _standing(refused: ClientError) -> dict[str, Value] | None:
    response: Mapping[str, Any] = refused.response
    return _unmarshal(response.get("Item", {})) or None


def _condition(where: str | None, values: Mapping[str, Value], change: str = "") -> dict[str, Any]:
    # Every attribute is written as #name, so that none can be one of DynamoDB's 573 reserved words.
    found: dict[str, Any] = {"ConditionExpression": where} if where else {}
    if names := re.findall(r"#(\w+)", f"{change} {where}"):
        found["ExpressionAttributeNames"] = {f"#{name}": name for name in names}
    if values:
        found["ExpressionAttributeValues"] = _marshal(values)
    return found


def _marshal(item: Item) -> dict[str, Any]:
    return {name: _typed(value) for name, value in item.items() if value is not None}


def _typed(value: Value) -> dict[str, Any]:
    match value:
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
    return {"SS": sorted(value)}


def _unmarshal(item: Mapping[str, Any]) -> dict[str, Value]:
    # Attributes of other types are not ours (a newer version's, say) and are passed over.
    plain: dict[str, Value] = {}
    for name, typed in item.items():
        if "S" in typed:
            plain[name] = typed["S"]
        elif "N" in typed:
            plain[name] = int(float(typed["N"]))
        elif "SS" in typed:
            plain[name] = frozenset(typed["SS"])
    return plain
