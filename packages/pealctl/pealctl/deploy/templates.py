"""What becomes of resources.json: the template of the stack, and the finishing of what `chalice package` makes.

resources.json holds resources of our own, and changes to resources of Chalice's, which have no Type there.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pealctl.deploy.errors import BadProject

Template = dict[str, Any]


def stack_template(path: Path) -> str:
    """The template of our own resources, without blanks: CloudFormation takes 51,200 bytes. Raises BadProject."""
    try:
        template: Template = json.loads(path.read_text())
        own = {name: resource for name, resource in template["Resources"].items() if "Type" in resource}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BadProject(f"{path} cannot be read as a CloudFormation template: {error}.") from None
    return json.dumps(template | {"Resources": own}, separators=(",", ":"))


def finish_package(template: Template, stage: str) -> Template:
    """The template that `chalice package --merge-template resources.json` has made, fit to be deployed.

    The parameter Stage has the right default; and its routes go live with each release, because they have a deployment
    of their own, whose name changes when they do. Chalice's never changes, so CloudFormation would never make another.
    """
    template["Parameters"]["Stage"]["Default"] = stage
    resources = template["Resources"]
    deployment = resources.pop("WebsocketAPIDeployment")
    routing = {
        name: resource for name, resource in resources.items() if resource["Type"].startswith("AWS::ApiGatewayV2::")
    }
    digest = hashlib.sha256(json.dumps(routing, sort_keys=True).encode()).hexdigest()
    name = f"WebsocketAPIDeployment{digest[:10]}"
    resources[name] = deployment
    resources["WebsocketAPIStage"]["Properties"]["DeploymentId"] = {"Ref": name}
    return template
