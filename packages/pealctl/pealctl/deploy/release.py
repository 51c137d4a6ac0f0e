"""Makes the WebSocket API's routes live: a deployment of them, and the stage that serves it.

Chalice does so only when it makes the API. Later it changes routes and integrations, and clients go on being served
from the snapshot that the first deployment took.
Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-set-up-websocket-deployment.html
"""

import time
from typing import Any

from botocore.exceptions import ClientError

from pealctl.deploy.errors import DeploymentError

POLL_SECONDS = 1
MAX_SECONDS = 60


def release(apigatewayv2: Any, api_id: str, api_stage: str) -> str:
    """The routes as they are now are served under the stage; returns the id of their deployment.

    Earlier deployments stay, so that one can go back to them.

    Raises:
        DeploymentError: API Gateway could not deploy them; the stage serves what it served.
    """
    made = apigatewayv2.create_deployment(ApiId=api_id, Description="make deploy")
    deployment_id: str = made["DeploymentId"]
    deadline = time.monotonic() + MAX_SECONDS
    while made.get("DeploymentStatus") == "PENDING" and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        made = apigatewayv2.get_deployment(ApiId=api_id, DeploymentId=deployment_id)
    if made.get("DeploymentStatus", "DEPLOYED") != "DEPLOYED":
        reason = made.get("DeploymentStatusMessage") or f"it is {made['DeploymentStatus']}"
        raise DeploymentError(f"The routes of WebSocket API {api_id} cannot be deployed: {reason}. Deploy again.")
    arguments = {"ApiId": api_id, "StageName": api_stage, "DeploymentId": deployment_id}
    try:
        apigatewayv2.update_stage(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NotFoundException":
            raise
        apigatewayv2.create_stage(**arguments)
    return deployment_id
