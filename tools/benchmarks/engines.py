"""A DynamoDB engine whose capacity figures are real, and the tables of the apps that are compared."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localgateway.aws.resources import fit
from localgateway.aws.template import read_resources
from localgateway.wire.tls import cache_directory

REPOSITORY = Path(__file__).parents[2]
ENGINE = "@dynoxide/linux-x64@1.2.1"


def make_tables(client: Any) -> None:
    (definition,) = read_resources(REPOSITORY / "resources.json", stage="bench", region="eu-central-1").tables.values()
    shape = client.meta.service_model.operation_model("CreateTable").input_shape
    client.create_table(**fit(definition, shape) | {"TableName": "peal"})
    keys = [{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")]
    client.create_table(
        TableName="wschat",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=keys,
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "ReverseLookup",
                "KeySchema": [{"AttributeName": "SK", "KeyType": "HASH"}, {"AttributeName": "PK", "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    client.create_table(
        TableName="samples",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=keys[:1],
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
    )


def fill(client: Any, table: str, items: list[Any]) -> None:
    for start in range(0, len(items), 25):
        requests = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        client.batch_write_item(RequestItems={table: requests})


@contextmanager
def engine() -> Iterator[str | None]:
    """Run an engine whose capacity figures are real; yield its endpoint, or None if there is no such engine."""
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_DYNAMODB"):
        yield endpoint
        return
    npm, home = shutil.which("npm"), cache_directory() / "dynoxide"
    binary = home / "node_modules" / "@dynoxide" / "linux-x64" / "dynoxide"
    if not binary.exists() and npm:
        subprocess.run([npm, "install", "--silent", "--prefix", home, ENGINE], check=False)
    if not binary.exists():
        print("There is no dynoxide for this machine: AWS_ENDPOINT_URL_DYNAMODB can name another engine.")
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([binary, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
