"""Makes the tables and queues of a project, and empties them.

Definitions are CloudFormation; botocore's models of the two services say which parts their APIs accept.
"""

import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from localgateway.aws.tables import AWS_HOSTS, Tables
from localgateway.aws.template import Properties, Resources
from localgateway.errors import ResourceError


class ResourceMaker:
    """Makes and clears the tables and queues through the endpoints that the environment names."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        # The engine answers within milliseconds once it runs, and its socket accepts calls before that.
        config = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 3})
        session = botocore.session.get_session()
        self._dynamodb: Any = session.create_client("dynamodb", config=config)
        self._sqs: Any = session.create_client("sqs", config=config) if resources.queues else None

    @property
    def tables(self) -> Tables:
        """The tables to read from, until this is closed."""
        keys = {
            name: tuple(part["AttributeName"] for part in properties["KeySchema"])
            for name, properties in self._resources.tables.items()
        }
        return Tables(keys, self._dynamodb)

    def create(self) -> None:
        """Make what does not exist yet; leave the rest as it is.

        Raises:
            ResourceError: if the engine refuses a definition, or does not answer.
        """
        try:
            for name, properties in self._resources.tables.items():
                self._create_table(name, properties)
            for name, properties in self._resources.queues.items():
                self._create_queue(name, properties)
            # A dead-letter queue may come after the queue that names it, so that link is made last.
            for name, properties in self._resources.queues.items():
                if "RedrivePolicy" in properties:
                    policy = to_attribute(properties["RedrivePolicy"])
                    self._sqs.set_queue_attributes(QueueUrl=self._queue_url(name), Attributes={"RedrivePolicy": policy})
        except (BotoCoreError, ClientError) as error:
            raise ResourceError(f"The tables and queues of resources.json cannot be made: {error}") from None

    def clear(self) -> None:
        """Empty everything: tables are made anew, queues are purged.

        Raises:
            ResourceError: if the tables are on AWS itself, which no test may wipe.
        """
        host = urlsplit(self._dynamodb.meta.endpoint_url).hostname or ""
        if host.endswith(AWS_HOSTS):
            raise ResourceError(f"Refusing to clear tables on {host}: that is AWS, not this machine.")
        for name in self._resources.tables:
            with suppress(self._dynamodb.exceptions.ResourceNotFoundException):
                self._dynamodb.delete_table(TableName=name)
                self._dynamodb.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
        for name in self._resources.queues:
            self._sqs.purge_queue(QueueUrl=self._queue_url(name))
        self.create()

    def close(self) -> None:
        self._dynamodb.close()
        if self._sqs:
            self._sqs.close()

    def _create_table(self, name: str, properties: Properties) -> None:
        shape = self._dynamodb.meta.service_model.operation_model("CreateTable").input_shape
        definition = fit(properties, shape) | {"TableName": name}
        if "StreamSpecification" in definition:
            definition["StreamSpecification"]["StreamEnabled"] = True
        try:
            self._dynamodb.create_table(**definition)
        except self._dynamodb.exceptions.ResourceInUseException:
            return
        self._dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
        time_to_live = properties.get("TimeToLiveSpecification")
        if time_to_live:
            self._dynamodb.update_time_to_live(
                TableName=name,
                TimeToLiveSpecification={
                    "AttributeName": time_to_live["AttributeName"],
                    "Enabled": is_true(time_to_live["Enabled"]),
                },
            )

    def _create_queue(self, name: str, properties: Properties) -> None:
        known = self._sqs.meta.service_model.shape_for("QueueAttributeName").enum
        attributes = {
            key: to_attribute(value) for key, value in properties.items() if key in known and key != "RedrivePolicy"
        }
        with suppress(self._sqs.exceptions.QueueNameExists):
            self._sqs.create_queue(QueueName=name, Attributes=attributes)

    def _queue_url(self, name: str) -> str:
        return str(self._sqs.get_queue_url(QueueName=name)["QueueUrl"])


def fit(value: Any, shape: Any) -> Any:
    """Cut a CloudFormation value down to what an AWS API takes: known keys only, numbers and booleans as such."""
    match shape.type_name:
        case "structure":
            members = shape.members
            return {name: fit(part, members[name]) for name, part in value.items() if name in members}
        case "list":
            return [fit(part, shape.member) for part in value]
        case "integer" | "long":
            return int(value)
        case "boolean":
            return is_true(value)
    return value


def is_true(value: object) -> bool:
    """Read a CloudFormation boolean, which may be a string."""
    return str(value).lower() == "true"


def to_attribute(value: object) -> str:
    """Write a CloudFormation value as an SQS attribute, which is always a string."""
    return value if isinstance(value, str) else json.dumps(value)
