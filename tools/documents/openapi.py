"""docs/openapi.json: the REST API as an OpenAPI 3.1 document."""

import re
from typing import Any

from tools.documents import VERSION
from tools.documents.routes import CONNECTION, ROUTES, Route
from tools.documents.schemas import NAME, SHARED, Schema, error_body, ref

DESCRIPTION = (
    "How backends and operators push, look and close. On AWS every route is protected by IAM: sign requests with AWS "
    "Signature Version 4, for the service `execute-api`, with credentials that have the permission "
    "`execute-api:Invoke`. Locally (`make dev`) they are open.\n\n"
    "A wrong request is answered 400, and one that names something unknown 404. API Gateway's own answers have a "
    "`message` and no `error`."
)
REQUEST_FAULTS = {400: "The request is wrong.", 404: "There is no such connection."}
GATEWAY_FAULTS = {
    403: "API Gateway: the request is not signed, or its signer may not do this.",
    429: "API Gateway: too many requests; try again.",
    504: "API Gateway: there was no answer within 29 seconds. The request may still be running, and succeed.",
}


def build() -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, Any] = {}
    for (method, path), route in ROUTES.items():
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Peal",
            "version": VERSION,
            "summary": "Push to WebSocket connections, users, channels and everyone.",
            "description": DESCRIPTION,
        },
        "servers": [
            {
                "url": "https://{api}.execute-api.{region}.amazonaws.com/{stage}",
                "description": "`make deploy` prints it.",
                "variables": {
                    "api": {"default": "f6g7h8i9j0", "description": "API Gateway's id of the API."},
                    "region": {"default": "eu-central-1"},
                    "stage": {"default": "api"},
                },
            },
            {"url": "http://127.0.0.1:8000", "description": "`make dev`. Nothing is signed there."},
        ],
        "security": [{"iam": []}],
        "paths": paths,
        "components": {
            "schemas": {
                **SHARED,
                "Connection": CONNECTION,
                "Error": {"type": "object", "properties": {"error": error_body(http=True)}, "required": ["error"]},
                "GatewayError": {"type": "object", "properties": {"message": {"type": "string"}}},
            },
            "responses": {
                **{_fault(status): _response(text, ref("Error")) for status, text in REQUEST_FAULTS.items()},
                **{_fault(status): _response(text, ref("GatewayError")) for status, text in GATEWAY_FAULTS.items()},
                _fault(500): _response("Something went wrong on the server's side; try again.", ref("Error")),
            },
            "securitySchemes": {
                "iam": {
                    "type": "apiKey",
                    "name": "Authorization",
                    "in": "header",
                    "description": "AWS Signature Version 4 for the service execute-api.",
                    # As API Gateway itself, and generators that know it, write it.
                    "x-amazon-apigateway-authtype": "awsSigv4",
                }
            },
        },
    }


def _operation(method: str, path: str, route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _camel(route.door),
        "summary": route.summary,
        "responses": {
            str(status): _response("Done.", body) if body else {"description": "Done; there is nothing to say."}
            for status, body in route.answers.items()
        },
    }
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": route.channel if name == "channel" else NAME,
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in route.query.items()]
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        content: dict[str, Any] = {"schema": route.body}
        operation["requestBody"] = {
            "required": route.body_is_required,
            "content": {"application/json": content | {"example": route.example}},
        }
    for status in (400, *([404] if "{connectionId}" in path else []), *GATEWAY_FAULTS, 500):
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/{_fault(status)}"}
    return operation


def _response(description: str, body: Schema) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": body}}}


def _fault(status: int) -> str:
    return f"Answer{status}"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
