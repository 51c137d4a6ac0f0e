"""A gateway around a project that a test writes."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from gatewaykit import PRELUDE, ROWS_TABLE, Probe, write_project
from gatewayprocesses import APP, Process
from localgateway import LocalGateway

pytest_plugins = ["gatewayaws"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--presumed", action="store_true", help="test too what AWS is only presumed to do")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "presumed: what AWS is only presumed to do; off without --presumed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--presumed"):
        presumed = [item for item in items if item.get_closest_marker("presumed")]
        config.hook.pytest_deselected(items=presumed)
        items[:] = [item for item in items if item not in presumed]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Probe]]:
    """Run a project: `serve(source)`; the options are LocalGateway's, and config and resources of the project."""
    with ExitStack() as stack:

        def serve(
            source: str, *, config: Any = None, resources: Any = None, prelude: str = PRELUDE, **options: Any
        ) -> Probe:
            directory = write_project(tmp_path / "project", source, config=config, resources=resources, prelude=prelude)
            gateway = stack.enter_context(LocalGateway(directory, **options))
            return Probe(gateway, stack.enter_context)

        yield serve


@pytest.fixture
def own_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test as on a machine without any AWS settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    config = {"environment_variables": {"GREETING": "hello "}, "app_name": "sample"}
    return write_project(tmp_path / "project", APP, config=config, resources={"Rows": ROWS_TABLE}, prelude="")


@pytest.fixture
def run(project: Path) -> Iterator[Callable[..., Process]]:
    """Start `python -m localgateway`, or another program, in the project's directory."""
    with ExitStack() as stack:

        def run(*arguments: str, program: tuple[str, ...] = (sys.executable, "-m", "localgateway")) -> Process:
            return stack.enter_context(closing(Process(*program, *arguments, cwd=project)))

        yield run
