"""The fixtures and settings of the pytest plugin. PYTEST_DONT_REWRITE: nothing is asserted here.

pytest imports this wherever the package is installed, so it imports the gateway only where a test asks for it.

The gateway of a test session runs until its end, but what it changes in this process, variables and modules among them,
is there only while a test has it: other tests may import the project in their own way.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from localgateway.environment import applied, imported_from, put, take_modules

if TYPE_CHECKING:
    from localgateway.testing.gateway import Gateway


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("localgateway_project", "directory of the Chalice project, from the rootdir on", default=".")
    parser.addini("localgateway_stage", "the Chalice stage that is run", default="local")


@pytest.fixture(scope="session")
def gateway_options() -> dict[str, Any]:
    """What Gateway is made with besides project and stage; override this fixture to set it."""
    return {}


@pytest.fixture(scope="session")
def gateway_process(pytestconfig: pytest.Config, gateway_options: dict[str, Any]) -> Iterator["GatewayProcess"]:
    """The one gateway of this process, out of sight."""
    project_dir = pytestconfig.rootpath / pytestconfig.getini("localgateway_project")
    process = GatewayProcess(project_dir, stage=pytestconfig.getini("localgateway_stage"), **gateway_options)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def gateway(gateway_process: "GatewayProcess") -> Iterator["Gateway"]:
    """The project on a local gateway, as if it had just been started."""
    with gateway_process.present() as gateway:
        yield gateway
        gateway.reset()


class GatewayProcess:
    """A gateway whose traces in this process can be put away and brought back."""

    def __init__(self, project_dir: Path, **options: Any) -> None:
        from localgateway.testing.gateway import Gateway

        self._project_dir = project_dir.resolve()
        self._gateway = Gateway(self._project_dir, **options)
        self._variables: dict[str, str | None] = {}
        self._modules: dict[str, ModuleType] = {}

    def start(self) -> None:
        """Start the gateway and put its traces away.

        Raises:
            GatewayError: if it does not start.
        """
        before = dict(os.environ)
        with imported_from(self._project_dir):
            self._gateway.start()
            self._modules = take_modules(self._project_dir)
        names = [name for name in {**before, **os.environ} if before.get(name) != os.environ.get(name)]
        self._variables = {name: os.environ.get(name) for name in names}
        put({name: before.get(name) for name in names})

    @contextmanager
    def present(self) -> Iterator["Gateway"]:
        """Have the project's variables and modules in this process until the block ends."""
        with applied(self._variables), imported_from(self._project_dir):
            sys.modules.update(self._modules)
            try:
                yield self._gateway
            finally:
                self._modules = take_modules(self._project_dir)

    def stop(self) -> None:
        """Stop the gateway; the process is as it was before."""
        with self.present():
            self._gateway.stop()
