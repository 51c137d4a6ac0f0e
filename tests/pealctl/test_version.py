"""The product has one version, in packages/VERSION."""

import json
import tomllib
from importlib.metadata import version

import pytest

from tests.conftest import PROJECT

VERSION = (PROJECT / "packages" / "VERSION").read_text().strip()


@pytest.mark.parametrize("package", ["pealctl", "chalice-localgateway"])
def test_packages_have_it(package: str) -> None:
    assert version(package) == VERSION, "run `make setup`"


@pytest.mark.parametrize("package", ["pealctl", "localgateway"])
def test_no_package_states_it_again(package: str) -> None:
    settings = tomllib.loads((PROJECT / "packages" / package / "pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["hatch"]["version"]["path"] == "../VERSION"


@pytest.mark.parametrize("document", ["openapi.json", "asyncapi.json"])
def test_documents_have_it(document: str) -> None:
    assert json.loads((PROJECT / "docs" / document).read_text())["info"]["version"] == VERSION
