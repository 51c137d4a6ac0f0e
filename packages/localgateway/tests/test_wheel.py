"""The wheel: built here without a network, unpacked beside this environment's libraries, and used as installed."""

import os
import subprocess
import sys
from configparser import ConfigParser
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from websockets.sync.client import connect

from gatewaykit import ROWS_TABLE, SECONDS, write_project
from gatewayprocesses import APP, FREE, Process, bare_environment, get
from localgateway.contract.project import LOCAL_PORT_VARIABLE

PACKAGE = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("hatchling") is None, reason="building needs hatchling"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(directory), str(PACKAGE)], check=True, timeout=60)
    (path,) = directory.glob("*.whl")
    return path


def test_it_has_every_file_of_the_package_and_no_other(wheel):
    tracked = {
        path.relative_to(PACKAGE).as_posix()
        for path in (PACKAGE / "localgateway").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == tracked
    static = "localgateway/console/static/index.html"
    assert {"localgateway/py.typed", "localgateway/aws/engine-requirements.txt", static} <= names


def test_it_names_its_command_its_plugin_and_its_licence(wheel):
    with ZipFile(wheel) as archive:
        (info,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        entry_points = ConfigParser()
        entry_points.read_string(archive.read(f"{info}/entry_points.txt").decode())
        metadata = archive.read(f"{info}/METADATA").decode()
    assert dict(entry_points["console_scripts"]) == {"localgateway": "localgateway.__main__:main"}
    assert dict(entry_points["pytest11"]) == {"localgateway.testing.plugin": "localgateway.testing.plugin"}
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata


def test_unpacked_it_serves_a_project_and_the_console(wheel, tmp_path, monkeypatch):
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    source = APP.replace(LOCAL_PORT_VARIABLE, "NEVER_SET")
    config = {"environment_variables": {"GREETING": "hi "}}
    project = write_project(tmp_path / "project", source, config=config, resources={"Rows": ROWS_TABLE}, prelude="")
    environment = bare_environment() | {"PYTHONPATH": str(tmp_path / "site")}
    where = "import localgateway; print(localgateway.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], env=environment, cwd=project, capture_output=True, text=True, timeout=30
    )
    assert found.stdout == f"{tmp_path}/site/localgateway/__init__.py\n"
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(tmp_path / "site"))
    process = Process(sys.executable, "-m", "localgateway", *FREE, cwd=project)
    with closing(process):
        url = process.prints("^WebSocket +(.*)$")
        rest = process.prints("^REST +(.*)$")
        assert "<title>Console</title>" in get(process.prints("^Console +(.*)$"))
        with connect(url, open_timeout=SECONDS) as client:
            client.send("you")
            assert client.recv(timeout=SECONDS) == "hi you"
            assert get(f"{rest}/count") == '{"count":1}'
