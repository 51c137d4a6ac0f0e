"""A client of DynamoDB that does for `store.table` what boto3's does, but starts at once.

Invariants: it returns and raises what boto3's client does, except for ResponseMetadata and binary values, which stay
base64. A write whose response was lost is sent again, as boto3 does, and may then take place twice; a transaction
takes place once.

Why not boto3, with figures: docs/decisions/table-client.md.
Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html
"""

import os
from typing import Any

from chalicelib.aws.client import JsonClient, operation
from chalicelib.aws.http import Limits


class DynamoDBClient(JsonClient):
    """Reads and writes items, as boto3's client of the same operations."""

    title, service, target = "DynamoDB", "dynamodb", "DynamoDB_20120810"
    # A $connect that waits for the table is answered within API Gateway's 29 s. A page is 1 MB of items as DynamoDB
    # counts them; type names and JSON's escapes come on top.
    limits = Limits(tries=5, first_pause_seconds=0.2, begin_seconds=8, max_body_bytes=16 * 2**20)

    get_item, query, scan = operation("GetItem"), operation("Query"), operation("Scan")
    put_item, update_item, delete_item = operation("PutItem"), operation("UpdateItem"), operation("DeleteItem")
    batch_write_item = operation("BatchWriteItem")

    def transact_write_items(self, **parameters: Any) -> dict[str, Any]:
        """Write all items or none; a retry is answered like the first try, because both carry one token."""
        return self.call("TransactWriteItems", {"ClientRequestToken": os.urandom(16).hex(), **parameters})
