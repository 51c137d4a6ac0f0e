"""Count what an app uses of AWS, and add up what that costs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import boto3

from tools.benchmarks.prices import LAMBDA_GB_S, LAMBDA_REQUEST, MESSAGE, READ_UNIT, SQS_REQUEST, WRITE_UNIT

# Stated, not measured: 1,024 MB, 3 ms, and the time of a call: DynamoDB 4 ms, SQS 8 ms, POSTs 10 ms, 16 at a time.
LAMBDA_GB, LAMBDA_MS, DYNAMODB_MS, SQS_MS, POST_MS, POSTS_AT_ONCE = 1.0, 3, 4, 8, 10, 16


@dataclass
class Bill:
    """What was used."""

    writes: float = 0
    reads: float = 0
    calls: int = 0
    sends: int = 0
    received: int = 0
    jobs: int = 0
    invocations: int = 0

    def dollars(self) -> float:
        """Return the price of this a million times, in USD."""
        milliseconds = self.invocations * LAMBDA_MS + self.calls * DYNAMODB_MS + self.jobs * SQS_MS
        milliseconds += math.ceil(self.sends / POSTS_AT_ONCE) * POST_MS
        return (
            self.writes * WRITE_UNIT
            + self.reads * READ_UNIT
            + (self.sends + self.received) * MESSAGE
            + self.jobs * 3 * SQS_REQUEST
            + self.invocations * LAMBDA_REQUEST
            + milliseconds / 1000 * LAMBDA_GB * LAMBDA_GB_S
        )


@dataclass
class Meter:
    """Count the calls of a boto3 session's DynamoDB clients, and act as the websocket_api and the queue."""

    bill: Bill = field(default_factory=Bill)
    _lock: Lock = field(default_factory=Lock)

    def watch(self, session: boto3.session.Session) -> None:
        session.events.register("provide-client-params.dynamodb", self._ask)
        session.events.register("after-call.dynamodb", self._add)

    def _ask(self, params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any]:
        if "ReturnConsumedCapacity" in model.input_shape.members:
            params = params | {"ReturnConsumedCapacity": "TOTAL"}
        return params

    def _add(self, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        self.bill.calls += 1
        consumed = parsed.get("ConsumedCapacity", [])
        units = sum(each["CapacityUnits"] for each in (consumed if isinstance(consumed, list) else [consumed]))
        if model.name in ("GetItem", "Query", "Scan", "BatchGetItem"):
            self.bill.reads += units
        elif "Error" in parsed and not units:
            # A condition that fails costs as much as the write.
            self.bill.writes += 1
        else:
            self.bill.writes += units

    # As `app.websocket_api`.
    session: Any = None

    def configure(self, domain_name: str, stage: str) -> None:
        pass

    def send(self, connection_id: str, message: str) -> None:
        # Many threads send.
        with self._lock:
            self.bill.sends += math.ceil(len(message.encode()) / 32_768)

    def close(self, connection_id: str) -> None:
        pass

    # As the queue.
    def put(self, job: Any, delay_seconds: int = 0) -> None:
        self.bill.jobs += 1


def measure(meter: Meter, act: Callable[[], None]) -> Bill:
    """Return what `act` uses."""
    meter.bill = Bill()
    act()
    bill, meter.bill = meter.bill, Bill()
    return bill
