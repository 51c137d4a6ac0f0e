"""The template of the stack, from resources.json, and the last changes to what `chalice package` writes.

resources.json holds our own resources, and changes to Chalice's, which have no Type there.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pealctl.errors import BadProject

Template = dict[str, Any]


def stack_template(path: Path) -> str:
    """Return the template of our own resources, without blanks: AWS takes 51,200 bytes. Raises BadProject."""
    try:
        template: Template = json.loads(path.read_text())
        own = {name: resource for name, resource in template["Resources"].items() if "Type" in resource}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BadProject(f"{path} cannot be read as a CloudFormation template: {error}.") from None
    return json.dumps(template | {"Resources": own}, separators=(",", ":"))


def finish_package(template: Template, stage: str) -> Template:
    """Make the template that `chalice package --merge-template resources.json` has written fit to be deployed.

    Set the default of the parameter Stage, and rename the routes' deployment whenever the routes change: Chalice's name
    for it never changes, so CloudFormation would never create another, and the new routes would not go live.

    Args:
        template: Chalice's; it is changed in place.
        stage: the stage's name.

    Returns:
        The template.
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
