"""LocalGateway: a project, its routes and its tables as one thing that starts, stops and leaves nothing behind."""

import os
import socket
import sys
import threading
from urllib.parse import urlsplit

import boto3
import pytest

from gatewaykit import ECHO, PRELUDE, RECORDING, ROWS_ROUTES, ROWS_TABLE, ask, write_project
from localgateway import Limits, LocalGateway


class TestStartAndStop:
    def test_it_says_where_it_is(self, serve):
        gateway = serve(RECORDING).gateway
        port = urlsplit(gateway.url).port
        assert gateway.url == f"ws://127.0.0.1:{port}/api"
        assert gateway.management_endpoint == f"http://127.0.0.1:{port}/api"
        assert gateway.rest_url is None

    def test_it_leaves_the_process_as_it_was(self, tmp_path):
        import gatewaykit as stays

        project = write_project(tmp_path / "p", ECHO, config={"environment_variables": {"NEW": "1", "HOME": "/x"}})
        (project / "chalicelib").mkdir()
        (project / "chalicelib" / "__init__.py").write_text("")
        (project / "chalicelib" / "part.py").write_text("here = True")
        (project / "vendor").mkdir()
        (project / "vendor" / "vendored.py").write_text("x = 1")
        (project / "app.py").write_text(PRELUDE + "from chalicelib.part import here\nimport vendored\n")
        before = dict(os.environ), list(sys.path), dict(sys.modules), set(threading.enumerate())
        gateway = LocalGateway(project, environment={"MORE": "2"})
        with gateway:
            assert (os.environ["NEW"], os.environ["MORE"], os.environ["HOME"]) == ("1", "2", "/x")
            assert sys.modules["chalicelib.part"].here
            assert "vendored" in sys.modules
        gateway.stop()
        environment, path, modules, threads = before
        assert dict(os.environ) == environment
        assert sys.path == path
        assert {name: sys.modules.get(name) for name in modules} == modules
        assert "vendored" not in sys.modules
        assert set(threading.enumerate()) == threads
        assert sys.modules[stays.__name__] is stays

    def test_it_may_start_again_and_see_new_code(self, tmp_path):
        project = write_project(tmp_path / "p", "version = 1")
        with LocalGateway(project):
            assert sys.modules["app"].version == 1
        (project / "app.py").write_text(PRELUDE + "version = 2222")
        with LocalGateway(project):
            assert sys.modules["app"].version == 2222

    def test_the_port_is_free_at_once(self, tmp_path):
        project = write_project(tmp_path / "p", ECHO)
        with LocalGateway(project) as gateway:
            port = urlsplit(gateway.url).port
        with LocalGateway(project, port=port) as gateway:
            assert urlsplit(gateway.url).port == port

    def test_a_handler_that_never_returns_does_not_hold_it_up(self, tmp_path):
        from websockets.sync.client import connect

        project = write_project(
            tmp_path / "p", "@app.on_ws_message()\ndef message(event):\n    events.put(gate.wait(30))\n"
        )
        with LocalGateway(project, limits=Limits(stop_seconds=0.1)) as gateway:
            app = sys.modules["app"]
            with connect(gateway.url) as client:
                client.send("x")
                client.ping().wait(10)
                gateway.stop()
        assert app.events.empty()
        app.gate.set()

    def test_it_listens_on_ipv6_too(self, serve):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
        probe = serve(ECHO, host="::1")
        assert probe.gateway.url.startswith("ws://[::1]:")
        client = probe.joins()
        client.sends("x")
        assert client.receives() == "x"

    def test_listening_everywhere_it_names_an_address_to_call(self, serve):
        assert serve(ECHO, host="0.0.0.0").gateway.url.startswith("ws://127.0.0.1:")


class TestTables:
    @pytest.mark.slow
    @pytest.mark.usefixtures("own_engine")
    def test_a_project_with_tables_gets_an_engine_of_its_own(self, serve):
        probe = serve(ROWS_ROUTES, resources={"Rows": ROWS_TABLE})
        gateway = probe.gateway
        assert ask(f"{gateway.rest_url}/rows") == {"count": 0}
        ask(f"{gateway.rest_url}/rows", b"one")
        client = boto3.client("dynamodb", endpoint_url=gateway.environment["AWS_ENDPOINT_URL_DYNAMODB"])
        assert client.scan(TableName="rows")["Count"] == 1
        client.close()
        engine = urlsplit(gateway.environment["AWS_ENDPOINT_URL_DYNAMODB"])
        gateway.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((engine.hostname, engine.port), timeout=1)

    def test_an_engine_that_the_environment_names_is_used(self, serve):
        gateway = serve(ROWS_ROUTES, resources={"Rows": ROWS_TABLE}).gateway
        assert "AWS_ENDPOINT_URL_DYNAMODB" not in gateway.environment
        ask(f"{gateway.rest_url}/rows", b"one")
        client = boto3.client("dynamodb")
        assert client.scan(TableName="rows")["Count"] == 1
        client.delete_table(TableName="rows")
        client.close()

    def test_reset_empties_tables_and_drops_sockets_without_a_disconnect(self, serve):
        probe = serve(RECORDING + ROWS_ROUTES, resources={"Rows": ROWS_TABLE})
        gateway = probe.gateway
        ask(f"{gateway.rest_url}/rows", b"one")
        client, connection_id = probe.joins(), probe.connection_id()
        gateway.reset()
        assert ask(f"{gateway.rest_url}/rows") == {"count": 0}
        with pytest.raises(AssertionError, match="cut without a close frame"):
            client.is_closed_with()
        assert probe.has_no_event_within(0.1)
        management = probe.management()
        with pytest.raises(management.exceptions.GoneException):
            management.get_connection(ConnectionId=connection_id)
        probe.joins()
        probe.event()
        dynamodb = boto3.client("dynamodb")
        dynamodb.delete_table(TableName="rows")
        dynamodb.close()
