"""Work for later or for another Lambda: small JSON objects on an SQS queue.

Invariant: a job says what is to be true, not what to do next; done twice, late or in another order it does no harm. So
a SendMessage whose response was lost may be sent again.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.client import JsonClient, operation
from chalicelib.aws.http import Limits
from chalicelib.errors import JobsError
from chalicelib.protocol.frame import dump


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
    extra_headers: Mapping[str, str] = {"X-Amzn-Query-Mode": "true"}
    # boto3's standard mode with three tries of 1 s + 3 s: its third try begins at most 11 s after the call.
    limits = Limits(tries=3, first_pause_seconds=1, begin_seconds=11)

    get_queue_url, send_message = operation("GetQueueUrl"), operation("SendMessage")


class SqsQueue:
    """A queue of jobs. The client, ours or boto3's, is made and the queue looked up by its name for the first job."""

    def __init__(self, make_client: Callable[[], Any], name: str) -> None:
        self._make_client = make_client
        self._name = name
        # The client and the queue's URL.
        self._found: tuple[Any, str] | None = None

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
