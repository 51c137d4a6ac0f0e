"""The CloudFormation stack: create, update or delete it, and explain a failure."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from pealctl.errors import StackFailed

# A stack in one of these states can only be deleted: nothing was created, or everything was rolled back.
NEVER_MADE = ("REVIEW_IN_PROGRESS", "CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
HEALTHY = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")
POLL_SECONDS = 2


class Stack:
    """One stack.

    Args:
        cloudformation: a boto3 client.
        name: the stack's.
        tell: is called with a line of progress.
    """

    def __init__(self, cloudformation: Any, name: str, tell: Callable[[str], None]) -> None:
        self._cloudformation = cloudformation
        self._name = name
        self._tell = tell

    def apply(self, template: str, **parameters: str) -> None:
        """Create or update the stack, if it differs from the template.

        Wait for a change that is under way. Delete a stack whose creation failed before creating it again.

        Args:
            template: as JSON.
            parameters: values for its parameters; the others keep the value that they have.

        Raises:
            StackFailed: CloudFormation failed, and has rolled its changes back.
        """
        status = self._settle()
        if status in NEVER_MADE:
            self._tell(f"Creating stack {self._name} failed last time: deleting what is left of it")
            self.delete()
            status = None
        if status == "UPDATE_ROLLBACK_FAILED":
            raise StackFailed(
                f"Stack {self._name} could neither be updated nor rolled back: remove the cause, then run "
                f"`aws cloudformation continue-update-rollback --stack-name {self._name}`."
            )
        if status == "DELETE_FAILED":
            raise StackFailed(f"Stack {self._name} is half deleted: run `make destroy` until it is gone.")
        arguments = {
            "StackName": self._name,
            "TemplateBody": template,
            "Parameters": self._parameters(json.loads(template), parameters),
        }
        seen = self._last_event()
        if status is None:
            self._cloudformation.create_stack(**arguments)
        elif not self._update(arguments):
            return
        status = self._settle()
        if status not in HEALTHY:
            raise StackFailed(f"CloudFormation could not create stack {self._name}: {self._reason(seen, status)}")

    def delete(self) -> None:
        """Delete the stack, but not the resources that its template retains. Raises StackFailed."""
        if self._settle() is None:
            return
        seen = self._last_event()
        self._cloudformation.delete_stack(StackName=self._name)
        status = self._settle()
        if status is not None:
            raise StackFailed(f"CloudFormation could not delete stack {self._name}: {self._reason(seen, status)}")

    def _parameters(self, template: Mapping[str, Any], given: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the given values, and keep the previous value of the template's other parameters."""
        stack = self._describe() or {}
        kept = {parameter["ParameterKey"] for parameter in stack.get("Parameters", [])} & template["Parameters"].keys()
        return [
            *({"ParameterKey": name, "ParameterValue": value} for name, value in given.items()),
            *({"ParameterKey": name, "UsePreviousValue": True} for name in sorted(kept - given.keys())),
        ]

    def _update(self, arguments: dict[str, Any]) -> bool:
        try:
            self._cloudformation.update_stack(**arguments)
        except ClientError as error:
            if "No updates are to be performed" in error.response["Error"]["Message"]:
                return False
            raise
        return True

    def _settle(self) -> str | None:
        """Wait until no change is under way; return the stack's status, or None if there is no stack."""
        has_told = False
        while True:
            stack = self._describe()
            if stack is None:
                return None
            status: str = stack["StackStatus"]
            if not status.endswith("_IN_PROGRESS") or status == "REVIEW_IN_PROGRESS":
                return status
            if not has_told:
                self._tell(f"Waiting for CloudFormation: stack {self._name} is {status}")
                has_told = True
            time.sleep(POLL_SECONDS)

    def _describe(self) -> dict[str, Any] | None:
        try:
            stack: dict[str, Any] = self._cloudformation.describe_stacks(StackName=self._name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"]["Message"]:
                return None
            raise
        return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack

    def _last_event(self) -> str | None:
        try:
            event = next(self._events(), None)
        except ClientError:  # There is no stack yet, or no longer.
            return None
        return event["EventId"] if event else None

    def _events(self) -> Iterator[dict[str, Any]]:
        """Yield the stack's events, the newest first."""
        for page in self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=self._name):
            yield from page["StackEvents"]

    def _reason(self, seen: str | None, status: str | None) -> str:
        """Return why the first resource failed since event `seen`; the others were cancelled because of it."""
        new = list(itertools.takewhile(lambda event: event["EventId"] != seen, self._events()))
        for event in reversed(new):
            reason = event.get("ResourceStatusReason", "")
            if event["ResourceStatus"].endswith("FAILED") and "cancelled" not in reason:
                return f"{event['LogicalResourceId']}: {reason}"
        return f"it is {status}"
