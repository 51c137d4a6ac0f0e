"""The project's other functions: queues with redelivery and a dead-letter queue, schedules, functions by name."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from gatewaykit import SECONDS, Probe
from localgateway.runtime import schedules
from localgateway.runtime.triggers import schedule_event, sqs_event

pytestmark = pytest.mark.usefixtures("own_engine")

QUEUES = {
    "Jobs": {
        "Type": "AWS::SQS::Queue",
        "Properties": {
            "QueueName": "jobs",
            "VisibilityTimeout": 1,
            "RedrivePolicy": {"deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}, "maxReceiveCount": 2},
        },
    },
    "Dead": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "dead"}},
}
WORKING = """
@app.on_sqs_message(queue="jobs", batch_size=5)
def work(event):
    events.put(event.to_dict())
    for record in event:
        if record.body == "bad":
            raise ValueError("a bad job")
"""


@pytest.fixture
def jobs(serve: Callable[..., Probe]) -> Any:
    """A running project with a queue, and what a test needs of it."""

    class Jobs:
        def __init__(self) -> None:
            self.probe = serve(WORKING, resources=QUEUES)
            environment = self.probe.gateway.environment
            self.sqs = boto3.client(
                "sqs",
                endpoint_url=environment["AWS_ENDPOINT_URL_SQS"],
                region_name=environment["AWS_REGION"],
                aws_access_key_id="local",
                aws_secret_access_key="local",
            )

        def url(self, name: str) -> str:
            return str(self.sqs.get_queue_url(QueueName=name)["QueueUrl"])

        def send(self, body: str, **options: Any) -> None:
            self.sqs.send_message(QueueUrl=self.url("jobs"), MessageBody=body, **options)

        def count(self, name: str) -> int:
            names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            answer = self.sqs.get_queue_attributes(QueueUrl=self.url(name), AttributeNames=names)
            return sum(int(value) for value in answer["Attributes"].values())

        def becomes(self, name: str, count: int) -> None:
            deadline = time.monotonic() + SECONDS
            while self.count(name) != count:
                assert time.monotonic() < deadline, f"{name} has {self.count(name)} messages"
                time.sleep(0.05)

    jobs = Jobs()
    yield jobs
    jobs.sqs.close()


class TestQueues:
    @pytest.mark.slow
    def test_a_handled_message_has_lambdas_shape_and_leaves_the_queue(self, jobs: Any) -> None:
        jobs.send("hi", MessageAttributes={"who": {"DataType": "String", "StringValue": "me"}})
        (record,) = jobs.probe.event()["Records"]
        assert record["body"] == "hi"
        assert record["eventSource"] == "aws:sqs"
        assert record["eventSourceARN"].endswith(":jobs")
        assert record["attributes"]["ApproximateReceiveCount"] == "1"
        assert record["messageAttributes"]["who"] == {
            "stringValue": "me",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "String",
        }
        jobs.becomes("jobs", 0)

    @pytest.mark.slow
    def test_a_failed_batch_is_retried_and_ends_in_the_dead_letter_queue(self, jobs: Any) -> None:
        jobs.send("bad")
        first, second = jobs.probe.event()["Records"], jobs.probe.event()["Records"]
        assert first[0]["messageId"] == second[0]["messageId"]
        assert second[0]["attributes"]["ApproximateReceiveCount"] == "2"
        jobs.becomes("dead", 1)
        jobs.becomes("jobs", 0)


class TestSchedules:
    def test_a_function_runs_when_it_is_due(self, serve: Callable[..., Probe], monkeypatch: pytest.MonkeyPatch) -> None:
        # The shortest rate is a minute: too long to wait for.
        monkeypatch.setitem(schedules.UNITS, "minute", timedelta(seconds=0.2))
        probe = serve(
            """
            @app.schedule("rate(1 minute)")
            def tick(event):
                events.put(event.to_dict())
            """
        )
        first, second = probe.event(), probe.event()
        assert first["detail-type"] == "Scheduled Event"
        assert first["resources"] == second["resources"]
        assert first["id"] != second["id"]

    def test_a_schedule_that_eventbridge_would_refuse_is_reported(
        self, serve: Callable[..., Probe], caplog: pytest.LogCaptureFixture
    ) -> None:
        serve('@app.schedule("rate(1 minutes)")\ndef tick(event):\n    pass\n')
        deadline = time.monotonic() + SECONDS
        while "tick does not run: 'rate(1 minutes)' is no schedule" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)


class TestEvents:
    def test_a_schedules_event_is_eventbridges(self) -> None:
        event = schedule_event("probe-local-tick", datetime(2026, 11, 23, 9, 30, tzinfo=UTC), "eu-central-1")
        assert event["time"] == "2026-11-23T09:30:00Z"
        assert event["resources"] == ["arn:aws:events:eu-central-1:000000000000:rule/probe-local-tick-event"]
        assert set(event) == {
            "version",
            "id",
            "detail-type",
            "source",
            "account",
            "time",
            "region",
            "resources",
            "detail",
        }

    def test_a_binary_attribute_is_base64(self) -> None:
        message = {
            "MessageId": "m",
            "ReceiptHandle": "r",
            "Body": "b",
            "MD5OfBody": "md5",
            "MessageAttributes": {"raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01"}},
        }
        (record,) = sqs_event([message], "jobs", "eu-central-1")["Records"]
        assert record["messageAttributes"]["raw"]["binaryValue"] == "AAE="
        assert record["eventSourceARN"] == "arn:aws:sqs:eu-central-1:000000000000:jobs"


class TestFunctionsByName:
    GREETING = """
    @app.lambda_function(name="greet")
    def greet(event, context):
        if event.get("fail"):
            raise ValueError("no")
        events.put(event)
        return {"hello": event["who"], "function": context.function_name}

    @app.on_ws_message()
    def message(event):
        import boto3, json
        client = boto3.client("lambda")
        answer = client.invoke(FunctionName="probe-local-greet", Payload=json.dumps({"who": event.body}))
        client.close()
        send(event.connection_id, answer["Payload"].read().decode())
    """

    @pytest.fixture
    def greeter(self, serve: Callable[..., Probe]) -> Any:
        probe = serve(self.GREETING)
        environment = probe.gateway.environment
        client = boto3.client(
            "lambda",
            endpoint_url=environment["AWS_ENDPOINT_URL_LAMBDA"],
            region_name=environment["AWS_REGION"],
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        yield probe, client
        client.close()

    @pytest.mark.parametrize(
        "name", ["greet", "probe-local-greet", "arn:aws:lambda:us-east-1:000000000000:function:probe-local-greet"]
    )
    def test_any_name_of_a_function_finds_it(self, greeter: Any, name: str) -> None:
        answer = greeter[1].invoke(FunctionName=name, Payload=b'{"who":"me"}')
        assert answer["StatusCode"] == 200
        assert json.loads(answer["Payload"].read()) == {"hello": "me", "function": "probe-local-greet"}

    def test_an_error_is_an_answer(self, greeter: Any) -> None:
        answer = greeter[1].invoke(FunctionName="greet", Payload=b'{"fail":true}')
        assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
        assert json.loads(answer["Payload"].read()) == {"errorMessage": "no", "errorType": "ValueError"}

    def test_an_asynchronous_invocation_is_accepted_at_once(self, greeter: Any) -> None:
        probe, client = greeter
        answer = client.invoke(FunctionName="greet", InvocationType="Event", Payload=b'{"who":"later"}')
        assert answer["StatusCode"] == 202
        assert probe.event() == {"who": "later"}

    def test_an_unknown_id_is_not_found_and_nonsense_is_refused(self, greeter: Any) -> None:
        client = greeter[1]
        with pytest.raises(client.exceptions.ResourceNotFoundException, match="Function not found: nobody"):
            client.invoke(FunctionName="nobody")
        with pytest.raises(client.exceptions.InvalidRequestContentException):
            client.invoke(FunctionName="greet", Payload=b"{")

    def test_a_request_that_is_not_signed_is_refused(self, greeter: Any) -> None:
        url = greeter[0].gateway.environment["AWS_ENDPOINT_URL_LAMBDA"]
        request = urllib.request.Request(f"{url}/2015-03-31/functions/greet/invocations", b"{}")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=SECONDS)
        with refused.value as answer:
            assert answer.code == 403

    def test_one_function_invokes_another(self, greeter: Any) -> None:
        client = greeter[0].joins()
        client.sends("you")
        assert json.loads(client.receives())["hello"] == "you"
