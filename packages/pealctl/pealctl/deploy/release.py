"""Make the WebSocket API's routes live: a deployment of them, and the stage that serves it.

Chalice does so only when it creates the API. Later it changes routes and integrations, while clients are still served
from the snapshot that the first deployment took.
Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-set-up-websocket-deployment.html
"""

import time
from typing import Any

from botocore.exceptions import ClientError

from pealctl.errors import CommandError

POLL_SECONDS = 1
MAX_SECONDS = 60


def release(apigatewayv2: Any, api_id: str, api_stage: str) -> str:
    """Serve the API's current routes under the stage.

    Earlier deployments stay, for a rollback.

    Returns:
        The id of the deployment.

    Raises:
        CommandError: API Gateway could not deploy the routes; the stage still serves the previous ones.
    """
    deployment = apigatewayv2.create_deployment(ApiId=api_id, Description="make deploy")
    deployment_id: str = deployment["DeploymentId"]
    deadline = time.monotonic() + MAX_SECONDS
    while deployment.get("DeploymentStatus") == "PENDING" and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        deployment = apigatewayv2.get_deployment(ApiId=api_id, DeploymentId=deployment_id)
    if deployment.get("DeploymentStatus", "DEPLOYED") != "DEPLOYED":
        reason = deployment.get("DeploymentStatusMessage") or f"it is {deployment['DeploymentStatus']}"
        raise CommandError(f"The routes of WebSocket API {api_id} cannot be deployed: {reason}. Deploy again.")
    arguments = {"ApiId": api_id, "StageName": api_stage, "DeploymentId": deployment_id}
    try:
        apigatewayv2.update_stage(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NotFoundException":
            raise
        apigatewayv2.create_stage(**arguments)
    return deployment_id
