"""The table when DynamoDB does only a part, or two do the same at once."""

from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.errors import TableError
from chalicelib.store import table
from chalicelib.store.table import Table
from tests.conftest import Call, Clock, go_through


@pytest.fixture(params=["lean", "boto3"])
def rows(request: pytest.FixtureRequest, lean_dynamodb: Any, dynamodb: Any, table_name: str, clock: Clock) -> Table:
    return Table(lean_dynamodb if request.param == "lean" else dynamodb, table_name, clock)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again needs no time."""
    monkeypatch.setattr(table.time, "sleep", lambda _: None)


def items(count: int) -> list[dict[str, str]]:
    return [{"PK": "P", "SK": f"{n:03}"} for n in range(count)]


def stands(rows: Table) -> list[str]:
    return [str(item["SK"]) for item in rows.query("P", "0", "9")]


class TestBatches:
    def test_more_than_a_batch_is_written_and_deleted(self, rows: Table) -> None:
        rows.write(puts=items(60))
        assert len(stands(rows)) == 60
        rows.write(puts=[{"PK": "P", "SK": "100"}], deletes=items(60))
        assert stands(rows) == ["100"]
        rows.write()

    def test_unprocessed_items_are_written_again(
        self, rows: Table, fast: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: Counter[str] = Counter()

        def half(_: Any, call: Call, operation: str, arguments: Any) -> Any:
            asked[operation] += 1
            ((name, requests),) = arguments["RequestItems"].items()
            done, left = requests[: len(requests) // 2 + 1], requests[len(requests) // 2 + 1 :]
            answer = call(operation, {"RequestItems": {name: done}})
            return answer | {"UnprocessedItems": {name: left} if left else {}}

        go_through(half, monkeypatch)
        rows.write(puts=items(30))
        monkeypatch.undo()
        assert len(stands(rows)) == 30
        assert asked["BatchWriteItem"] > 2

    def test_unprocessed_items_are_not_retried_for_ever(
        self, rows: Table, fast: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_through(lambda *asked: {"UnprocessedItems": asked[-1]["RequestItems"]}, monkeypatch)
        with pytest.raises(TableError, match=r"^DynamoDB BatchWriteItem failed: UnprocessedItems$"):
            rows.write(puts=items(1))


class TestTransactions:
    def test_a_conflicting_transaction_is_retried(
        self, rows: Table, fast: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conflict = {"CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}]}
        busy = [1, 1]

        def refuse(client: Any, call: Call, operation: str, arguments: Any) -> Any:
            if busy.pop() if busy else None:
                error = {"Error": {"Code": "TransactionCanceledException", "Message": ""}} | conflict
                raise client.exceptions.TransactionCanceledException(error, operation)
            return call(operation, arguments)

        go_through(refuse, monkeypatch)
        first, second = items(2)
        assert rows.put_both(first, second) == (None, None)
        assert stands(rows) == ["000", "001"]
        busy += [1] * table.MAX_TRIES
        with pytest.raises(TableError, match=r"^DynamoDB TransactWriteItems failed: TransactionCanceledException$"):
            rows.put_both(first, second)

    def test_an_existing_item_is_returned_and_neither_is_written(self, rows: Table) -> None:
        first, second, third = items(3)
        rows.put(second | {"n": "old"})
        assert rows.put_both(first, second) == (None, second | {"n": "old"})
        assert rows.put_both(second, third) == (second | {"n": "old"}, None)
        assert stands(rows) == ["001"]

    def test_any_other_failure_is_a_table_error(self, rows: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: Any, __: Call, operation: str, ___: Any) -> Any:
            raise ClientError({"Error": {"Code": "InternalServerError"}}, operation)

        go_through(fail, monkeypatch)
        with pytest.raises(TableError, match=r"^DynamoDB TransactWriteItems failed: InternalServerError$"):
            rows.put_both(*items(2))


def test_an_expired_item_does_not_count_even_while_it_is_stored(rows: Table, clock: Any) -> None:
    first, second = items(2)
    rows.put(first | {"ttl": int(clock.now)})  # type: ignore[arg-type]
    assert stands(rows) == []
    assert rows.put_both(second, first) == (None, None)
    assert stands(rows) == ["000", "001"]
