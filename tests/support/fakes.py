"""Stand-ins for our own ports."""

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError
from chalice.app import WebsocketDisconnectedError

from chalicelib.handlers import jobs as worker
from chalicelib.peal import Peal


class FakeWebsocketApi:
    """Chalice's websocket_api with receivers that behave as `fails` says: the errors of their next sends, in order."""

    session: object = None

    def __init__(self, **fails: list[Exception]) -> None:
        self.fails = fails
        self.inbox: list[tuple[str, str]] = []
        self.configured: list[tuple[str, str]] = []
        self.closed: list[str] = []

    def configure(self, domain_name: str, stage: str) -> None:
        self.configured.append((domain_name, stage))

    def send(self, connection_id: str, message: str) -> None:
        if errors := self.fails.get(connection_id):
            raise errors.pop(0)
        self.inbox.append((connection_id, message))

    def frames(self, connection_id: str) -> list[dict[str, Any]]:
        """Take what the receiver was sent out of the inbox and return it, parsed line by line."""
        texts = [message for receiver, message in self.inbox if receiver == connection_id]
        frames = [json.loads(line) for text in texts for line in text.split("\n")]
        self.inbox = [(receiver, message) for receiver, message in self.inbox if receiver != connection_id]
        return frames

    def close(self, connection_id: str) -> None:
        if errors := self.fails.get(connection_id):
            raise errors.pop(0)
        self.closed.append(connection_id)

    def info(self, connection_id: str) -> dict[str, Any]:
        if errors := self.fails.get(connection_id):
            raise errors.pop(0)
        return {}


class FakeJobs:
    """A queue that keeps its jobs until the test has them done."""

    def __init__(self) -> None:
        self.put_jobs: list[tuple[dict[str, Any], int]] = []
        self.error: Exception | None = None

    def put(self, job: Mapping[str, Any], delay_seconds: int = 0) -> None:
        if self.error:
            raise self.error
        self.put_jobs.append((dict(job), delay_seconds))

    def take(self) -> list[dict[str, Any]]:
        """The jobs so far, as they would be delivered; the queue is empty then."""
        jobs, self.put_jobs = self.put_jobs, []
        return [job for job, _ in jobs]


def does(peal: Peal, job: dict[str, Any]) -> None:
    """A worker has done the job, or raises."""
    worker.work(peal, {"Records": [{"body": json.dumps(job)}]})


def does_all(peal: Peal, jobs: FakeJobs) -> int:
    """How many jobs it took until none was left."""
    done = 0
    while todo := jobs.take():
        for job in todo:
            does(peal, job)
            done += 1
    return done


def gone() -> Exception:
    return WebsocketDisconnectedError("c")


def refused(code: str) -> Exception:
    return ClientError({"Error": {"Code": code, "Message": "payload of a stranger"}}, "PostToConnection")
