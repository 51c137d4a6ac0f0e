"""What the person who types a command is told when it cannot be done; without AWS."""

import sys
from importlib.util import cache_from_source, source_hash
from pathlib import Path

import pytest

from pealctl.__main__ import main
from pealctl.deploy.programs import bytecode, check_python, run
from pealctl.errors import BadProject, ProgramFailed
from tests.conftest import PROJECT


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that fails says."""
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


class TestBeforeAws:
    def test_no_stage_is_the_desks(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert said(capsys, "deploy").startswith("Stage local is for this machine")

    def test_no_region(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert said(capsys, "deploy", "--stage", "dev") == (
            "No AWS Region is set: export AWS_DEFAULT_REGION=eu-central-1, for example, or run `aws configure`.\n"
        )

    def test_no_credentials(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        assert said(capsys, "deploy", "--stage", "dev") == (
            "There are no AWS credentials: run `aws configure` or `aws sso login`, or export AWS_PROFILE.\n"
        )

    def test_no_such_profile(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        assert said(capsys, "deploy", "--stage", "dev") == (
            "The config profile (nobody) could not be found: correct AWS_PROFILE, or make it with "
            "`aws configure --profile NAME`.\n"
        )

    def test_nobody_answers(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        assert said(capsys, "deploy", "--stage", "dev").startswith("AWS could not be asked who you are: ")


class TestPrograms:
    def test_a_python_that_lambda_has_is_taken(self) -> None:
        check_python()

    def test_a_python_that_lambda_has_not_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 99, 0))
        with pytest.raises(BadProject) as error:
            check_python()
        monkeypatch.undo()
        assert str(error.value) == (
            "Lambda has no runtime python3.99, the closest is python3.15: make the environment again with "
            "`make clean`, then `make setup PYTHON=python3.15`."
        )

    def test_one_that_fails_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ProgramFailed) as error:
            run(tmp_path, "chalice", "deploy", "--no-such-option", region="eu-central-1")
        assert str(error.value) == (
            "`chalice deploy --no-such-option` ended with status 2; its own message is above. Then run this again."
        )

    def test_what_is_compiled_now_is_shipped_and_nothing_else(self, tmp_path: Path) -> None:
        source, cache = tmp_path / "chalicelib" / "x.py", tmp_path / "chalicelib" / "__pycache__"
        cache.mkdir(parents=True)
        (cache / "gone.cpython-311.pyc").touch()
        source.write_text("X = 1")
        with bytecode(tmp_path):
            (compiled,) = cache.iterdir()
            assert compiled == Path(cache_from_source(source))
            # Flags of a file that is checked by its source's hash, which stands behind them: PEP 552.
            assert compiled.read_bytes()[4:16] == b"\x03\0\0\0" + source_hash(source.read_bytes())
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [source]
