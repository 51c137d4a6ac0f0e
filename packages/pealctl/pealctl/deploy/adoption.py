"""Tells Chalice what exists: `.chalice/deployed/{stage}.json`, written from what AWS says.

Chalice knows its APIs, event sources and what to delete by that file alone; it writes it at the end of a deploy that
went well. Whoever has lost it, a fresh clone or a run that was cut off, makes a second API. So it is no state of
ours: before each run it is made anew.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from pealctl.deploy.apis import find_rest_api, find_websocket_api
from pealctl.deploy.aws import Aws
from pealctl.deploy.stage import Stage

Entry = dict[str, Any]
# Looked up below; entries of other types, which Peal does not use, are taken over from the file that is there.
ADOPTED = ("lambda_function", "iam_role", "cloudwatch_event", "sqs_event", "websocket_api", "rest_api", "domain_name")


@dataclass(frozen=True)
class Apis:
    """The ids of the stage's APIs; None where there is none."""

    websocket: str | None
    rest: str | None


class Inventory:
    """What exists of a stage in an account.

    Args:
        aws, stage: where to look, and for what.
        functions: Chalice's names of the functions that may have left traces although they do not exist themselves.
    """

    def __init__(self, aws: Aws, stage: Stage, functions: Iterable[str]) -> None:
        self._aws = aws
        self._stage = stage
        self._recorded = self._read()
        self._lambda = aws.client("lambda")
        self._functions = self._find_functions()
        self._names = sorted({*functions, *self._functions})

    def adopt(self) -> Apis:
        """Chalice's file says what exists, and nothing else.

        Returns:
            The APIs that were found.

        Raises:
            Ambiguous: there are several of one kind, and nothing tells which is in use.
        """
        noted = {entry.get("websocket_api_id") or entry.get("rest_api_id") or "" for entry in self._recorded}
        apis = Apis(
            find_websocket_api(self._aws, self._stage, noted),
            find_rest_api(self._aws, self._stage, noted),
        )
        # Chalice deletes in the reverse of this order.
        entries = [
            *self._roles(),
            *(
                {"name": name, "resource_type": "lambda_function", "lambda_arn": arn}
                for name, arn in self._functions.items()
            ),
            *self._event_sources(),
            *self._rules(),
            *self._api_entries(apis),
            *self._domains(),
            *(entry for entry in self._recorded if entry["resource_type"] not in ADOPTED),
        ]
        path = self._stage.deployed_path
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"resources": entries, "schema_version": "2.0", "backend": "api"}, indent=2) + "\n")
        return apis

    def _read(self) -> list[Entry]:
        """What Chalice has recorded, unless that was in another account or Region, or is unreadable."""
        try:
            entries: list[Entry] = json.loads(self._stage.deployed_path.read_text())["resources"]
            arns = [entry["lambda_arn"] for entry in entries if "lambda_arn" in entry]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        here = f":lambda:{self._aws.region}:{self._aws.account}:"
        return entries if all(here in arn for arn in arns) else []

    def _find_functions(self) -> dict[str, str]:
        """The ARNs of the stage's functions by Chalice's names; Chalice's tag tells them from those of `dev-2`."""
        title, found = self._stage.title, {}
        for page in self._lambda.get_paginator("list_functions").paginate():
            for function in page["Functions"]:
                name, arn = function["FunctionName"], function["FunctionArn"]
                if name != title and not name.startswith(f"{title}-"):
                    continue
                tag = self._lambda.list_tags(Resource=arn)["Tags"].get("aws-chalice", "")
                if tag.endswith(f":stage={self._stage.name}:app={self._stage.app}"):
                    found["api_handler" if name == title else name.removeprefix(f"{title}-")] = arn
        return found

    def _roles(self) -> Iterator[Entry]:
        iam = self._aws.client("iam")
        for function in self._names:
            # Chalice calls the role of the REST function by its name too, unlike the function itself.
            name = f"{self._stage.title}-{function}"
            role = _or_none(iam.get_role, "NoSuchEntity", RoleName=name)
            if role:
                yield {
                    "name": f"{function}_role",
                    "resource_type": "iam_role",
                    "role_arn": role["Role"]["Arn"],
                    "role_name": name,
                }

    def _event_sources(self) -> Iterator[Entry]:
        for function, arn in self._functions.items():
            for page in self._lambda.get_paginator("list_event_source_mappings").paginate(FunctionName=arn):
                for mapping in page["EventSourceMappings"]:
                    queue_arn = mapping.get("EventSourceArn", "")
                    if ":sqs:" in queue_arn and mapping["State"] != "Deleting":
                        yield {
                            "name": f"{function}-sqs-event-source",
                            "resource_type": "sqs_event",
                            "queue_arn": queue_arn,
                            "queue": queue_arn.rpartition(":")[2],
                            "event_uuid": mapping["UUID"],
                            "lambda_arn": arn,
                        }

    def _rules(self) -> Iterator[Entry]:
        events = self._aws.client("events")
        for function in self._names:
            rule = f"{self._stage.title}-{function}-event"
            if _or_none(events.describe_rule, "ResourceNotFoundException", Name=rule):
                yield {"name": f"{function}-event", "resource_type": "cloudwatch_event", "rule_name": rule}

    def _api_entries(self, apis: Apis) -> Iterator[Entry]:
        if apis.rest:
            url = self._aws.url("https", apis.rest, self._stage.api_stage)
            yield {"name": "rest_api", "resource_type": "rest_api", "rest_api_id": apis.rest, "rest_api_url": f"{url}/"}
        if apis.websocket:
            url = self._aws.url("wss", apis.websocket, self._stage.api_stage)
            yield {
                "name": "websocket_api",
                "resource_type": "websocket_api",
                "websocket_api_id": apis.websocket,
                "websocket_api_url": f"{url}/",
            }

    def _domains(self) -> Iterator[Entry]:
        client = self._aws.client("apigatewayv2")
        for name, domain_name in self._stage.domains.items():
            domain = _or_none(client.get_domain_name, "NotFoundException", DomainName=domain_name)
            if domain:
                settings = domain["DomainNameConfigurations"][0]
                mappings = client.get_api_mappings(DomainName=domain_name)["Items"]
                yield {
                    "name": name,
                    "resource_type": "domain_name",
                    "domain_name": domain_name,
                    "hosted_zone_id": settings.get("HostedZoneId"),
                    "alias_domain_name": settings.get("ApiGatewayDomainName"),
                    "certificate_arn": settings.get("CertificateArn"),
                    "security_policy": settings.get("SecurityPolicy"),
                    "api_mapping": [{"key": _mapping_key(mapping)} for mapping in mappings],
                }


def _mapping_key(mapping: Mapping[str, str]) -> str:
    key = mapping.get("ApiMappingKey", "")
    return "/" if key in ("", "(none)") else f"/{key}"


def _or_none(call: Any, absent: str, **arguments: str) -> Any:
    """What the call answers, or None where its error code says that there is no such thing."""
    try:
        return call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] in (absent, f"{absent}Exception"):
            return None
        raise
