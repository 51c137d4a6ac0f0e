"""One stage of the Chalice project: its part of .chalice/config.json, and the names on AWS that follow from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pealctl.errors import BadProject

# The stage that `make dev` runs; it is never deployed.
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
        variables: the environment of its functions.
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
        """The DynamoDB table of its functions."""
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
        """The file in which Chalice records what it has deployed."""
        return self.directory / ".chalice" / "deployed" / f"{self.name}.json"

    def function_name(self, function: str) -> str:
        """Return the name on AWS of the function that Chalice calls `function`."""
        return self.title if function == "api_handler" else f"{self.title}-{function}"


def read_stage(directory: Path, name: str) -> Stage:
    """Read the stage `name` of the project in `directory`.

    Raises:
        BadProject: there is no such project or stage, or it is the local one.
    """
    config = _read_config(directory)
    stages = deployable(config)
    if name not in stages:
        hint = (
            "stage local is for this machine (`make dev`)"
            if name == LOCAL
            else f".chalice/config.json has no stage {name}"
        )
        raise BadProject(f"{hint[0].upper()}{hint[1:]}; stages for AWS are {' and '.join(stages)}.")
    settings: Mapping[str, Any] = {**config, **config["stages"][name]}
    variables = {**config.get("environment_variables", {}), **settings.get("environment_variables", {})}
    for variable, example in (("CONNECTIONS_TABLE", f"peal-{name}-connections"), ("JOBS_QUEUE", f"peal-{name}-jobs")):
        if variable not in variables:
            raise BadProject(f"Stage {name} of .chalice/config.json must set {variable}, for example to {example}.")
    return Stage(
        directory=directory,
        app=config["app_name"],
        name=name,
        api_stage=settings.get("api_gateway_stage", "api"),
        variables=variables,
        domains={domain: settings[domain]["domain_name"] for domain in DOMAINS if domain in settings},
    )


def read_stages(directory: Path) -> list[Stage]:
    """Read all stages that can be deployed. Raises BadProject."""
    return [read_stage(directory, name) for name in deployable(_read_config(directory))]


def deployable(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the stages that can be deployed."""
    return [name for name in config["stages"] if name != LOCAL]


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / ".chalice" / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise BadProject(f"{directory} is not a Chalice project: it has no .chalice/config.json.") from None
    except ValueError as error:
        raise BadProject(f"{path} is not JSON: {error}.") from None
    return config
