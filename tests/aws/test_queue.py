"""The queue of jobs: through our client and boto3's, on a real engine and against a server that a test scripts."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError, NoRegionError

from chalicelib.aws.client import connect
from chalicelib.aws.queue import SQSClient, SqsQueue
from chalicelib.aws.sigv4 import Credentials
from chalicelib.errors import JobsError
from tests.aws.conftest import REGION
from tests.support.management_server import ManagementServer, Move, answer, closes, json_answer, json_refusal

# As SQS gives it; nothing listens there.
URL = "https://sqs.eu-central-1.amazonaws.invalid/123456789012/q"
FOUND = json_answer({"QueueUrl": URL})
SENT = json_answer({"MessageId": "m", "MD5OfMessageBody": "5d41402abc4b2a76b9719d911017c592"})


@pytest.fixture(scope="module")
def sqs(aws: None) -> Iterator[Any]:
    """boto3's client of the engine."""
    client = boto3.client("sqs")
    yield client
    client.close()


class TestTheEngine:
    @pytest.fixture
    def url(self, sqs: Any, table_name: str) -> Iterator[str]:
        """The URL of a queue of its own name."""
        url = sqs.create_queue(QueueName=table_name)["QueueUrl"]
        yield url
        sqs.delete_queue(QueueUrl=url)

    @pytest.fixture
    def client(self, kind: Any, session: boto3.session.Session) -> Iterator[Any]:
        client = connect(SQSClient, session, kind)
        assert isinstance(client, SQSClient) == (kind == "lean")
        yield client
        client.close()

    def test_jobs_arrive_as_they_were_put(self, sqs: Any, client: Any, url: str, table_name: str) -> None:
        queue = SqsQueue(lambda: client, table_name)
        for n in range(2):
            queue.put({"job": "advance", "n": n, "text": 'é"\n😀'})
        got = [sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] for _ in range(2)]
        assert sorted(got) == [f'{{"job":"advance","n":{n},"text":"é\\"\\n😀"}}' for n in range(2)]

    def test_a_job_with_a_delay_arrives_later(self, sqs: Any, client: Any, url: str, table_name: str) -> None:
        SqsQueue(lambda: client, table_name).put({"job": "leave"}, delay_seconds=60)
        assert "Messages" not in sqs.receive_message(QueueUrl=url)
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert attributes["ApproximateNumberOfMessagesDelayed"] == "1"

    def test_a_missing_queue_is_an_error(self, client: Any) -> None:
        with pytest.raises(JobsError, match=r"^The queue of jobs failed: AWS.SimpleQueueService.NonExistentQueue$"):
            SqsQueue(lambda: client, "no-such-queue").put({})


class TestRequests:
    @pytest.fixture
    def queue(self, connect_json: Any) -> SqsQueue:
        return SqsQueue(lambda: connect_json(SQSClient), "q")

    def test_both_clients_ask_the_same(self, json_server: ManagementServer, queue: SqsQueue) -> None:
        json_server.then(FOUND, SENT, SENT)
        queue.put({"job": "advance", "text": "é"})
        queue.put({"job": "leave"}, delay_seconds=60)
        assert [
            (request.headers["x-amz-target"], json.loads(request.body), request.tcp) for request in json_server.requests
        ] == [
            ("AmazonSQS.GetQueueUrl", {"QueueName": "q"}, 0),
            (
                "AmazonSQS.SendMessage",
                {"QueueUrl": URL, "MessageBody": '{"job":"advance","text":"é"}', "DelaySeconds": 0},
                0,
            ),
            ("AmazonSQS.SendMessage", {"QueueUrl": URL, "MessageBody": '{"job":"leave"}', "DelaySeconds": 60}, 0),
        ]
        for request in json_server.requests:
            assert (request.method, request.path) == ("POST", "/")
            assert request.headers["host"] == json_server.endpoint.removeprefix("http://")
            assert request.headers["content-type"] == "application/x-amz-json-1.0"
            assert request.headers["x-amzn-query-mode"] == "true"
            assert "/eu-central-1/sqs/aws4_request, SignedHeaders=" in request.headers["authorization"]

    @pytest.mark.parametrize(
        ("answers", "reason"),
        [
            (
                [json_refusal("QueueDoesNotExist", 400, "x-amzn-query-error: AWS.SimpleQueueService.Gone;Sender")],
                "AWS.SimpleQueueService.Gone",
            ),
            ([FOUND, json_refusal("InvalidMessageContents")], "InvalidMessageContents"),
            ([FOUND, json_refusal("AccessDeniedException", 403)], "AccessDeniedException"),
            ([FOUND, *[json_refusal("RequestThrottled")] * 3], "RequestThrottled"),
            ([FOUND, *[answer(503)] * 3], "503"),
            ([answer(404, b"no JSON")], "404"),
            ([closes] * 3, "ConnectionClosedError"),
        ],
    )
    def test_what_fails_is_a_jobs_error_after_the_same_tries(
        self, json_server: ManagementServer, queue: SqsQueue, answers: list[Move], reason: str
    ) -> None:
        json_server.then(*answers)
        with pytest.raises(JobsError, match=f"^The queue of jobs failed: {reason}$"):
            queue.put({})
        assert len(json_server.requests) == len(answers)
        assert not json_server.moves[""]

    def test_the_queue_is_looked_up_again_if_that_failed(self, json_server: ManagementServer, queue: SqsQueue) -> None:
        json_server.then(json_refusal("AccessDeniedException", 403), FOUND, SENT)
        with pytest.raises(JobsError):
            queue.put({})
        queue.put({})
        assert len(json_server.requests) == 3


class TestTheClient:
    def test_it_is_made_for_the_first_job(self, json_server: ManagementServer) -> None:
        made: list[SQSClient] = []

        def make() -> SQSClient:
            made.append(SQSClient(json_server.endpoint, REGION, lambda: Credentials("A", "s", None)))
            return made[-1]

        queue = SqsQueue(make, "q")
        assert made == []
        json_server.then(FOUND, SENT, SENT)
        queue.put({})
        queue.put({})
        assert len(made) == 1
        made[0].close()

    @pytest.mark.parametrize("error", [NoRegionError(), EndpointConnectionError(endpoint_url="x", error="y")])
    def test_where_there_is_none_it_is_a_jobs_error(self, error: Exception) -> None:
        def make() -> Any:
            raise error

        with pytest.raises(JobsError, match=rf"^The queue of jobs failed: {type(error).__name__}$"):
            SqsQueue(make, "q").put({})

    def test_the_first_job_imports_no_boto3(self, json_server: ManagementServer) -> None:
        code = """
import sys
from chalicelib.aws.client import connect
from chalicelib.aws.queue import SQSClient, SqsQueue
from chalicelib.aws.session import EnvironmentSession
import os
SqsQueue(lambda: connect(SQSClient, EnvironmentSession(os.environ), "lean"), "q").put({"job": "leave"})
print(sorted({"boto3", "botocore.session", "urllib3"} & sys.modules.keys()))
"""
        environment = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": REGION}
        environment["AWS_ENDPOINT_URL_SQS"] = json_server.endpoint
        json_server.then(FOUND, SENT)
        found = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert found.stdout == "[]\n"
        assert len(json_server.requests) == 2
