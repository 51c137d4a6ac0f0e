"""Jobs: put into a real queue, and done by the worker."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from chalicelib.aws.queue import JobsError, SqsJobs
from chalicelib.errors import TableError
from chalicelib.handlers import jobs as worker
from chalicelib.peal import Peal


@pytest.fixture(scope="module")
def sqs(aws: None) -> Iterator[Any]:
    client = boto3.client("sqs")
    yield client
    client.close()


@pytest.fixture
def queue(sqs: Any, table_name: str) -> Iterator[str]:
    """A queue for this test alone."""
    url = sqs.create_queue(QueueName=table_name)["QueueUrl"]
    yield table_name
    sqs.delete_queue(QueueUrl=url)


class TestTheQueue:
    def test_a_job_arrives_as_it_was_put_and_the_queue_is_looked_up_once(self, sqs: Any, queue: str) -> None:
        made = []
        jobs = SqsJobs(lambda: made.append(sqs) or sqs, queue)
        assert made == []
        for n in range(2):
            jobs.put({"job": "advance", "n": n})
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        got = [sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] for _ in range(2)]
        assert sorted(got) == ['{"job":"advance","n":0}', '{"job":"advance","n":1}']
        assert made == [sqs]

    def test_a_delayed_job_arrives_later(self, sqs: Any, queue: str) -> None:
        SqsJobs(lambda: sqs, queue).put({"job": "leave"}, delay_seconds=60)
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        assert "Messages" not in sqs.receive_message(QueueUrl=url)
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert attributes["ApproximateNumberOfMessagesDelayed"] == "1"

    def test_a_missing_queue_is_reported(self, sqs: Any) -> None:
        with pytest.raises(JobsError, match=r"The queue of jobs failed: .*NonExistentQueue"):
            SqsJobs(lambda: sqs, "no-such-queue").put({})

    def test_a_queue_that_does_not_answer_is_reported(self) -> None:
        config = Config(connect_timeout=0.2, retries={"total_max_attempts": 1})
        nobody = boto3.client("sqs", endpoint_url="http://127.0.0.1:9", config=config)
        with pytest.raises(JobsError, match=r"^The queue of jobs failed: EndpointConnectionError$"):
            SqsJobs(lambda: nobody, "q").put({})


def event(*bodies: Any) -> dict[str, Any]:
    return {"Records": [{"body": body if isinstance(body, str | None) else json.dumps(body)} for body in bodies]}


class TestTheWorker:
    @pytest.mark.parametrize(
        ("body", "why"),
        [
            ("{", "job must be one of advance, broadcast, close, leave, publication."),
            ("[]", "job must be one of advance, broadcast, close, leave, publication."),
            (None, "job must be one of advance, broadcast, close, leave, publication."),
            ({"job": "dance"}, "job must be one of advance, broadcast, close, leave, publication."),
            ({"job": "advance", "channel": "chat:1"}, "shard must be a whole number."),
            ({"job": "advance", "channel": "chat:1", "shard": -1}, "shard must be a whole number."),
            ({"job": "advance", "shard": 0}, "channel must be a string."),
            ({"job": "advance", "channel": "gone:1", "shard": 0}, "channel must be in one of the namespaces"),
            ({"job": "leave", "channel": "chat:1", "connectionId": "c="}, "userId must be a string."),
            ({"job": "leave", "channel": "chat:1", "userId": "u"}, "connectionId must be a string."),
        ],
    )
    def test_an_impossible_job_is_dropped_and_the_others_are_done(
        self, peal: Peal, caplog: pytest.LogCaptureFixture, body: Any, why: str
    ) -> None:
        done: list[str] = []
        good = {"job": "advance", "channel": "chat:1", "shard": 0}
        with caplog.at_level(logging.ERROR), pytest.MonkeyPatch.context() as patch:
            worker.work(peal, event(body))
            assert f"Dropped a job that cannot be done: {why}" in caplog.text
            patch.setattr(peal.sequencer, "resume", lambda channel, shard: done.append(channel.name))
            worker.work(peal, event("{", good))
        assert done == ["chat:1"]

    def test_a_failed_job_raises_so_that_it_is_retried(self, peal: Peal, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise TableError("Query", "InternalServerError")

        monkeypatch.setattr(peal.sequencer, "resume", fail)
        with pytest.raises(TableError):
            worker.work(peal, event({"job": "advance", "channel": "chat:1", "shard": 0}))
