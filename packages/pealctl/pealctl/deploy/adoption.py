"""Tell Chalice what exists: write `.chalice/deployed/{stage}.json` from what AWS says.

Chalice knows its APIs, its event sources and what to delete by that file alone, and writes it at the end of a deploy
that succeeded. Without it, in a fresh clone or after an interrupted run, Chalice would make a second API. So before
each run the file is written again.
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
# The types looked up below. Peal uses no other; entries of other types are kept as the file has them.
ADOPTED = ("lambda_function", "iam_role", "cloudwatch_event", "sqs_event", "websocket_api", "rest_api", "domain_name")


@dataclass(frozen=True)
class Apis:
    """The ids of the stage's APIs; None where there is no API."""

    websocket: str | None
    rest: str | None


def adopt(aws: Aws, stage: Stage, functions: Iterable[str]) -> Apis:
    """Write Chalice's file from what exists of a stage.

    Args:
        aws, stage: where to look, and for what.
        functions: Chalice's names of functions that may have left traces even if they do not exist themselves.

    Returns:
        The APIs that were found.

    Raises:
        Ambiguous: several APIs of one kind match, and not exactly one of them is recorded.
    """
    recorded = _read(aws, stage)
    ids = {entry.get("websocket_api_id") or entry.get("rest_api_id") or "" for entry in recorded}
    apis = Apis(find_websocket_api(aws, stage, ids), find_rest_api(aws, stage, ids))
    arns = _find_functions(aws, stage)
    names = sorted({*functions, *arns})
    # Chalice deletes in the reverse of this order.
    entries = [
        *_roles(aws, stage, names),
        *({"name": name, "resource_type": "lambda_function", "lambda_arn": arn} for name, arn in arns.items()),
        *_event_sources(aws, arns),
        *_rules(aws, stage, names),
        *_api_entries(aws, stage, apis),
        *_domains(aws, stage),
        *(entry for entry in recorded if entry["resource_type"] not in ADOPTED),
    ]
    path = stage.deployed_path
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"resources": entries, "schema_version": "2.0", "backend": "api"}, indent=2) + "\n")
    return apis


def _read(aws: Aws, stage: Stage) -> list[Entry]:
    """Return what Chalice has recorded, or nothing if that is unreadable or of another account or Region."""
    try:
        entries: list[Entry] = json.loads(stage.deployed_path.read_text())["resources"]
        arns = [entry["lambda_arn"] for entry in entries if "lambda_arn" in entry]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    here = f":lambda:{aws.region}:{aws.account}:"
    return entries if all(here in arn for arn in arns) else []


def _find_functions(aws: Aws, stage: Stage) -> dict[str, str]:
    """Return the ARNs of the stage's functions by Chalice's names; its tag tells them from those of `dev-2`."""
    client, found = aws.client("lambda"), {}
    for page in client.get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            name, arn = function["FunctionName"], function["FunctionArn"]
            if name != stage.title and not name.startswith(f"{stage.title}-"):
                continue
            tag = client.list_tags(Resource=arn)["Tags"].get("aws-chalice", "")
            if tag.endswith(f":stage={stage.name}:app={stage.app}"):
                found["api_handler" if name == stage.title else name.removeprefix(f"{stage.title}-")] = arn
    return found


def _roles(aws: Aws, stage: Stage, functions: Iterable[str]) -> Iterator[Entry]:
    iam = aws.client("iam")
    for function in functions:
        # Unlike the REST function itself, its role has Chalice's name for it at the end.
        name = f"{stage.title}-{function}"
        role = _or_none(iam.get_role, "NoSuchEntity", RoleName=name)
        if role:
            yield {
                "name": f"{function}_role",
                "resource_type": "iam_role",
                "role_arn": role["Role"]["Arn"],
                "role_name": name,
            }


def _event_sources(aws: Aws, arns: Mapping[str, str]) -> Iterator[Entry]:
    pages = aws.client("lambda").get_paginator("list_event_source_mappings")
    for function, arn in arns.items():
        for page in pages.paginate(FunctionName=arn):
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


def _rules(aws: Aws, stage: Stage, functions: Iterable[str]) -> Iterator[Entry]:
    events = aws.client("events")
    for function in functions:
        rule = f"{stage.title}-{function}-event"
        if _or_none(events.describe_rule, "ResourceNotFoundException", Name=rule):
            yield {"name": f"{function}-event", "resource_type": "cloudwatch_event", "rule_name": rule}


def _api_entries(aws: Aws, stage: Stage, apis: Apis) -> Iterator[Entry]:
    if apis.rest:
        url = aws.url("https", apis.rest, stage.api_stage)
        yield {"name": "rest_api", "resource_type": "rest_api", "rest_api_id": apis.rest, "rest_api_url": f"{url}/"}
    if apis.websocket:
        url = aws.url("wss", apis.websocket, stage.api_stage)
        yield {
            "name": "websocket_api",
            "resource_type": "websocket_api",
            "websocket_api_id": apis.websocket,
            "websocket_api_url": f"{url}/",
        }


def _domains(aws: Aws, stage: Stage) -> Iterator[Entry]:
    client = aws.client("apigatewayv2")
    for name, domain_name in stage.domains.items():
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
    """Return the call's answer, or None if its error code says that there is no such thing."""
    try:
        return call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] in (absent, f"{absent}Exception"):
            return None
        raise
