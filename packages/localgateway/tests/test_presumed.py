"""Where `conformance` only presumes what AWS does (--presumed), the gateway is safe in any case."""

import time

import pytest

from gatewaykit import ECHO, RECORDING, frame, handshake, is_alive, read_response, refusing
from localgateway import Limits


@pytest.mark.parametrize("path", ["/", "/other", "/api/more", "/api//", "/API"])
def test_another_path_is_refused_without_a_function(serve, path):
    probe = serve(RECORDING)
    assert 400 <= read_response(probe.raw(handshake(path)))[0] < 500
    assert probe.has_no_event_within(0.05)


def test_a_connect_that_takes_too_long_refuses_the_client(serve):
    probe = serve(refusing("gate.wait(10)"), limits=Limits(integration_seconds=0.1))
    assert read_response(probe.raw(handshake()))[0] >= 500
    probe.app.gate.set()
    assert probe.has_no_event_within(0.1)


def test_a_client_that_leaves_during_connect_leaves_nothing_behind(serve):
    probe = serve(
        """
        from chalice import WebsocketDisconnectedError

        @app.on_ws_connect()
        def connect(event):
            events.put(event.to_dict())
            gate.wait(10)

        @app.on_ws_message()
        def message(event):
            try:
                send(event.body, "anybody?")
            except WebsocketDisconnectedError:
                send(event.connection_id, "gone")
        """
    )
    connection = probe.raw(handshake())
    connection_id = probe.connection_id()
    connection.close()
    time.sleep(0.1)
    probe.app.gate.set()
    other = probe.joins()
    other.sends(connection_id)
    assert other.receives() == "gone"


@pytest.mark.parametrize("ending", [b"", frame(8, b"\x0f\xa1bye \xc3\xbc"), frame(8, b"\x03\xf3"), frame(9, b"x")])
def test_however_a_client_ends_there_is_one_disconnect_at_most(serve, ending):
    probe = serve(ECHO + "\n@app.on_ws_disconnect()\ndef disconnect(event):\n    events.put(event.to_dict())\n")
    connection = probe.raw(handshake())
    read_response(connection)
    connection.sendall(ending)
    time.sleep(0.05)
    connection.close()
    assert probe.event()["requestContext"]["eventType"] == "DISCONNECT"
    assert probe.has_no_event_within(0.1)
    assert is_alive(probe)
