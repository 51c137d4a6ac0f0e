"""One stage of the Chalice project: what .chalice/config.json says of it, and what follows from that on AWS."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pealctl.deploy.errors import BadProject

# The desk's stage; it has no AWS side.
LOCAL = "local"
# Chalice's resource names of custom domains, and what config.json calls them: the same.
DOMAINS = ("websocket_api_custom_domain", "api_gateway_custom_domain")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        directory: the project's.
        app: the app's name, `peal`.
        name: the stage's name, `dev`.
        api_stage: the stage's name in URLs, `api`.
        variables: what its functions find in their environment.
        domains: its custom domain names, by Chalice's names for them.
    """

    directory: Path
    app: str
    name: str
    api_stage: str
    variables: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """`peal-dev`: the CloudFormation stack, the REST function, and the prefix of all other names."""
        return f"{self.app}-{self.name}"

    @property
    def table(self) -> str:
        """The DynamoDB table that the functions are told to use."""
        return self.variables["CONNECTIONS_TABLE"]

    @property
    def queue(self) -> str:
        """The SQS queue of jobs."""
        return self.variables["JOBS_QUEUE"]

    @property
    def websocket_api(self) -> str:
        """The name that Chalice gives the WebSocket API."""
        return f"{self.title}-websocket-api"

    @property
    def deployed_path(self) -> Path:
        """Where Chalice looks for what it has deployed."""
        return self.directory / ".chalice" / "deployed" / f"{self.name}.json"

    def function_name(self, function: str) -> str:
        """The name on AWS of the function that Chalice calls `function`."""
        return self.title if function == "api_handler" else f"{self.title}-{function}"


def read_stage(directory: Path, name: str) -> Stage:
    """The stage `name` of the project in `directory`.

    Raises:
        BadProject: there is no such project or stage, or it is the desk's own.
    """
    config = _read_config(directory)
    stages = deployable(config)
    if name not in stages:
        hint = (
            "stage local is for the desk (`make dev`)" if name == LOCAL else f".chalice/config.json has no stage {name}"
        )
        raise BadProject(f"{hint[0].upper()}{hint[1:]}; on AWS there can be {' and '.join(stages)}.")
    settings: Mapping[str, Any] = {**config, **config["stages"][name]}
    variables = {**config.get("environment_variables", {}), **settings.get("environment_variables", {})}
    for variable, example in (("CONNECTIONS_TABLE", f"peal-{name}-connections"), ("JOBS_QUEUE", f"peal-{name}-jobs")):
        if variable not in variables:
            raise BadProject(f"Stage {name} of .chalice/config.json must set {variable}, to {example} say.")
    return Stage(
        directory=directory,
        app=config["app_name"],
        name=name,
        api_stage=settings.get("api_gateway_stage", "api"),
        variables=variables,
        domains={domain: settings[domain]["domain_name"] for domain in DOMAINS if domain in settings},
    )


def read_stages(directory: Path) -> list[Stage]:
    """All stages that can be deployed. Raises BadProject."""
    return [read_stage(directory, name) for name in deployable(_read_config(directory))]


def deployable(config: Mapping[str, Any]) -> list[str]:
    """The names of the stages that have an AWS side."""
    return [name for name in config["stages"] if name != LOCAL]


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / ".chalice" / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise BadProject(f"{directory} is no Chalice project: it has no .chalice/config.json.") from None
    except ValueError as error:
        raise BadProject(f"{path} is no JSON: {error}.") from None
    return config
