"""The stage's APIs, found by the functions they call: names are not unique, and no file records their ids."""

from collections.abc import Collection, Iterator
from typing import Any

from pealctl.deploy.aws import Aws
from pealctl.deploy.stage import Stage
from pealctl.errors import Ambiguous


def find_websocket_api(aws: Aws, stage: Stage, recorded: Collection[str] = ()) -> str | None:
    """Find the WebSocket API of the stage's name that calls its functions, or else one that calls nothing yet.

    Args:
        aws, stage: where to look, and for what.
        recorded: ids that Chalice has recorded; if several APIs match, one of these is preferred.

    Returns:
        Its id, or None.

    Raises:
        Ambiguous: several match, and not exactly one of them is recorded.
    """
    client, prefix = aws.client("apigatewayv2"), f":function:{stage.title}-websocket_"
    ours, empty = [], []
    for page in client.get_paginator("get_apis").paginate():
        for api in page["Items"]:
            if api["ProtocolType"] == "WEBSOCKET" and api["Name"] == stage.websocket_api:
                integrations = client.get_integrations(ApiId=api["ApiId"])["Items"]
                if any(prefix in integration.get("IntegrationUri", "") for integration in integrations):
                    ours.append(api["ApiId"])
                elif not integrations:
                    empty.append(api["ApiId"])
    return _only("WebSocket API", stage.websocket_api, ours or empty, recorded, "aws apigatewayv2 delete-api --api-id")


def find_rest_api(aws: Aws, stage: Stage, recorded: Collection[str] = ()) -> str | None:
    """Find the REST API of the app's name, which all stages share, that calls this stage's function.

    Args:
        aws, stage: where to look, and for what.
        recorded: ids that Chalice has recorded; if several APIs match, one of these is preferred.

    Returns:
        Its id, or None.

    Raises:
        Ambiguous: several match, and not exactly one of them is recorded.
    """
    client, function = aws.client("apigateway"), f":function:{stage.title}/"
    ours = []
    for page in client.get_paginator("get_rest_apis").paginate():
        for api in page["items"]:
            if api["name"] == stage.app and any(function in uri for uri in _integrations(client, api["id"])):
                ours.append(api["id"])
    return _only("REST API", stage.app, ours, recorded, "aws apigateway delete-rest-api --rest-api-id")


def _only(kind: str, name: str, ids: list[str], recorded: Collection[str], command: str) -> str | None:
    known = [api_id for api_id in ids if api_id in recorded]
    if len(ids) > 1 and len(known) != 1:
        raise Ambiguous(kind, name, ids, command)
    return next(iter(known or ids), None)


def _integrations(client: Any, rest_api_id: str) -> Iterator[str]:
    pages = client.get_paginator("get_resources").paginate(restApiId=rest_api_id, embed=["methods"])
    for page in pages:
        for resource in page["items"]:
            for method in resource.get("resourceMethods", {}).values():
                yield method.get("methodIntegration", {}).get("uri", "")
