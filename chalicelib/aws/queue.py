"""Work for later or for another Lambda: small JSON objects on a queue.

Invariant: a job says what is to be true, not what to do next; done twice, late or in another order it does no harm.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import ServiceError
from chalicelib.protocol.frame import dump

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


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
        """The job will be done at least once, not before the delay is over (at most 900 s). Raises JobsError."""


class SqsJobs:
    """An SQS queue of jobs. The client is made, and the queue looked up, for the first job."""

    def __init__(self, make_client: Callable[[], "SQSClient"], queue_name: str) -> None:
        self._make_client = make_client
        self._queue_name = queue_name
        self._found: tuple[SQSClient, str] | None = None

    def put(self, job: Mapping[str, Any], delay_seconds: int = 0) -> None:
        try:
            if self._found is None:
                client = self._make_client()
                self._found = client, client.get_queue_url(QueueName=self._queue_name)["QueueUrl"]
            client, url = self._found
            client.send_message(QueueUrl=url, MessageBody=dump(job), DelaySeconds=delay_seconds)
        except ClientError as error:
            raise JobsError(error.response["Error"].get("Code", "unknown")) from error
        except BotoCoreError as error:
            raise JobsError(type(error).__name__) from error
