"""The single DynamoDB table: items, conditional writes, paging. Knows nothing of what the items mean.

Invariants: the base table is never scanned; an item whose `ttl` has passed counts as absent, whether or not DynamoDB
has deleted it yet (it may take days); every failure becomes a TableError.
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

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient as Boto3Client

    from chalicelib.aws.dynamodb import DynamoDBClient

# What an item may hold: a string, a whole number or a set of strings. None is not written.
Value = str | int | frozenset[str]
Item = Mapping[str, Value | None]

INDEX = "GSI1"
# What one BatchWriteItem takes.
BATCH_ITEMS = 25
# How often unprocessed writes are tried again: 2.5 s altogether on average.
MAX_TRIES = 7
_METHODS = {"PutItem": "put_item", "UpdateItem": "update_item", "DeleteItem": "delete_item"}


@dataclass(frozen=True)
class Write:
    """The result of a conditional write.

    Attributes:
        applied: whether it took place; False if the condition did not hold.
        item: the new item after an update, the old item after a delete, the item in the way if the write was not
            applied; None if there is no item.
    """

    applied: bool
    item: dict[str, Value] | None


@dataclass(eq=False, repr=False)
class Table:
    """The table `name` behind a DynamoDB `client`, boto3's or ours. `clock` returns epoch seconds, `sleep` waits."""

    client: "DynamoDBClient | Boto3Client"
    name: str
    clock: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep

    def put(self, item: Item, where: str | None = None, values: Mapping[str, Value] | None = None) -> bool:
        """Write the item, replacing any other, if the condition `where` holds (as in `update`); return if so."""
        return self._write("PutItem", Item=_marshal(item), **_condition(where, values or {})).applied

    def put_new(self, item: Item) -> bool:
        """Write the item unless one that has not expired has its key; return whether the item is there."""
        # If an identical item is there, that is our own write, retried after its answer was lost.
        written = self._write("PutItem", Item=_marshal(item), **self._is_vacant())
        return written.applied or written.item == _unmarshal(_marshal(item))

    def get(self, key: Mapping[str, str]) -> dict[str, Value] | None:
        """Return the item under `key`, read consistently, or None."""
        with _translated("GetItem"):
            answer = self.client.get_item(TableName=self.name, Key=_marshal(key), ConsistentRead=True)
        item = _unmarshal(answer.get("Item", {}))
        return item if item and self._is_alive(item) else None

    def update(
        self, key: Mapping[str, str], change: str, values: Mapping[str, Value], where: str | None = None
    ) -> Write:
        """Change the item under `key` in one step, if the condition `where` holds.

        Args:
            key: the primary key; the item is created if it is missing and the condition allows it.
            change: an update expression, attributes written as `#name`, values as `:name`.
            values: the values of the `:names` in both expressions.
            where: a condition on the present item.
        """
        request = {"Key": _marshal(key), "UpdateExpression": change, "ReturnValues": "ALL_NEW"}
        return self._write("UpdateItem", **request, **_condition(where, values, change))

    def delete(
        self, key: Mapping[str, str], where: str | None = None, values: Mapping[str, Value] | None = None
    ) -> Write:
        """Delete the item under `key`, if the condition `where` holds (see `update`). Deleting twice is no error."""
        return self._write("DeleteItem", Key=_marshal(key), ReturnValues="ALL_OLD", **_condition(where, values or {}))

    def put_both(self, first: Item, second: Item) -> tuple[dict[str, Value] | None, dict[str, Value] | None]:
        """Write both items in one transaction, unless either key holds an item that has not expired.

        Returns the items in the way of the first and of the second; (None, None) if both were written.
        Raises TableError: DynamoDB failed, or other transactions kept writing the same items.
        """
        request = {"TableName": self.name, "ReturnValuesOnConditionCheckFailure": "ALL_OLD", **self._is_vacant()}
        puts: list[Any] = [{"Put": request | {"Item": _marshal(item)}} for item in (first, second)]
        for tries in range(1, MAX_TRIES + 1):
            with _translated("TransactWriteItems"):
                try:
                    self.client.transact_write_items(TransactItems=puts)
                    return None, None
                except self.client.exceptions.TransactionCanceledException as cancelled:
                    reasons: list[Any] = cancelled.response.get("CancellationReasons", [])
            in_the_way = [_unmarshal(reason.get("Item", {})) or None for reason in reasons]
            if any(in_the_way):
                return in_the_way[0], in_the_way[1]
            # TransactionConflict: another transaction is writing the same items.
            self._pause(tries)
        raise TableError("TransactWriteItems", "TransactionCanceledException")

    def write(self, puts: Sequence[Item] = (), deletes: Sequence[Mapping[str, str]] = ()) -> None:
        """Write the items and delete the keys, in any order, without conditions.

        Raises TableError: DynamoDB failed, or kept leaving something unprocessed; the rest has taken place.
        """
        requests: list[Any] = [{"PutRequest": {"Item": _marshal(item)}} for item in puts]
        requests += [{"DeleteRequest": {"Key": _marshal(key)}} for key in deletes]
        tries = 0
        while requests:
            batch, requests = requests[:BATCH_ITEMS], requests[BATCH_ITEMS:]
            with _translated("BatchWriteItem"):
                undone = self.client.batch_write_item(RequestItems={self.name: batch})["UnprocessedItems"]
            if left := undone.get(self.name):
                tries += 1
                if tries == MAX_TRIES:
                    raise TableError("BatchWriteItem", "UnprocessedItems")
                self._pause(tries)
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
        """Read the items of a partition between two sort keys, inclusive, page by page, consistently.

        Args:
            fields: which attributes to read; empty for all.
            reverse: read from `last` down to `first`.
            page_items: how many items to read at a time, for a caller that will stop early.
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
                ":now": {"N": str(int(self.clock()))},
            },
            ScanIndexForward=not reverse,
            ConsistentRead=True,
            **options,
        )
        return map(_unmarshal, items)

    def query_index(self, partition: str) -> Iterator[dict[str, Value]]:
        """Read one partition of the index as `scan_index` reads a segment."""
        return self._index(
            "query", KeyConditionExpression="GSI1PK = :owner", ExpressionAttributeValues=_marshal({":owner": partition})
        )

    def scan_index(
        self, segment: int = 0, segments: int = 1, after: Mapping[str, str] | None = None, page_items: int | None = None
    ) -> Iterator[dict[str, Value]]:
        """Read one segment of the index, page by page. Eventually consistent; expired items are included.

        The index holds connections and nothing else, so the cost grows with them and not with the table. Items have
        GSI1PK, GSI1SK and ttl; `after` has the four keys of the item after which reading begins.
        """
        options: dict[str, Any] = {"ExclusiveStartKey": _marshal(after)} if after else {}
        if page_items:
            options["Limit"] = page_items
        return self._index("scan", Segment=segment, TotalSegments=segments, **options)

    def _write(self, operation: str, **request: Any) -> Write:
        write = getattr(self.client, _METHODS[operation])
        with _translated(operation):
            try:
                answer = write(TableName=self.name, ReturnValuesOnConditionCheckFailure="ALL_OLD", **request)
            except self.client.exceptions.ConditionalCheckFailedException as refused:
                return Write(False, _unmarshal(refused.response.get("Item", {})) or None)  # type: ignore[arg-type]
        return Write(True, _unmarshal(answer.get("Attributes", {})) or None)

    def _index(self, operation: str, **arguments: Any) -> Iterator[dict[str, Value]]:
        items = self._pages(
            operation,
            IndexName=INDEX,
            ProjectionExpression="GSI1PK, GSI1SK, #ttl",
            ExpressionAttributeNames={"#ttl": "ttl"},
            **arguments,
        )
        return map(_unmarshal, items)

    def _pages(self, operation: str, **request: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages, reading each page when it is needed."""
        ask = getattr(self.client, operation)
        while True:
            with _translated(operation.capitalize()):
                page = ask(TableName=self.name, **request)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _pause(self, tries: int) -> None:
        self.sleep(random.uniform(0, 0.02 * 2**tries))

    def _is_vacant(self) -> dict[str, Any]:
        return {
            "ConditionExpression": "attribute_not_exists(PK) OR #ttl <= :now",
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": {":now": {"N": str(int(self.clock()))}},
        }

    def _is_alive(self, item: Mapping[str, Value]) -> bool:
        ttl = item.get("ttl")
        return not isinstance(ttl, int) or ttl > self.clock()


@contextmanager
def _translated(operation: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise TableError(operation, error.response["Error"].get("Code", "unknown")) from error
    except BotoCoreError as error:
        raise TableError(operation, type(error).__name__) from error


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
