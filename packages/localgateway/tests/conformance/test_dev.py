"""DEV: what a developer's machine is, and a deployment."""

import os
import time

import pytest
from websockets.sync.client import connect

from gatewaykit import ECHO, SECONDS, write_project
from localgateway import LocalGateway

VERSIONED = """
from boto3.session import Session
from chalice import Chalice

app = Chalice(app_name="probe")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = Session()

@app.on_ws_message()
def message(event):
    app.websocket_api.send(event.connection_id, "version 1")
"""


@pytest.mark.slow
def test_DEV_01_new_code_runs_and_sockets_stay_open(tmp_path):
    """DEV-01 (B): a deployment keeps every socket open and loses no message; the next ones run the new code."""
    project = write_project(tmp_path / "project", VERSIONED, prelude="")
    with (
        LocalGateway(project, workers=True, reload=True) as gateway,
        connect(gateway.url, open_timeout=SECONDS, ping_interval=None) as client,
    ):
        client.send("which?")
        assert client.recv(timeout=SECONDS) == "version 1"
        (project / "app.py").write_text(VERSIONED.replace("version 1", "version 2"))
        # Each message is answered once, by one version or the other; soon all are by the new one.
        answers = ["version 1"]
        deadline = time.monotonic() + SECONDS
        while answers[-1] == "version 1" and time.monotonic() < deadline:
            client.send("which?")
            answers.append(str(client.recv(timeout=SECONDS)))
            time.sleep(0.01)
        assert answers[-1] == "version 2"
        client.send("which?")
        assert client.recv(timeout=SECONDS) == "version 2"


@pytest.mark.usefixtures("own_engine")
def test_DEV_02_a_bare_machine_has_a_region_and_credentials(serve):
    """DEV-02 (A): without a region and without credentials in the environment, everything works."""
    probe = serve(ECHO)
    given = {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }
    assert given.items() <= probe.gateway.environment.items()
    assert given.items() <= os.environ.items()
    client = probe.joins()
    client.sends("x")
    assert client.receives() == "x"
