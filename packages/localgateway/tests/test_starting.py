"""What is said when a project cannot start: one sentence each, and nothing is left running."""

import os
import socket
import sys
import threading

import pytest

from gatewaykit import ECHO, ROWS_TABLE, write_project
from localgateway import GatewayError, LocalGateway
from localgateway.errors import AddressInUse, ProjectError


class TestWhatIsSaidWhenItCannotStart:
    def start(self, project, **options):
        with pytest.raises(GatewayError) as failure:
            LocalGateway(project, **options).start()
        return failure.value

    def test_no_project(self, tmp_path):
        error = self.start(tmp_path)
        assert isinstance(error, ProjectError)
        assert str(error) == f"{tmp_path} is not a Chalice project: it needs app.py and .chalice/config.json."

    def test_a_broken_config(self, tmp_path):
        project = write_project(tmp_path / "p", ECHO)
        (project / ".chalice" / "config.json").write_text("{")
        assert str(self.start(project)).startswith(f"{project}/.chalice/config.json cannot be used: ")

    def test_a_project_that_raises_while_it_is_imported(self, tmp_path):
        before = dict(os.environ), list(sys.path), threading.active_count()
        error = self.start(write_project(tmp_path / "p", "import nothing_of_this_name"))
        assert str(error).endswith(
            "app.py does not import: ModuleNotFoundError: No module named 'nothing_of_this_name'"
        )
        assert isinstance(error.__cause__, ModuleNotFoundError)
        assert (dict(os.environ), list(sys.path), threading.active_count()) == before

    def test_a_syntax_error(self, tmp_path):
        error = self.start(write_project(tmp_path / "p", "def broken(:"))
        assert "SyntaxError: invalid syntax" in str(error)
        assert error.__cause__ is None

    def test_no_app(self, tmp_path):
        error = self.start(write_project(tmp_path / "p", "", prelude="application = 1"))
        assert "has no attribute 'app'" in str(error)

    def test_a_project_that_exits(self, tmp_path):
        assert "SystemExit: 3" in str(self.start(write_project(tmp_path / "p", "import sys; sys.exit(3)")))

    def test_a_missing_feature_flag(self, tmp_path):
        source = "app.experimental_feature_flags.clear()" + ECHO
        assert "WEBSOCKETS" in str(self.start(write_project(tmp_path / "p", source)))

    def test_a_function_that_lambda_would_not_find(self, tmp_path):
        error = self.start(write_project(tmp_path / "p", ECHO + "\ndel message"))
        assert str(error) == "The function message does not exist: Lambda would look for app.message."

    def test_a_port_that_is_taken(self, tmp_path):
        project = write_project(tmp_path / "p", '@app.route("/")\ndef index():\n    return {}\n')
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for option in ("port", "rest_port"):
                error = self.start(project, **{option: port})
                assert isinstance(error, AddressInUse)
                assert str(error) == (
                    f"Port {port} on 127.0.0.1 is in use: stop the process that has it, or choose another port with "
                    f"--{option.replace('_', '-')} (0 takes a free one)."
                )

    def test_an_address_that_is_not_ours(self, tmp_path):
        error = self.start(write_project(tmp_path / "p", ECHO), host="192.0.2.1")
        assert str(error) == "Cannot listen on 192.0.2.1, port 0: Cannot assign requested address."

    @pytest.mark.usefixtures("own_engine")
    def test_no_engine_can_be_installed(self, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        (tmp_path / "file").touch()
        monkeypatch.setenv("LOCALGATEWAY_ENGINE_DIR", str(tmp_path / "file" / "engines"))
        error = self.start(write_project(tmp_path / "p", ECHO, resources={"Rows": ROWS_TABLE}))
        assert str(error).startswith("The engine for tables and queues cannot be installed: ")
        assert "localgateway engine install" in str(error)

    def test_an_unknown_stage_is_a_warning(self, tmp_path, caplog):
        with LocalGateway(write_project(tmp_path / "p", ECHO), stage="prod"):
            assert "Stage prod is not in .chalice/config.json: top-level settings only." in caplog.text
