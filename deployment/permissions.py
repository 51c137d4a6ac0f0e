"""What each function may do on AWS: the one declaration, and the policy files that are made of it.

Chalice takes one file per function and stage, without variables in them: hence they are written here, by
`make policies`, and committed. Tests record what the app really calls: an action that is missing in ALLOWED fails
them, and so does one that nothing needs.

ARNs leave open what is not known before a deployment: partition, Region, account, and the id of the API.
"""

import json
from collections.abc import Mapping
from typing import Any

from deployment.stage import Stage

Actions = Mapping[str, tuple[str, ...]]

RESOURCES: Mapping[str, str] = {
    "table": "arn:*:dynamodb:*:*:table/{table}",
    "index": "arn:*:dynamodb:*:*:table/{table}/index/GSI1",
    "send": "arn:*:execute-api:*:*:*/{api_stage}/POST/@connections/*",
    "close": "arn:*:execute-api:*:*:*/{api_stage}/DELETE/@connections/*",
    "log": "arn:*:logs:*:*:log-group:/aws/lambda/{function}:*",
    # X-Ray's two actions know no resource, so nothing but `*` can stand here.
    "traces": "*",
}

MANAGE = ("execute-api:ManageConnections",)

# What the app's own code calls, by the function that does.
ALLOWED: Mapping[str, Actions] = {
    "websocket_connect": {
        "table": ("dynamodb:DeleteItem", "dynamodb:PutItem"),
    },
    "websocket_message": {
        "table": ("dynamodb:DeleteItem", "dynamodb:GetItem"),
        "index": ("dynamodb:Query", "dynamodb:Scan"),
        "send": MANAGE,
    },
    "websocket_disconnect": {
        "table": ("dynamodb:DeleteItem",),
    },
    "api_handler": {
        "table": ("dynamodb:DeleteItem", "dynamodb:GetItem"),
        "index": ("dynamodb:Query", "dynamodb:Scan"),
        "send": MANAGE,
        "close": MANAGE,
    },
}

# What Lambda does in a function's name, unseen by its code. The log group is made by resources.json.
PLATFORM: Actions = {
    "log": ("logs:CreateLogStream", "logs:PutLogEvents"),
    "traces": ("xray:PutTelemetryRecords", "xray:PutTraceSegments"),
}


def policy(stage: Stage, function: str) -> dict[str, Any]:
    """The IAM policy of one function."""
    names = {"table": stage.table, "api_stage": stage.api_stage, "function": stage.function_name(function)}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": resource.capitalize(),
                "Effect": "Allow",
                "Action": list(actions),
                "Resource": RESOURCES[resource].format(**names),
            }
            for resource, actions in {**ALLOWED[function], **PLATFORM}.items()
        ],
    }


def policy_files(stage: Stage) -> dict[str, str]:
    """The stage's policy files: their names below .chalice, and what stands in them."""
    return {
        f"policy-{stage.name}-{function}.json": json.dumps(policy(stage, function), indent=2) + "\n"
        for function in ALLOWED
    }
