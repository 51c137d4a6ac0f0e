"""The apps whose costs are compared: Peal, the chat of Chalice's tutorial, and a broadcast that scans its table."""

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
from boto3.dynamodb.conditions import Key

from chalicelib.handlers import websocket
from chalicelib.peal import Peal, build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.settings import Settings
from chalicelib.store import keys
from localgateway.testing import connect_event, disconnect_event, message_event
from tools.benchmarks.engines import fill
from tools.benchmarks.metering import Meter


class PealApp:
    """Peal over a table of its own."""

    def __init__(self, meter: Meter, session: boto3.session.Session, client: Any, table: str) -> None:
        self._meter, self._client = meter, client
        settings = Settings(
            table,
            allow_anonymous=True,
            anonymous_grants=EVERYTHING,
            max_channels=1_000,
            # Both clients make the same requests; the meter can count this one's.
            table_client="boto3",
        )
        self.peal: Peal = build(settings, meter, session, jobs=meter)

    def connect(self, connection_id: str, user: str) -> None:
        self._invoked(lambda: websocket.connect(self.peal, connect_event(connection_id, {"userId": user})))

    def disconnect(self, connection_id: str) -> None:
        self._invoked(lambda: websocket.disconnect(self.peal, disconnect_event(connection_id)))

    def frame(self, connection_id: str, action: str, **fields: Any) -> None:
        self._send(connection_id, {"action": action, **fields})

    def command(self, connection_id: str, name: str, **fields: Any) -> None:
        """Send a command as an SDK of Centrifugo's protocol does."""
        self._send(connection_id, {"id": 1, name: fields})

    def _send(self, connection_id: str, frame: dict[str, Any]) -> None:
        self._meter.bill.received += 1
        event = message_event(json.dumps(frame), connection_id)
        self._invoked(lambda: websocket.message(self.peal, event))

    def seat(self, channel: str, count: int) -> None:
        """Make that many connections members of the channel, by writing their rows directly, uncounted."""
        ttl, rows = {"N": str(int(time.time()) + 7_800)}, []
        if channel.startswith("feed:"):
            self.peal.publish(channel, "the first, which makes the channel's rows")
        for n in range(count):
            connection_id, user_id = f"{channel.replace(':', '-')}-{n}=", f"u_{channel.replace(':', '-')}-{n}"
            own = keys.connection_key(connection_id) | keys.owner_keys(connection_id, user_id)
            for key in (own, keys.membership_key(channel, 0, connection_id)):
                rows.append({name: {"S": text} for name, text in key.items()} | {"userId": {"S": user_id}, "ttl": ttl})
        fill(self._client, "peal", rows)

    def _invoked(self, door: Callable[[], Any]) -> None:
        self._meter.bill.invocations += 1
        door()


class Wschat:
    """The chat of Chalice's tutorial: a row per connection and room, and a full index in reverse."""

    def __init__(self, meter: Meter, session: boto3.session.Session, table: str) -> None:
        self._meter, self._table = meter, session.resource("dynamodb").Table(table)

    def connect(self, connection_id: str) -> None:
        self._meter.bill.invocations += 1
        self._table.put_item(Item={"PK": connection_id, "SK": "username_"})

    def join(self, connection_id: str) -> None:
        self._said(connection_id)
        self._table.put_item(Item={"PK": connection_id, "SK": "room_lobby"})
        self._meter.send(connection_id, "Joined chat room: lobby")

    def text(self, connection_id: str) -> None:
        self._said(connection_id)
        answer = self._table.query(IndexName="ReverseLookup", KeyConditionExpression=Key("SK").eq("room_lobby"))
        for item in answer["Items"]:
            self._meter.send(item["PK"], "somebody: hi")

    def disconnect(self, connection_id: str) -> None:
        self._meter.bill.invocations += 1
        for item in self._of(connection_id):
            self._table.delete_item(Key={"PK": item["PK"], "SK": item["SK"]})

    def _said(self, connection_id: str) -> None:
        self._meter.bill.invocations += 1
        self._meter.bill.received += 1
        self._of(connection_id)

    def _of(self, connection_id: str) -> list[Any]:
        return list(self._table.query(KeyConditionExpression=Key("PK").eq(connection_id))["Items"])


class Samples:
    """AWS's samples: a broadcast reads the whole table, including any other rows."""

    def __init__(self, meter: Meter, client: Any, table: str) -> None:
        self._meter, self._client, self._table = meter, client, table

    def broadcast(self) -> None:
        self._meter.bill.invocations += 1
        self._meter.bill.received += 1
        for page in self._client.get_paginator("scan").paginate(TableName=self._table):
            for item in page["Items"]:
                if "data" not in item:
                    self._meter.send(item["PK"]["S"], "hi")
