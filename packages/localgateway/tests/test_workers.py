"""Lambda as it is: each function in processes of its own, killed past its time, replaced when it dies."""

import json
import os
import signal
import socket
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from gatewaykit import SECONDS, Client, Probe, ask, write_project
from gatewayprocesses import children_of, ends_soon, is_running, needs_proc
from localgateway import GatewayError
from localgateway.runtime.pool import Zygote
from localgateway.runtime.worker import LENGTH

PRELUDE = """
import json, os, sys, time
import boto3
from chalice import Chalice

app = Chalice(app_name="probe")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = boto3.session.Session()
calls = []

def tell(event, **what):
    app.websocket_api.send(event.connection_id, json.dumps(what))
"""

COUNTING = """
@app.on_ws_connect()
def connect(event):
    calls.append("connect")

@app.on_ws_message()
def message(event):
    calls.append(event.body)
    if event.body == "crash":
        os._exit(1)
    if event.body == "sleep":
        tell(event, pid=os.getpid())
        time.sleep(60)
    if event.body.startswith("wait"):
        time.sleep(0.5)
    tell(event, calls=calls, pid=os.getpid())

@app.route("/calls")
def rest_calls():
    return {"calls": calls, "pid": os.getpid()}

@app.route("/crash")
def crash():
    os._exit(1)
"""


@pytest.fixture
def run(serve: Callable[..., Probe]) -> Callable[..., Probe]:
    """Run a project with worker processes."""

    def run(source: str, **options: Any) -> Probe:
        return serve(source, workers=True, prelude=PRELUDE, **options)

    return run


def told(client: Client) -> Any:
    return json.loads(client.receives())


class TestMemory:
    @pytest.mark.slow
    def test_functions_share_no_memory(self, run: Callable[..., Probe]) -> None:
        probe = run(COUNTING)
        client = probe.joins()
        client.sends("one")
        message = told(client)
        assert message["calls"] == ["one"]
        rest = ask(f"{probe.gateway.rest_url}/calls")
        assert rest["calls"] == []
        assert rest["pid"] != message["pid"]

    @pytest.mark.slow
    def test_a_warm_process_is_used_again_and_keeps_what_it_has(self, run: Callable[..., Probe]) -> None:
        client = run(COUNTING).joins()
        calls: dict[int, list[str]] = {}
        # A message that comes while the handler before it is still returning gets another process, here as there.
        for number in range(20):
            client.sends(str(number))
            answer = told(client)
            calls.setdefault(answer["pid"], []).append(str(number))
            assert answer["calls"] == calls[answer["pid"]]
        assert len(calls) < 20

    @pytest.mark.slow
    def test_invocations_at_the_same_time_have_processes_of_their_own(self, run: Callable[..., Probe]) -> None:
        client = run(COUNTING).joins()
        client.sends("wait 1", "wait 2", "wait 3")
        answers = [told(client) for _ in range(3)]
        assert len({answer["pid"] for answer in answers}) == 3
        assert all(len(answer["calls"]) == 1 for answer in answers)

    @pytest.mark.slow
    def test_a_function_has_the_variables_of_its_own(self, run: Callable[..., Probe]) -> None:
        config = {
            "stages": {
                "local": {
                    "environment_variables": {"WHO": "all", "WHAT": "stage"},
                    "lambda_functions": {"websocket_message": {"environment_variables": {"WHO": "message"}}},
                }
            }
        }
        source = """
            names = ("WHO", "WHAT", "AWS_LAMBDA_FUNCTION_NAME", "LOCAL_GATEWAY_PORT")

            @app.on_ws_message()
            def message(event):
                tell(event, **{name: os.environ.get(name) for name in names})

            @app.route("/who")
            def who():
                return {name: os.environ.get(name) for name in names}
        """
        probe = run(source, config=config, environment={"WHAT": "override"})
        client = probe.joins()
        client.sends("?")
        mine = {"WHAT": "override", "LOCAL_GATEWAY_PORT": None}
        assert told(client) == mine | {"WHO": "message", "AWS_LAMBDA_FUNCTION_NAME": "probe-local-websocket_message"}
        rest = ask(f"{probe.gateway.rest_url}/who")
        assert rest == mine | {"WHO": "all", "AWS_LAMBDA_FUNCTION_NAME": "probe-local"}

    @pytest.mark.slow
    def test_a_function_without_websocket_events_must_configure_the_endpoint(self, run: Callable[..., Probe]) -> None:
        probe = run(
            """
            @app.on_ws_message()
            def message(event):
                tell(event, id=event.connection_id)

            @app.route("/send/{connection_id}/{how}")
            def push(connection_id, how):
                if how == "configured":
                    app.websocket_api.configure("any.example.com", "api")
                try:
                    app.websocket_api.send(connection_id, json.dumps({"how": how}))
                except ValueError as error:
                    return {"error": str(error)}
                return {}
            """
        )
        client = probe.joins()
        client.sends("?")
        push = f"{probe.gateway.rest_url}/send/{told(client)['id']}"
        assert ask(f"{push}/bare")["error"].startswith("WebsocketAPI.configure must be called")
        assert ask(f"{push}/configured") == {}
        assert told(client) == {"how": "configured"}


