"""`chalice local` of a project that attaches the gateway: sockets and routes together, through reloads."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gatewaykit import SECONDS
from gatewayprocesses import Process, children_of, ends_soon, free_port, get, needs_proc


@pytest.mark.slow
class TestChaliceLocal:
    @pytest.fixture
    def chalice(self, project: Path, run: Callable[..., Process]) -> Iterator[tuple[Process, str, str]]:
        port, rest_port = free_port(), free_port()
        config = project / ".chalice" / "config.json"
        config.write_text(config.read_text().replace('"GREETING"', f'"LOCAL_GATEWAY_PORT": "{port}", "GREETING"'))
        program = (str(Path(sys.executable).with_name("chalice")), "local", "--stage", "local")
        process = run("--port", str(rest_port), program=program)
        process.prints(f"Serving on ws://127.0.0.1:{port}/api")
        process.prints(f"Console on http://127.0.0.1:{port}/_console")
        process.prints(f"Serving on http://127.0.0.1:{rest_port}")
        return process, f"ws://127.0.0.1:{port}/api", f"http://127.0.0.1:{rest_port}"

    def test_it_serves_sockets_and_routes_and_survives_a_reload(self, chalice, project):
        process, url, rest = chalice
        with connect(url, open_timeout=SECONDS) as client:
            client.send("you")
            assert client.recv(timeout=SECONDS) == "hello you"
            assert get(f"{rest}/count") == '{"count":1}'
            source = (project / "app.py").read_text()
            (project / "app.py").write_text(source.replace("+ event.body", "+ event.body.upper()"))
            with pytest.raises(ConnectionClosed, match="1001"):
                client.recv(timeout=SECONDS)
        process.prints("Restarting local dev server")
        process.prints(f"Serving on {url}")
        with connect(url, open_timeout=SECONDS) as client:
            client.send("you")
            assert client.recv(timeout=SECONDS) == "hello YOU"

    @needs_proc
    def test_it_takes_its_engine_along(self, chalice):
        process, _, _ = chalice
        worker = process.child()
        (engine,) = children_of(worker)
        process.popen.send_signal(signal.SIGINT)
        assert ends_soon(worker)
        assert ends_soon(engine)

    def test_packaging_starts_nothing(self, project, run):
        config = project / ".chalice" / "config.json"
        config.write_text(config.read_text().replace('"GREETING"', '"LOCAL_GATEWAY_PORT": "1", "GREETING"'))
        program = (str(Path(sys.executable).with_name("chalice")), "package", "--stage", "local", "out")
        process = run(program=program)
        assert process.ends() == 0, process.output
        assert "Serving" not in process.output
