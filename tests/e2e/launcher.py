"""Run MiniStack, an emulator of AWS, with what `chalice deploy` and Peal need and it lacks.

A script of its own that serves on GATEWAY_PORT. Each change below names what AWS does and MiniStack does not.
"""

import json
import os
from typing import Any

from ministack.services import apigateway, apigateway_v1, lambda_svc
from ministack.services.cloudformation import provisioners

_handle_rest = apigateway_v1.handle_request
_connect_fields = apigateway._ws_connect_fields


async def handle_rest(method: str, path: str, headers: Any, body: bytes, query: dict[str, Any]) -> Any:
    """Serve ImportRestApi and PutRestApi: Chalice creates and updates REST APIs from Swagger documents."""
    parts = [part for part in path.strip("/").split("/") if part]
    if parts[:1] == ["restapis"]:
        if method == "POST" and len(parts) == 1 and "import" in query.get("mode", ""):
            api_id = apigateway_v1._import_rest_api(json.loads(body), {})
            _status, answer_headers, answer = apigateway_v1._get_rest_api(api_id)
            return 201, answer_headers, answer
        if method == "PUT" and len(parts) == 2:
            overwrite(parts[1], json.loads(body))
            return apigateway_v1._get_rest_api(parts[1])
        if method == "PATCH" and len(parts) == 2:
            # AWS accepts an empty minimumCompressionSize, which Chalice sends if none is configured.
            patch = json.loads(body)
            patch["patchOperations"] = [
                operation for operation in patch.get("patchOperations", []) if operation.get("value") != ""
            ]
            body = json.dumps(patch).encode()
    return await _handle_rest(method, path, headers, body, query)


def overwrite(api_id: str, document: dict[str, Any]) -> None:
    resources = apigateway_v1._resources[api_id]
    for resource_id in [one for one, resource in resources.items() if resource["path"] != "/"]:
        resources.pop(resource_id)
    for root in resources.values():
        root["resourceMethods"] = {}
    schemes = apigateway_v1._import_security_schemes(api_id, document)
    for path, item in document.get("paths", {}).items():
        apigateway_v1._import_path_item(api_id, path, item, schemes, document.get("security"))


def connect_fields(headers: dict[str, str], query: Any) -> dict[str, Any]:
    """Add the scheme, as API Gateway does."""
    fields: dict[str, Any] = _connect_fields({**headers, "X-Forwarded-Proto": "http"}, query)
    return fields


def create_deployment(logical_id: str, properties: dict[str, Any], stack_name: str) -> tuple[str, dict[str, str]]:
    _status, _headers, body = apigateway._create_deployment(properties["ApiId"], {})
    deployment_id = json.loads(body)["deploymentId"]
    return deployment_id, {"DeploymentId": deployment_id}


def delete_deployment(physical_id: str, properties: dict[str, Any]) -> None:
    apigateway._deployments.get(properties.get("ApiId", ""), {}).pop(physical_id, None)


apigateway_v1.handle_request = handle_rest
apigateway._ws_connect_fields = connect_fields
# The domain name in events, with the port, so that functions can reach it.
apigateway._HOST = f"localhost:{os.environ['GATEWAY_PORT']}"


def alarm_record(name: str, properties: dict[str, Any]) -> Any:
    """Accept alarms over expressions, as CloudWatch does; here they are only stored."""
    if "Metrics" in properties:
        properties = {**properties, "Metrics": None, "Namespace": "Peal", "MetricName": "expression"}
    return _alarm_record(name, properties)


_alarm_record = provisioners._cw_metric_alarm_record
provisioners._cw_metric_alarm_record = alarm_record
# CloudFormation has this type, which `chalice package` emits.
provisioners._RESOURCE_HANDLERS.setdefault(
    "AWS::ApiGatewayV2::Deployment", {"create": create_deployment, "delete": delete_deployment}
)
# Functions are ready at once: Chalice looks only every five seconds.
lambda_svc._LAMBDA_STATE_TRANSITION_DELAY = 0

if __name__ == "__main__":
    from ministack.app import main

    main()
