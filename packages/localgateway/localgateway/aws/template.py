"""The tables and queues of a project, and the variables that name them to functions: the CloudFormation in
resources.json.

That file is their only definition, here as on AWS (`chalice package --merge-template resources.json`). It is evaluated
as far as tables, queues and functions' variables need it: parameters, references, names, and conditions that compare.
Everything else in it is ignored.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localgateway.errors import ResourceError

TABLE = "AWS::DynamoDB::Table"
QUEUE = "AWS::SQS::Queue"
FUNCTION = "AWS::Serverless::Function"
# MiniStack's account unless an access key names another.
ACCOUNT_ID = "000000000000"

Properties = dict[str, Any]


@dataclass(frozen=True)
class Resources:
    """The resolved properties of each table and queue, by name, in the template's order.

    `variables` are what the template adds to the environment of a function, by the function's logical id; `unresolved`
    has a sentence for each that cannot be evaluated here.
    """

    tables: Mapping[str, Properties]
    queues: Mapping[str, Properties]
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unresolved: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tables or self.queues)


def read_resources(path: Path, *, stage: str, region: str) -> Resources:
    """Read a template; a missing file defines nothing.

    The parameter `Stage` is the Chalice stage; others have their defaults.

    Raises:
        ResourceError: if the file is not a template, or a table or queue uses what cannot be resolved here.
    """
    if not path.is_file():
        return Resources({}, {})
    try:
        template = json.loads(path.read_text(encoding="utf-8"))
        resolver = Resolver(template, stage=stage, region=region)
        variables, unresolved = resolver.variables_of_functions()
        return Resources(resolver.properties_by_name(TABLE), resolver.properties_by_name(QUEUE), variables, unresolved)
    except (ValueError, AttributeError, TypeError) as error:
        raise ResourceError(f"{path} is not a CloudFormation template: {error}") from None
    except KeyError as error:
        raise ResourceError(f"{path} uses {error}, which cannot be resolved on this machine.") from None


class Resolver:
    """Evaluates Ref, Fn::Sub, Fn::GetAtt, Fn::Join, and Fn::If with Fn::Equals, within one template."""

    def __init__(self, template: Mapping[str, Any], *, stage: str, region: str) -> None:
        self._resources: Mapping[str, Any] = template.get("Resources", {})
        self._conditions: Mapping[str, Any] = template.get("Conditions", {})
        self._region = region
        self._values: dict[str, Any] = {
            name: parameter["Default"]
            for name, parameter in template.get("Parameters", {}).items()
            if "Default" in parameter
        }
        self._values |= {
            "Stage": stage,
            "AWS::Region": region,
            "AWS::AccountId": ACCOUNT_ID,
            "AWS::Partition": "aws",
        }

    def properties_by_name(self, resource_type: str) -> dict[str, Properties]:
        return {
            self._name(logical_id): self.resolve(resource.get("Properties", {}))
            for logical_id, resource in self._resources.items()
            # An entry that only changes a resource of Chalice's has no type.
            if resource.get("Type") == resource_type
        }

    def variables_of_functions(self) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
        """Return what the template adds to the functions that Chalice makes, and sentences about what cannot be
        resolved."""
        found: dict[str, dict[str, str]] = {}
        unresolved: list[str] = []
        for logical_id, resource in self._resources.items():
            if resource.get("Type", FUNCTION) == FUNCTION:
                variables = resource.get("Properties", {}).get("Environment", {}).get("Variables", {})
                for name, value in variables.items():
                    try:
                        found.setdefault(logical_id, {})[name] = str(self.resolve(value))
                    except KeyError as error:
                        unresolved.append(f"{name} of {logical_id} is not set: it uses {error}.")
        return found, tuple(unresolved)

    def resolve(self, value: Any) -> Any:
        """Replace every intrinsic function in a value by its result."""
        match value:
            case {"Ref": str(name)}:
                return self._ref(name)
            case {"Fn::GetAtt": str(dotted)}:
                return self._attribute(*dotted.split(".", 1))
            case {"Fn::GetAtt": [str(logical_id), str(attribute)]}:
                return self._attribute(logical_id, attribute)
            case {"Fn::Sub": str(text)}:
                return self._substitute(text, {})
            case {"Fn::Sub": [str(text), dict(values)]}:
                return self._substitute(text, self.resolve(values))
            case {"Fn::Join": [str(separator), list(parts)]}:
                return separator.join(str(self.resolve(part)) for part in parts)
            case {"Fn::If": [str(name), then, otherwise]}:
                return self.resolve(then if self._holds(self._conditions[name]) else otherwise)
            case dict():
                for name in value:
                    if name.startswith("Fn::"):
                        raise KeyError(name)
                return {name: self.resolve(part) for name, part in value.items()}
            case list():
                return [self.resolve(part) for part in value]
        return value

    def _holds(self, condition: Mapping[str, Any]) -> bool:
        left, right = condition["Fn::Equals"]
        return bool(self.resolve(left) == self.resolve(right))

    def _ref(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        return self._name(name)

    def _name(self, logical_id: str) -> str:
        """Return the name of a table or queue; where AWS would make one up, the logical id."""
        resource = self._resources[logical_id]
        key = {TABLE: "TableName", QUEUE: "QueueName"}[resource.get("Type", logical_id)]
        return str(self.resolve(resource.get("Properties", {}).get(key, logical_id)))

    def _attribute(self, logical_id: str, attribute: str) -> str:
        name = self._name(logical_id)
        if attribute != "Arn":
            return {"QueueName": name}[attribute]
        service, prefix = {TABLE: ("dynamodb", "table/"), QUEUE: ("sqs", "")}[self._resources[logical_id]["Type"]]
        return f"arn:aws:{service}:{self._region}:{ACCOUNT_ID}:{prefix}{name}"

    def _substitute(self, text: str, values: Mapping[str, Any]) -> str:
        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in values:
                return str(values[name])
            return str(self._attribute(*name.split(".", 1)) if "." in name else self._ref(name))

        return re.sub(r"\$\{([^}]+)\}", replace, text)


def merge(variables: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Merge the variables of all functions, for where they share one environment."""
    return {name: value for of_one in variables.values() for name, value in of_one.items()}