@pytest.mark.slow
class TestMishaps:
    def test_a_crash_costs_one_error_frame_and_nothing_else(self, run: Callable[..., Probe]) -> None:
        client = run(COUNTING).joins()
        client.sends("crash")
        assert told(client)["message"] == "Internal server error"
        client.sends("one")
        assert told(client)["calls"] == ["one"]

    def test_a_crash_of_the_rest_function_is_502(self, run: Callable[..., Probe]) -> None:
        probe = run(COUNTING)
        with pytest.raises(urllib.error.HTTPError) as failed:
            ask(f"{probe.gateway.rest_url}/crash")
        with failed.value as answer:
            assert (answer.code, json.loads(answer.read())) == (502, {"message": "Internal server error"})
        assert ask(f"{probe.gateway.rest_url}/calls")["calls"] == []

    @needs_proc
    def test_a_handler_past_its_time_is_killed(self, run: Callable[..., Probe]) -> None:
        config = {"stages": {"local": {"lambda_functions": {"websocket_message": {"lambda_timeout": 1}}}}}
        client = run(COUNTING, config=config).joins()
        client.sends("sleep")
        pid = told(client)["pid"]
        assert told(client)["message"] == "Internal server error"
        assert ends_soon(pid)
        client.sends("one")
        assert told(client)["calls"] == ["one"]

    def test_an_exception_leaves_the_process_as_it_is(self, run: Callable[..., Probe]) -> None:
        client = run(
            """
            @app.on_ws_message()
            def message(event):
                calls.append(event.body)
                tell(event, calls=calls, left=10 // int(event.body))
            """
        ).joins()
        client.sends("0")
        assert told(client)["message"] == "Internal server error"
        # The error frame is sent after the process has come back, so the next message gets it again.
        client.sends("5")
        assert told(client) == {"calls": ["0", "5"], "left": 2}

    @needs_proc
    def test_when_the_gateway_stops_no_process_is_left(self, run: Callable[..., Probe]) -> None:
        probe = run(COUNTING)
        client = probe.joins()
        client.sends("wait", "wait")
        pids = {told(client)["pid"], told(client)["pid"], ask(f"{probe.gateway.rest_url}/calls")["pid"]}
        client.sends("sleep")
        probe.gateway.stop()
        assert all(ends_soon(pid) for pid in pids)


