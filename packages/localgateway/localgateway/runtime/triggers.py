"""What invokes the functions of a project besides its API: SQS queues and schedules.

A batch that fails stays in its queue: it is retried after the visibility timeout and ends in the dead-letter queue, as
the queue's settings say.
"""

import asyncio
import logging
import os
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from localgateway.contract.events import Event
from localgateway.contract.invoke import Invoker, Result
from localgateway.contract.project import Function, Project, Queue, Timer
from localgateway.runtime.schedules import BadSchedule, parse_schedule

log = logging.getLogger(__name__)

# How long a poll waits for messages; stopping waits for the poll.
POLL_SECONDS = 1
# SQS returns at most ten messages at a time.
MAX_MESSAGES = 10
RETRY_SECONDS = 1
ACCOUNT_ID = "000000000000"


class Sources:
    """Polls the queues and runs the schedules of a project. Lives on one event loop."""

    def __init__(self, invoker: Invoker, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._invoker = invoker
        self._clock = clock
        self._queues: dict[str, Queue] = {}
        self._timers: dict[tuple[str, str], Timer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._sqs: Any = None

    def deploy(self, project: Project) -> None:
        """Serve this version of the project: start what is new, end what was removed, leave the rest alone."""
        if project.queues and self._sqs is None:
            config = Config(connect_timeout=2, read_timeout=POLL_SECONDS + 5)
            self._sqs = botocore.session.get_session().create_client("sqs", config=config)
            self._threads = ThreadPoolExecutor(thread_name_prefix="sqs")
        queues, self._queues = self._queues, {queue.name: queue for queue in project.queues}
        for name in self._queues.keys() - queues.keys():
            self._begin(self._work_off(name))
        timers = self._timers
        self._timers = {(timer.function.name, timer.expression): timer for timer in project.timers}
        for key in self._timers.keys() - timers.keys():
            self._begin(self._keep(key))

    async def close(self) -> None:
        """Stop; batches that are being handled return to their queues."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._threads:
            self._threads.shutdown()
            self._sqs.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work_off(self, name: str) -> None:
        slots = asyncio.Semaphore(self._queues[name].concurrency)
        url = ""
        while True:
            await slots.acquire()
            # Never cancel a poll: the messages it receives would stay hidden until their visibility timeout.
            queue = self._queues.get(name)
            if queue is None:
                return
            try:
                url = url or (await self._ask("get_queue_url", QueueName=name))["QueueUrl"]
                answer = await self._ask(
                    "receive_message",
                    QueueUrl=url,
                    MaxNumberOfMessages=min(queue.batch_size, MAX_MESSAGES),
                    WaitTimeSeconds=POLL_SECONDS,
                    AttributeNames=["All"],
                    MessageAttributeNames=["All"],
                )
            except (BotoCoreError, ClientError) as error:
                log.warning("Queue %s cannot be read: %s", name, error)
                slots.release()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if messages := answer.get("Messages"):
                self._begin(self._handle(queue, url, messages, slots))
            else:
                slots.release()

    async def _handle(self, queue: Queue, url: str, messages: list[dict[str, Any]], slots: asyncio.Semaphore) -> None:
        try:
            event = sqs_event(messages, queue.name, self._sqs.meta.region_name)
            result = await self._invoke(f"sqs {queue.name}", queue.function, event)
            if result.outcome == "ok":
                done = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
                await self._ask("delete_message_batch", QueueUrl=url, Entries=done)
        except (BotoCoreError, ClientError) as error:
            log.warning("Queue %s keeps a batch that was handled: %s", queue.name, error)
        finally:
            slots.release()

    async def _keep(self, key: tuple[str, str]) -> None:
        name, expression = key
        try:
            schedule = parse_schedule(expression)
        except BadSchedule as error:
            log.error("%s does not run: %s", name, error)
            return
        due = schedule.next_after(self._clock())
        while due is not None:
            await asyncio.sleep(max(0, (due - self._clock()).total_seconds()))
            timer = self._timers.get(key)
            if timer is None:
                return
            self._begin(self._run(timer, due))
            due = schedule.next_after(due)

    async def _run(self, timer: Timer, due: datetime) -> None:
        region = os.environ["AWS_REGION"]
        await self._invoke(timer.expression, timer.function, schedule_event(timer.function.deployed_name, due, region))

    async def _invoke(self, cause: str, function: Function, event: Event) -> Result:
        started_at = time.monotonic()
        result = await self._invoker.invoke(function, event)
        log.info("%s %s %s %.0f ms", cause, function.name, result.outcome, (time.monotonic() - started_at) * 1000)
        return result

    async def _ask(self, operation: str, **arguments: Any) -> Any:
        call = getattr(self._sqs, operation)
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(**arguments))


def sqs_event(messages: list[dict[str, Any]], queue: str, region: str) -> Event:
    """Build the event of one batch. Source: "Using Lambda with Amazon SQS" of the Lambda developer guide."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message.get("Attributes", {}),
                "messageAttributes": {
                    name: to_message_attribute(value) for name, value in message.get("MessageAttributes", {}).items()
                },
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:{region}:{ACCOUNT_ID}:{queue}",
                "awsRegion": region,
            }
            for message in messages
        ]
    }


def to_message_attribute(value: dict[str, Any]) -> dict[str, Any]:
    """Write an SQS message attribute as Lambda passes it on: names in lower case, lists always empty."""
    text = {"stringValue": value["StringValue"]} if "StringValue" in value else {}
    binary = {"binaryValue": b64encode(value["BinaryValue"]).decode()} if "BinaryValue" in value else {}
    return {
        **text,
        **binary,
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": value["DataType"],
    }


def schedule_event(rule: str, due: datetime, region: str) -> Event:
    """Build the event of one run. Source: "Schedule events" of the EventBridge user guide."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT_ID,
        "time": f"{due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "region": region,
        "resources": [f"arn:aws:events:{region}:{ACCOUNT_ID}:rule/{rule}-event"],
        "detail": {},
    }
