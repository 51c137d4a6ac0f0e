"""The package: the right files, an app that imports with only what Lambda has, templates that pass the linter."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import source_from_cache
from pathlib import Path
from typing import Any

import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from pealctl.deploy import permissions
from tests.conftest import PROJECT

# Import app.py with the package first on the path, and of this machine's libraries only boto3 and what it needs.
IMPORT_AS_LAMBDA_WOULD = """
import importlib.util, json, sys
from pathlib import Path

ON_LAMBDA = {"boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3"}
here = Path.cwd()

class OnlyWhatLambdaHas:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ON_LAMBDA or (here / top).exists() or any(here.glob(f"{top}.*")):
            return None
        raise ModuleNotFoundError(f"{name} is neither in the package nor on Lambda", name=name)

sys.path.insert(0, str(here))
sys.meta_path.insert(0, OnlyWhatLambdaHas())
import app, chalice
early = sorted({"jwt", "cryptography", "boto3", "botocore.session", "urllib3"} & sys.modules.keys())
import jwt.algorithms
print(json.dumps({"app": app.__file__, "chalice": chalice.__file__, "handlers": sorted(app.app.handler_map),
    "jwt": jwt.__file__, "early": early, "verifies_rs256": jwt.algorithms.has_crypto}))
"""


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transform needs one."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that packaging needs."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / ".chalice", project / ".chalice", ignore=shutil.ignore_patterns("deploy*", "venv"))
    for name in ("app.py", "chalicelib", "requirements.txt", "resources.json"):
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, project / name)
    return project


def run(project: Path, *command: str | Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_DEFAULT_REGION": "eu-central-1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # What `make test-deploy` has fetched, so that packaging libraries needs no network.
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(Path(sys.prefix) / "wheels"),
    }
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def package(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output directory of `chalice package --stage dev --merge-template resources.json`."""
    out = tmp_path_factory.mktemp("out")
    chalice = Path(sys.executable).with_name("chalice")
    run(project, chalice, "package", "--stage", "dev", "--merge-template", "resources.json", out)
    return out


@pytest.fixture(scope="module")
def finished(project: Path) -> Path:
    """The output directory of `make package STAGE=dev`, which has linted it."""
    run(project, sys.executable, "-m", "pealctl", "package", "--stage", "dev")
    return project / "out" / "dev"


def transform(path: Path) -> dict[str, Any]:
    """Return what AWS's own transform makes of a template, as CloudFormation does."""
    template = json.loads(path.read_text())
    for resource in template["Resources"].values():
        if "CodeUri" in resource["Properties"]:
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    translated: dict[str, Any] = Translator({}, Parser()).translate(template, {"Stage": "dev"})
    return translated


def lint(path: Path) -> None:
    run(path.parent, Path(sys.executable).with_name("cfn-lint"), path)


def modules(directory: Path) -> set[str]:
    """Return the paths of chalicelib's sources below a directory."""
    return {str(path.relative_to(directory)) for path in (directory / "chalicelib").rglob("*.py")}


def test_it_holds_the_app_chalice_and_libraries_for_tokens_only(package: Path) -> None:
    with zipfile.ZipFile(package / "deployment.zip") as archive:
        names = archive.namelist()
    roots = {name.partition("/")[0] for name in names}
    libraries = {"jwt", "cryptography", "cffi", "pycparser"}
    assert {root for root in roots if "." not in root} == {"chalicelib", "chalice", *libraries}
    assert [name for name in names if name.endswith(".py") and "/" not in name] == ["app.py"]
    assert {name for name in names if name.startswith("chalicelib/")} == modules(PROJECT)


def test_it_imports_with_only_what_lambda_has(package: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(package / "deployment.zip") as archive:
        archive.extractall(tmp_path)
    variables = {
        "CONNECTIONS_TABLE": "peal-dev-connections",
        "JOBS_QUEUE": "peal-dev-jobs",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "A",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORT_AS_LAMBDA_WOULD],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "eu-central-1", **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    imported = json.loads(last)
    assert imported["app"] == str(tmp_path / "app.py")
    assert imported["chalice"] == str(tmp_path / "chalice" / "__init__.py")
    assert imported["jwt"] == str(tmp_path / "jwt" / "__init__.py")
    assert imported["verifies_rs256"] is True
    assert imported["early"] == [], "this costs every cold start: docs/decisions/tokens.md and table-client.md"
    assert {"websocket_connect", "websocket_message", "websocket_disconnect"} <= set(imported["handlers"])


def test_the_template_has_sockets_routes_and_table(package: Path) -> None:
    template: dict[str, Any] = json.loads((package / "sam.json").read_text())
    types = [resource["Type"] for resource in template["Resources"].values()]
    assert types.count("AWS::ApiGatewayV2::Api") == 1
    assert types.count("AWS::ApiGatewayV2::Route") == 3
    assert types.count("AWS::Serverless::Api") == 1
    assert types.count("AWS::DynamoDB::Table") == 1
    names = {resource.get("Properties", {}).get("RouteKey") for resource in template["Resources"].values()}
    assert {"$connect", "$default", "$disconnect"} <= names


def test_what_chalice_packages_passes_the_linter(package: Path, tmp_path: Path) -> None:
    lint(package / "sam.json")
    (tmp_path / "translated.json").write_text(json.dumps(transform(package / "sam.json")))
    lint(tmp_path / "translated.json")


def test_what_make_package_writes_passes_the_linter(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "translated.json").write_text(json.dumps(transform(finished / "sam.json")))
    lint(tmp_path / "translated.json")


def test_functions_have_the_names_that_chalice_deploys(package: Path, finished: Path) -> None:
    """Alarms, log groups and policies use these names."""
    for path in (package, finished):
        template = json.loads((path / "sam.json").read_text())
        functions = [part for part in template["Resources"].values() if part["Type"] == "AWS::Serverless::Function"]
        names = {function["Properties"]["FunctionName"]["Fn::Sub"] for function in functions}
        assert names == {
            "peal-${Stage}" if name == "api_handler" else f"peal-${{Stage}}-{name}" for name in permissions.ALLOWED
        }


def test_make_package_ships_bytecode_that_is_used(finished: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(finished / "deployment.zip") as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-v", "-c", "import chalicelib.peal"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    compiled = {Path(source_from_cache(path)) for path in (tmp_path / "chalicelib").rglob("*.pyc")}
    assert {str(path.relative_to(tmp_path)) for path in compiled} == modules(PROJECT)
    # The file that each module comes from; what had to be compiled comes from its source.
    files = re.findall(r"# code object from '?(.*chalicelib.*?)'?$", done.stderr, re.MULTILINE)
    assert {Path(file).suffix for file in files} == {".pyc"}


def test_make_package_knows_the_stage(finished: Path) -> None:
    template = json.loads((finished / "sam.json").read_text())
    assert template["Parameters"]["Stage"]["Default"] == "dev"


def test_local_conveniences_are_off_on_aws() -> None:
    config = json.loads((PROJECT / ".chalice" / "config.json").read_text())
    for name, stage in config["stages"].items():
        variables = stage.get("environment_variables", {})
        is_local = name == "local"
        assert (variables.get("ALLOW_ANONYMOUS") == "true") is is_local
        assert ("LOCAL_GATEWAY_PORT" in variables) is is_local