@pytest.mark.slow
@needs_proc
def test_a_worker_ends_with_its_channel_also_when_that_is_reset(tmp_path: Path) -> None:
    directory = str(write_project(tmp_path / "project", "", prelude=PRELUDE))
    start = {"directory": directory, "shown_directory": directory, "stage": "local", "management_endpoint": ""}
    order = json.dumps(start | {"environment": dict(os.environ)}).encode()
    zygote = Zygote()
    try:
        ours = zygote.fork()
        ours.sendall(LENGTH.pack(len(order)) + order)
        # It has started and waits for work. Closing with its answer unread resets the channel.
        assert ours.recv(1, socket.MSG_PEEK)
        (worker,) = children_of(zygote.pid)
        ours.close()
        assert ends_soon(worker)
    finally:
        zygote.stop()


@pytest.mark.slow
class TestReload:
    ANSWERING = """
        @app.on_ws_message()
        def message(event):
            if event.body == "wait":
                time.sleep(1)
            tell(event, answer="{}", pid=os.getpid())
    """

    def write(self, probe: Probe, source: str) -> None:
        (Path(probe.gateway.project_dir) / "app.py").write_text(PRELUDE + dedent(source))

    def answers(self, client: Client, answer: str) -> None:
        """Wait until the client gets that answer; everything it gets must be an answer."""
        deadline = time.monotonic() + SECONDS
        while True:
            client.sends("?")
            if told(client)["answer"] == answer:
                return
            assert time.monotonic() < deadline, f"{answer!r} never came"
            time.sleep(0.05)

    def test_the_socket_stays_and_the_next_message_runs_the_new_code(self, run: Callable[..., Probe]) -> None:
        """DEV-01 The socket survives, the next message uses the new code."""
        probe = run(self.ANSWERING.format("old"), reload=True)
        client = probe.joins()
        self.answers(client, "old")
        self.write(probe, self.ANSWERING.format("new"))
        self.answers(client, "new")

    def test_a_handler_at_work_finishes_with_the_old_code(self, run: Callable[..., Probe]) -> None:
        probe = run(self.ANSWERING.format("old"), reload=True)
        slow, quick = probe.joins(), probe.joins()
        slow.sends("wait")
        self.write(probe, self.ANSWERING.format("new"))
        self.answers(quick, "new")
        assert told(slow)["answer"] == "old"

    def test_code_that_does_not_import_leaves_the_old_code_running(
        self, run: Callable[..., Probe], caplog: pytest.LogCaptureFixture
    ) -> None:
        probe = run(self.ANSWERING.format("old"), reload=True)
        client = probe.joins()
        self.write(probe, "def broken(:")
        deadline = time.monotonic() + SECONDS
        while "The old code keeps running." not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert "SyntaxError: invalid syntax. The old code keeps running." in caplog.text
        self.answers(client, "old")
        self.write(probe, self.ANSWERING.format("mended"))
        self.answers(client, "mended")

    def test_a_new_route_is_served(self, run: Callable[..., Probe]) -> None:
        probe = run("", reload=True)
        client = probe.joins()
        client.sends("?")
        assert told(client)["message"] == "Forbidden"
        self.write(probe, self.ANSWERING.format("here"))
        deadline = time.monotonic() + SECONDS
        while True:
            client.sends("?")
            if told(client).get("answer") == "here":
                return
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.slow
def test_a_project_that_does_not_import_is_refused_in_one_sentence(run: Callable[..., Probe]) -> None:
    with pytest.raises(GatewayError, match=r"app\.py does not import: ZeroDivisionError: division by zero"):
        run("1 / 0")


@pytest.mark.slow
def test_handlers_do_not_run_in_this_process(run: Callable[..., Probe]) -> None:
    client = run(COUNTING).joins()
    client.sends("one")
    pid = told(client)["pid"]
    assert pid != os.getpid()
    assert is_running(pid)


@needs_proc
def test_no_worker_starts_when_the_process_that_forks_them_was_killed() -> None:
    zygote = Zygote()
    try:
        os.kill(zygote.pid, signal.SIGKILL)
        assert ends_soon(zygote.pid)
        with pytest.raises(GatewayError) as error:
            zygote.fork()
        assert str(error.value) == "the process that starts workers was killed; start the gateway again"
    finally:
        zygote.stop()
