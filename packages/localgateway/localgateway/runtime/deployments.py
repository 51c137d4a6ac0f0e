"""Versions of a project's code, each as `chalice deploy` would ship it: a copy that later changes do not affect.

Only what ships is copied: app.py, chalicelib/, and the content of vendor/, which Chalice puts beside app.py. So code
that needs anything else in the project's directory fails, as it would on AWS, and a worker that starts late runs the
same version as those before it, even if files have been saved since.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from localgateway.aws.template import merge
from localgateway.contract.project import Function, Project
from localgateway.errors import ProjectError
from localgateway.runtime.pool import Hire, Worker, Zygote

SHIPPED = ("app.py", "chalicelib", "vendor", ".chalice/config.json")


class Deployments:
    """Makes versions of one project and keeps them until it is closed."""

    def __init__(
        self,
        zygote: Zygote,
        project_dir: Path,
        stage: str,
        management_endpoint: str,
        overrides: Mapping[str, str],
        variables: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._zygote = zygote
        self._project_dir = project_dir
        self._stage = stage
        self._management_endpoint = management_endpoint
        self._overrides = overrides
        # For single functions, by their logical ids.
        self._variables = variables
        self._directory = TemporaryDirectory(prefix="localgateway-")
        self._count = 0

    def deploy(self) -> tuple[Project, Hire]:
        """Return the project as its files are now, and what starts workers that run it.

        Raises:
            ProjectError: if it does not import; its traceback is on stderr already.
        """
        self._count += 1
        version = Path(self._directory.name, str(self._count))
        copy_project(self._project_dir, version)

        def hire(variables: Mapping[str, str]) -> Worker:
            start = {
                "directory": str(version),
                "shown_directory": str(self._project_dir),
                "stage": self._stage,
                "environment": {**os.environ, **variables, **self._overrides},
                "management_endpoint": self._management_endpoint,
            }
            return Worker(self._zygote.fork(), start)

        def hire_for(function: Function) -> Worker:
            return hire({**to_environment(function), **self._variables.get(function.logical_id, {})})

        # The first worker only reports what the project has, as Chalice finds it; the others serve.
        try:
            first = hire(merge(self._variables))
        except EOFError:
            raise ProjectError(f"{self._project_dir} ends its process when it is imported.") from None
        first.close()
        project = replace(first.project, directory=str(self._project_dir))
        return project, hire_for

    def close(self) -> None:
        """Remove every version; no worker may be running."""
        self._directory.cleanup()


def copy_project(source: Path, target: Path) -> None:
    """Copy what ships of a project. A file that is being replaced at this moment counts as missing."""
    for name in SHIPPED:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        elif path.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / name)


def to_environment(function: Function) -> dict[str, str]:
    """Return a function's own variables: those of its stage, and those that Lambda sets."""
    return {
        **function.environment,
        "AWS_LAMBDA_FUNCTION_NAME": function.deployed_name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
    }
