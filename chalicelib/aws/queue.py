"""Work for later or for another Lambda: small JSON objects on an SQS queue.

Invariant: a job says what is to be true, not what to do next; done twice, late or in another order it does no harm. So
a SendMessage whose response was lost may be sent again.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.client import JsonClient
from chalicelib.aws.http import Limits
from chalicelib.errors import ServiceError
from chalicelib.protocol.frame import dump

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient as Boto3SQSClient


class JobsError(ServiceError):
    """The queue refused a job, or did not answer; `reason` is its error code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The queue of jobs failed: {self.reason}"


class Jobs(Protocol):
    """Takes jobs."""

    def put(self, job: Mapping[str, Any], delay_seconds: int = 0) -> None:
        """Have the job done at least once, not before the delay is over (at most 900 s).

        Raises:
            JobsError: the queue refused the job, or did not answer; it may still have taken it.
        """


class SQSClient(JsonClient):
    """Finds a queue and sends messages, as boto3's client of the same operations.

    A request goes to the client's endpoint, whatever the queue's URL says: the URL is a parameter like others.

    Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
    """

    title, service, target = "SQS", "sqs", "AmazonSQS"
    # Errors then have the codes of SQS's older protocol, as boto3's have.
    extra_headers: ClassVar = {"X-Amzn-Query-Mode": "true"}
    # boto3's standard mode with three tries of 1 s + 3 s: its third try begins at most 11 s after the call.
    limits = Limits(tries=3, first_pause_seconds=1, begin_seconds=11)

    def get_queue_url(self, *, QueueName: str) -> dict[str, Any]:
        """Return the queue's URL as `QueueUrl`."""
        return self.call("GetQueueUrl", {"QueueName": QueueName})

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0) -> dict[str, Any]:
        """Send a message, which is received after the delay at the earliest."""
        parameters = {"QueueUrl": QueueUrl, "MessageBody": MessageBody, "DelaySeconds": DelaySeconds}
        return self.call("SendMessage", parameters)


class SqsQueue:
    """A queue of jobs. The client is made, and the queue looked up, for the first job.

    Args:
        make_client: returns a client of SQS, ours or boto3's.
        name: the queue's.
    """

    def __init__(self, make_client: Callable[[], "SQSClient | Boto3SQSClient"], name: str) -> None:
        self._make_client = make_client
        self._name = name
        self._found: tuple[SQSClient | Boto3SQSClient, str] | None = None

    def put(self, job: Mapping[str, Any], delay_seconds: int = 0) -> None:
        """Send the job to the queue: see `Jobs.put`."""
        try:
            if self._found is None:
                client = self._make_client()
                self._found = client, client.get_queue_url(QueueName=self._name)["QueueUrl"]
            client, url = self._found
            client.send_message(QueueUrl=url, MessageBody=dump(job), DelaySeconds=delay_seconds)
        except ClientError as error:
            raise JobsError(error.response["Error"].get("Code", "unknown")) from error
        except BotoCoreError as error:
            raise JobsError(type(error).__name__) from error
