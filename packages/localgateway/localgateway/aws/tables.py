"""The rows of a project's tables, a page at a time, read-only."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

MAX_ROWS = 200
# Host names of AWS itself, where reading a whole table costs money and may show what it should not.
AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")


class Unreadable(Exception):
    """A table cannot be read as asked; the message is a sentence for the caller."""


class Tables:
    """The tables of one project, on the engine it uses on this machine."""

    def __init__(self, keys: Mapping[str, tuple[str, ...]] | None = None, client: Any = None) -> None:
        """Take the tables' keys and a client.

        Args:
            keys: the key attributes of each table, by its name; none if the project has no tables.
            client: a botocore DynamoDB client, which its owner closes.
        """
        self.keys = keys or {}
        self._client = client

    def read(self, name: str, limit: int, after: str | None) -> dict[str, Any]:
        """Return `{"keys", "rows", "next"}`: rows as DynamoDB's JSON has them, in its order. Waits for the engine.

        Args:
            limit: how many rows, up to MAX_ROWS.
            after: the `next` of the page before, None for the first; the last page's is None.

        Raises:
            Unreadable: if the engine does not answer, is AWS itself, or `after` is no page's.
        """
        if self._client.meta.endpoint_url.rstrip("/").endswith(AWS_HOSTS):
            raise Unreadable("The tables are on AWS; only those on this machine are shown.")
        start = {} if after is None else {"ExclusiveStartKey": read_mark(after)}
        try:
            page = self._client.scan(TableName=name, Limit=limit, **start)
        except (BotoCoreError, ClientError) as error:
            raise Unreadable(f"{name} cannot be read: {error}") from None
        last = page.get("LastEvaluatedKey")
        rows = json.loads(json.dumps(page["Items"], default=to_text))
        return {"keys": list(self.keys[name]), "rows": rows, "next": write_mark(last) if last else None}


def write_mark(key: Mapping[str, Any]) -> str:
    """Write a row's key as text that a query string can hold."""
    return base64.urlsafe_b64encode(json.dumps(key, default=to_text).encode()).decode()


def read_mark(mark: str) -> dict[str, Any]:
    """Read the key back.

    Raises:
        Unreadable: if it is not one.
    """
    try:
        key = json.loads(base64.urlsafe_b64decode(mark))
        return {
            name: {kind: base64.b64decode(value) if kind == "B" else value}
            for name, typed in key.items()
            for kind, value in typed.items()
        }
    except (ValueError, AttributeError, TypeError):
        raise Unreadable("`after` is not the `next` of a page.") from None


def to_text(value: bytes) -> str:
    """Write binary data as DynamoDB's JSON does."""
    return base64.b64encode(value).decode()
