"""What deploy commands say when they cannot be done; without AWS."""

import sys
from importlib.util import cache_from_source, source_hash
from pathlib import Path

import pytest
from chalice.config import Config

from pealctl.__main__ import main
from pealctl.deploy.programs import bytecode, check_python, run
from pealctl.errors import BadProject, NotInstalled, ProgramFailed
from tests.conftest import PROJECT


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a failing command says."""
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


class TestBeforeAws:
    def test_the_local_stage_is_never_deployed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert error_of(capsys, "deploy").startswith("Stage local is for this machine")

    def test_no_region(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert error_of(capsys, "deploy", "--stage", "dev") == (
            "No AWS Region is set: export AWS_DEFAULT_REGION=eu-central-1, for example, or run `aws configure`.\n"
        )

    @pytest.mark.slow
    def test_no_credentials(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        assert error_of(capsys, "deploy", "--stage", "dev") == (
            "There are no AWS credentials: run `aws configure` or `aws sso login`, or export AWS_PROFILE.\n"
        )

    def test_no_such_profile(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        assert error_of(capsys, "deploy", "--stage", "dev") == (
            "The config profile (nobody) could not be found: correct AWS_PROFILE, or make it with "
            "`aws configure --profile NAME`.\n"
        )

    def test_no_answer(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        assert error_of(capsys, "deploy", "--stage", "dev").startswith("AWS could not be asked who you are: ")


class TestPrograms:
    def test_this_python_is_accepted(self) -> None:
        check_python()

    @pytest.mark.parametrize("minor", [11, 12, 13, 14])
    def test_lambda_runs_every_python_that_peal_does(self, minor: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, minor, 0))
        check_python()
        assert Config.create().lambda_python_version == f"python3.{minor}"

    def test_a_python_without_a_runtime_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 99, 0))
        with pytest.raises(BadProject) as error:
            check_python()
        monkeypatch.undo()
        assert str(error.value) == (
            "Lambda has no runtime python3.99, the closest is python3.15: make the environment again with "
            "`make clean`, then `make setup PYTHON=python3.15`."
        )

    def test_a_missing_program_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(NotInstalled) as error:
            run(tmp_path, "no-such-program", region="eu-central-1")
        assert str(error.value) == (
            "This needs no-such-program, which is not installed: run it with make, or install pealctl with "
            "`pip install 'packages/pealctl[deploy]'`."
        )

    def test_missing_chalice_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "chalice.config", None)
        with pytest.raises(NotInstalled, match="^This needs chalice, "):
            check_python()

    @pytest.mark.slow
    def test_a_failing_program_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ProgramFailed) as error:
            run(tmp_path, "chalice", "deploy", "--no-such-option", region="eu-central-1")
        assert str(error.value) == (
            "`chalice deploy --no-such-option` ended with status 2; its own message is above. Then run this again."
        )

    def test_only_fresh_bytecode_of_every_room_is_shipped(self, tmp_path: Path) -> None:
        sources = [tmp_path / "chalicelib" / "x.py", tmp_path / "chalicelib" / "room" / "y.py"]
        for source in sources:
            cache = source.parent / "__pycache__"
            cache.mkdir(parents=True)
            (cache / "gone.cpython-311.pyc").touch()
            source.write_text("X = 1")
        with bytecode(tmp_path):
            compiled = {Path(cache_from_source(source)): source for source in sources}
            assert set(tmp_path.rglob("*.pyc")) == compiled.keys()
            for path, source in compiled.items():
                # Flags for a file that is checked by its source's hash, and the hash: PEP 552.
                assert path.read_bytes()[4:16] == b"\x03\0\0\0" + source_hash(source.read_bytes())
        assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(sources)
