"""The CloudFormation stack: made, brought up to date, deleted, and explained where that fails."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from pealctl.deploy.errors import StackFailed

# From these states there is no way on but to delete the stack; nothing was ever made, or all of it was taken back.
NEVER_MADE = ("REVIEW_IN_PROGRESS", "CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
HEALTHY = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")
POLL_SECONDS = 2


class Stack:
    """The stack `name`; `tell` is called with what is going on."""

    def __init__(self, cloudformation: Any, name: str, tell: Callable[[str], None]) -> None:
        self._cloudformation = cloudformation
        self._name = name
        self._tell = tell

    def apply(self, template: str, **parameters: str) -> None:
        """The stack is as the template says; nothing happens where it already was.

        A change that somebody else has under way is waited for. What is left of a stack that was never made is
        deleted first.

        Raises:
            StackFailed: CloudFormation could not do it, and has taken back what it did.
        """
        status = self._settle()
        if status in NEVER_MADE:
            self._tell(f"The last try to make stack {self._name} failed: deleting what is left of it")
            self.delete()
            status = None
        if status == "UPDATE_ROLLBACK_FAILED":
            raise StackFailed(
                f"Stack {self._name} failed to change and failed to change back: see to what hinders it, then run "
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
            raise StackFailed(f"CloudFormation could not make stack {self._name}: {self._reason(seen, status)}")

    def delete(self) -> None:
        """There is no such stack. What its template retains stays. Raises StackFailed."""
        if self._settle() is None:
            return
        seen = self._last_event()
        self._cloudformation.delete_stack(StackName=self._name)
        status = self._settle()
        if status is not None:
            raise StackFailed(f"CloudFormation could not delete stack {self._name}: {self._reason(seen, status)}")

    def _parameters(self, template: Mapping[str, Any], given: Mapping[str, str]) -> list[dict[str, Any]]:
        """The given values, and of the template's other parameters those that somebody has set before."""
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
        """The stack's status once nothing is under way, or None where there is no stack."""
        told = False
        while True:
            stack = self._describe()
            if stack is None:
                return None
            status: str = stack["StackStatus"]
            if not status.endswith("_IN_PROGRESS") or status == "REVIEW_IN_PROGRESS":
                return status
            if not told:
                self._tell(f"Waiting for CloudFormation: stack {self._name} is {status}")
                told = True
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
        except ClientError:  # No stack yet, or none any more.
            return None
        return event["EventId"] if event else None

    def _events(self) -> Iterator[dict[str, Any]]:
        """What happened to the stack, the newest first."""
        for page in self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=self._name):
            yield from page["StackEvents"]

    def _reason(self, seen: str | None, status: str | None) -> str:
        """Why the first resource failed since event `seen`; the others are cancelled because of it."""
        new = list(itertools.takewhile(lambda event: event["EventId"] != seen, self._events()))
        for event in reversed(new):
            reason = event.get("ResourceStatusReason", "")
            if event["ResourceStatus"].endswith("FAILED") and "cancelled" not in reason:
                return f"{event['LogicalResourceId']}: {reason}"
        return f"it is {status}"
