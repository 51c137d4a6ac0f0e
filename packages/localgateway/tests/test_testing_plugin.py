"""The test kit as a pytest plugin of another project, by the examples of docs/TESTING.md."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gatewaykit import ROWS_TABLE, write_project
from gatewayprocesses import bare_environment

pytestmark = pytest.mark.slow
DOCUMENT = (Path(__file__).parents[1] / "docs" / "TESTING.md").read_text()


def blocks(language="python"):
    return re.findall(rf"^```{language}\n(.*?)```", DOCUMENT, re.M | re.S)


@pytest.fixture
def foreign(tmp_path):
    """Another project: the one that docs/TESTING.md describes, example by example."""
    app, *tests = blocks()
    (options,) = (test for test in tests if "gateway_options" in test)
    tests.remove(options)
    project = write_project(tmp_path / "project", app, prelude="", resources={"Rows": ROWS_TABLE})
    (project / "conftest.py").write_text(options)
    (project / "test_app.py").write_text("\n\n".join(tests))
    return project


def run_pytest(project, *arguments, **environment):
    """Run pytest as that project's own, warnings being errors; returns its exit code and what it says."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments]
    ended = subprocess.run(
        command,
        cwd=project,
        env=bare_environment() | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_every_example_passes_in_each_worker_of_xdist(foreign):
    assert DOCUMENT.count("\ndef test_") == 7
    code, said = run_pytest(foreign, "-n", "2", "--dist", "each")
    assert code == 0, said
    assert "14 passed" in said


def test_tests_beside_it_import_the_project_in_their_own_way(foreign):
    (foreign / "chalicelib").mkdir()
    (foreign / "chalicelib" / "__init__.py").write_text("class Oops(Exception): pass\n")
    (foreign / "test_beside.py").write_text(
        "import os, sys\n"
        "import chalicelib\n"
        "path = list(sys.path)\n"
        "def test_before(): assert 'GREETING' not in os.environ\n"
        "def test_with(gateway, monkeypatch):\n"
        "    import chalicelib as theirs\n"
        "    assert os.environ['GREETING'] == 'hello'\n"
        "    assert theirs is not chalicelib\n"
        "    assert sys.modules['app'] is gateway.app\n"
        "def test_after():\n"
        "    import chalicelib as mine\n"
        "    assert mine is chalicelib\n"
        "    assert 'app' not in sys.modules\n"
        "    assert 'GREETING' not in os.environ\n"
        "    assert sys.path == path\n"
    )
    code, said = run_pytest(foreign, "test_beside.py")
    assert code == 0, said


def test_project_and_stage_are_settings_of_pytest(foreign, tmp_path):
    config = foreign / ".chalice" / "config.json"
    stage = {"environment_variables": {"GREETING": "good evening,"}}
    config.write_text(json.dumps({"version": "2.0", "app_name": "greeter", "stages": {"evening": stage}}))
    tests = tmp_path / "elsewhere"
    tests.mkdir()
    (tests / "pytest.ini").write_text(
        "[pytest]\nlocalgateway_project = ../project\nlocalgateway_stage = evening\naddopts = --strict-config\n"
    )
    (tests / "conftest.py").write_text('pytest_plugins = ["localgateway.testing"]\n')
    (tests / "test_evening.py").write_text(
        "def test_it(gateway):\n"
        "    alice = gateway.connect('alice')\n"
        "    alice.sends('world')\n"
        "    alice.receives('good evening, world')\n"
    )
    code, said = run_pytest(tests)
    assert code == 0, said


def test_a_failure_points_at_the_line_of_the_test(foreign):
    (foreign / "test_failing.py").write_text(
        "def test_it(gateway):\n    alice = gateway.connect('alice')\n    alice.receives({'a': 1}, within=0.05)\n"
    )
    code, said = run_pytest(foreign, "test_failing.py")
    assert code == 1
    assert "test_failing.py:3: AssertionError" in said
    assert "alice received nothing within 0.05 s" in said
    assert "client.py" not in said


def test_a_project_that_cannot_be_run_says_why(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["localgateway.testing"]\n')
    (tmp_path / "test_it.py").write_text("def test_it(gateway): pass\n")
    code, said = run_pytest(tmp_path)
    assert code == 1
    assert f"{tmp_path} is not a Chalice project: it needs app.py and .chalice/config.json." in said


def test_a_pytest_that_does_not_use_it_imports_no_gateway(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    loaded = {'boto3', 'botocore', 'chalice', 'websockets', 'localgateway.gateway'} & sys.modules.keys()\n"
        "    assert ('localgateway.testing.plugin' in sys.modules, loaded) == (True, set())\n"
    )
    code, said = run_pytest(tmp_path)
    assert code == 0, said


def test_where_plugins_are_not_loaded_a_conftest_asks_for_it(foreign):
    conftest = foreign / "conftest.py"
    conftest.write_text('pytest_plugins = ["localgateway.testing"]\n' + conftest.read_text())
    code, said = run_pytest(foreign, "test_app.py", "-k", "health or greeted", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert code == 0, said


def test_importing_it_changes_nothing():
    code = (
        "import os, sys, threading, warnings\n"
        "before = dict(os.environ), list(sys.path), threading.active_count()\n"
        "import localgateway.testing\n"
        "assert before == (dict(os.environ), list(sys.path), threading.active_count())\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
