"""The fixtures and settings of the pytest plugin. PYTEST_DONT_REWRITE: nothing is asserted here.

pytest imports this wherever the package is installed, so it imports the gateway only where a test asks for it.

A session's gateway runs until the session's end, but what it changes in this process, such as variables and modules, is
in place only while a test uses it: other tests may import the project in their own way.
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
    """The options of Gateway besides project and stage; override this fixture to set them."""
    return {}


@pytest.fixture(scope="session")
def gateway_process(pytestconfig: pytest.Config, gateway_options: dict[str, Any]) -> Iterator["GatewayProcess"]:
    """The one gateway of this process, while no test uses it."""
    project_dir = pytestconfig.rootpath / pytestconfig.getini("localgateway_project")
    process = GatewayProcess(project_dir, stage=pytestconfig.getini("localgateway_stage"), **gateway_options)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def gateway(gateway_process: "GatewayProcess") -> Iterator["Gateway"]:
    """The project on a local gateway, as if just started."""
    with gateway_process.present() as gateway:
        yield gateway
        gateway.reset()


class GatewayProcess:
    """A gateway whose changes to this process can be undone and made again."""

    def __init__(self, project_dir: Path, **options: Any) -> None:
        from localgateway.testing.gateway import Gateway

        self._project_dir = project_dir.resolve()
        self._gateway = Gateway(self._project_dir, **options)
        self._variables: dict[str, str | None] = {}
        self._modules: dict[str, ModuleType] = {}

    def start(self) -> None:
        """Start the gateway and undo its changes to this process.

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
        """Stop the gateway and leave the process as it was before."""
        with self.present():
            self._gateway.stop()
