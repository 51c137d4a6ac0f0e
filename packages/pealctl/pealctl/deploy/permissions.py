"""What each function may do on AWS: one declaration, and the policy files written from it.

Chalice takes one file per function and stage, without variables in it: so `make policies` writes them, and they are
committed. Tests record what the app really calls: an action that ALLOWED lacks fails them, and so does one that nothing
needs.

ARNs leave open what is unknown before a deployment: partition, Region, account, and the id of the API.
"""

import json
from collections.abc import Mapping
from typing import Any

from pealctl.deploy.stage import Stage

Actions = Mapping[str, tuple[str, ...]]

RESOURCES: Mapping[str, str] = {
    "table": "arn:*:dynamodb:*:*:table/{table}",
    "index": "arn:*:dynamodb:*:*:table/{table}/index/GSI1",
    "send": "arn:*:execute-api:*:*:*/{api_stage}/POST/@connections/*",
    "close": "arn:*:execute-api:*:*:*/{api_stage}/DELETE/@connections/*",
    "info": "arn:*:execute-api:*:*:*/{api_stage}/GET/@connections/*",
    "jobs": "arn:*:sqs:*:*:{queue}",
    "log": "arn:*:logs:*:*:log-group:/aws/lambda/{function}:*",
    # X-Ray's two actions take no resource but `*`.
    "traces": "*",
}

MANAGE = ("execute-api:ManageConnections",)
PUT_JOBS = ("sqs:GetQueueUrl", "sqs:SendMessage")
FIND_AUDIENCE = ("dynamodb:Query", "dynamodb:Scan")
# Publishing, delivering in order and forgetting connections need all of these, whichever function does it.
CHANNELS = (
    "dynamodb:BatchWriteItem",
    "dynamodb:DeleteItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
)

# What the app's own code calls, by function.
ALLOWED: Mapping[str, Actions] = {
    "websocket_connect": {
        "table": ("dynamodb:DeleteItem", "dynamodb:PutItem"),
    },
    "websocket_message": {
        "table": CHANNELS,
        "index": FIND_AUDIENCE,
        "send": MANAGE,
        "close": MANAGE,
        "jobs": PUT_JOBS,
    },
    "websocket_disconnect": {
        "table": ("dynamodb:BatchWriteItem", "dynamodb:DeleteItem"),
        "jobs": PUT_JOBS,
    },
    "api_handler": {
        "table": CHANNELS,
        "index": FIND_AUDIENCE,
        "send": MANAGE,
        "close": MANAGE,
        "jobs": PUT_JOBS,
    },
    "jobs": {
        "table": CHANNELS,
        "index": ("dynamodb:Scan",),
        "send": MANAGE,
        "close": MANAGE,
        "jobs": PUT_JOBS,
    },
    "reaper": {
        "table": ("dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem"),
        "index": ("dynamodb:Scan",),
        "send": MANAGE,
        "close": MANAGE,
        "info": MANAGE,
        "jobs": PUT_JOBS,
    },
}

# What Lambda itself does for a function. resources.json creates the log group.
PLATFORM: Actions = {
    "log": ("logs:CreateLogStream", "logs:PutLogEvents"),
    "traces": ("xray:PutTelemetryRecords", "xray:PutTraceSegments"),
}
# The same for a function that reads a queue.
POLLING: Mapping[str, Actions] = {
    "jobs": {"jobs": ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage")},
}
# Functions that verify tokens look up a variable's reference, such as `ssm:/peal/dev/jwt-secrets`.
VERIFYING = ("websocket_connect", "websocket_message")
# The action to look one up, and its resource. Secrets Manager adds six characters to a secret's ARN.
LOOKUPS: Mapping[str, tuple[str, str]] = {
    "ssm": ("ssm:GetParameter", "arn:*:ssm:*:*:parameter/{}"),
    "secretsmanager": ("secretsmanager:GetSecretValue", "arn:*:secretsmanager:*:*:secret:{}-??????"),
}


def policy(stage: Stage, function: str) -> dict[str, Any]:
    """Return the IAM policy of one function."""
    names = {
        "table": stage.table,
        "queue": stage.queue,
        "api_stage": stage.api_stage,
        "function": stage.function_name(function),
    }
    allowed: dict[str, set[str]] = {}
    for granted in (ALLOWED[function], POLLING.get(function, {}), PLATFORM):
        for resource, actions in granted.items():
            allowed.setdefault(resource, set()).update(actions)
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": resource.capitalize(),
                "Effect": "Allow",
                "Action": sorted(actions),
                "Resource": RESOURCES[resource].format(**names),
            }
            for resource, actions in allowed.items()
        ]
        + (_lookups(stage) if function in VERIFYING else []),
    }


def policy_files(stage: Stage) -> dict[str, str]:
    """Return the text of each of the stage's policy files, by its name below .chalice."""
    return {
        f"policy-{stage.name}-{function}.json": json.dumps(policy(stage, function), indent=2) + "\n"
        for function in ALLOWED
    }


def _lookups(stage: Stage) -> list[dict[str, Any]]:
    statements = []
    for variable, value in sorted(stage.variables.items()):
        service, _, name = value.partition(":")
        if service in LOOKUPS and name:
            action, resource = LOOKUPS[service]
            statements.append(
                {
                    "Sid": variable.title().replace("_", ""),
                    "Effect": "Allow",
                    "Action": [action],
                    "Resource": resource.format(name.lstrip("/")),
                }
            )
    return statements
