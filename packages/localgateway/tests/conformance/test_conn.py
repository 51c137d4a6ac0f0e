"""CONN: the handshake and $connect."""

import json
import re
import threading
import time

import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gatewaykit import ECHO, RECORDING, frame, handshake, read_response, refusing
from localgateway import Limits


def test_CONN_01_the_upgrade_waits_for_the_function(serve):
    """CONN-01 (A): the 101 comes once $connect has returned 200, not before."""
    probe = serve("""
    @app.on_ws_connect()
    def connect(event):
        events.put("asked")
        gate.wait(10)
    """)
    connection = probe.raw(handshake())
    assert probe.app.events.get(timeout=10) == "asked"
    connection.settimeout(0.1)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    probe.app.gate.set()
    connection.settimeout(10)
    status, headers, _ = read_response(connection)
    assert status == 101
    assert headers["sec-websocket-accept"] == "HSmrc0sMlYUkAGmm5OPpG2HaGWk="


@pytest.mark.parametrize("status", [400, 403, 401, 500, 302])
def test_CONN_02_any_status_but_2xx_refuses_with_that_status(serve, status):
    """CONN-02 (A): a status other than 2xx from $connect is the status of the refused handshake."""
    probe = serve(refusing(f'Response(body="no", status_code={status})'))
    with pytest.raises(InvalidStatus) as refusal:
        probe.joins()
    assert refusal.value.response.status_code == status


def test_CONN_04_a_function_that_raises_refuses_with_502(serve):
    """CONN-04 (B): $connect raises: the handshake is refused with 502."""
    probe = serve(refusing("1 / 0"))
    status, _, body = read_response(probe.raw(handshake()))
    assert (status, json.loads(body)["message"]) == (502, "Internal server error")


@pytest.mark.presumed
def test_CONN_05_a_result_without_a_status_refuses_with_502(serve):
    """CONN-05 (C): a result of $connect without statusCode refuses with 502. (Chalice adds 200 by itself.)"""
    probe = serve(RECORDING + "\n\ndef connect(event, context):\n    return {'body': 'no status'}\n")
    assert read_response(probe.raw(handshake()))[0] == 502


def test_CONN_06_without_a_connect_route_everyone_is_admitted(serve):
    """CONN-06 (A): without a $connect route every client is admitted, and messages work."""
    client = serve(ECHO).joins()
    client.sends("hello")
    assert client.receives() == "hello"


def test_CONN_07_an_offered_subprotocol_alone_is_not_answered(serve):
    """CONN-07 (B): a subprotocol that only the client offers is not in the 101; $connect sees the offer."""
    probe = serve(RECORDING)
    status, headers, _ = read_response(probe.raw(handshake("/api", "Sec-WebSocket-Protocol: chat.v1")))
    assert status == 101
    assert "sec-websocket-protocol" not in headers
    assert probe.event()["headers"]["Sec-WebSocket-Protocol"] == "chat.v1"


@pytest.mark.parametrize(
    "result",
    [
        'Response(body="", headers={"Sec-WebSocket-Protocol": "b"})',
        'Response(body="", headers={"sec-websocket-protocol": "b"})',
        'Response(body="", headers={"Sec-WebSocket-Protocol": ["b"]})',
        '{"statusCode": 200, "multiValueHeaders": {"SEC-WEBSOCKET-PROTOCOL": ["b"]}}',
    ],
)
def test_CONN_08_the_function_chooses_the_subprotocol(serve, result):
    """CONN-08 (A): the Sec-WebSocket-Protocol header of $connect's result is in the 101."""
    client = serve(refusing(result)).joins(subprotocols=[Subprotocol("a"), Subprotocol("b")])
    assert client.socket.subprotocol == "b"


def test_CONN_09_no_other_header_and_no_body_reaches_the_client(serve):
    """CONN-09 (B): nothing else of $connect's result reaches the client: no other header, no body."""
    probe = serve(refusing('Response(body="hello", headers={"X-Other": "1", "Set-Cookie": "a=b"})'))
    connection = probe.raw(handshake())
    status, headers, body = read_response(connection)
    assert status == 101
    assert set(headers) == {"date", "connection", "upgrade", "sec-websocket-accept"}
    connection.sendall(frame(0x9, b"still here?"))
    assert body + connection.recv(100) == b"\x8a\x0bstill here?"


@pytest.mark.presumed
@pytest.mark.parametrize("path", ["/other", "/api/more", "/api//", "/API"])
def test_CONN_10_another_stage_is_forbidden(serve, path):
    """CONN-10 (C): a handshake to another stage or path is refused with 403."""
    status, _, body = read_response(serve(RECORDING).raw(handshake(path)))
    assert (status, body) == (403, b'{"message":"Forbidden"}')


@pytest.mark.presumed
def test_CONN_11_no_stage_is_forbidden(serve):
    """CONN-11 (C): a handshake without a stage in its URL is refused with 403."""
    assert read_response(serve(RECORDING).raw(handshake("/")))[0] == 403


@pytest.mark.parametrize("suffix", ["", "/", "?userId=u_1", "/?userId=u_1"])
def test_CONN_12_the_stage_with_and_without_a_slash(serve, suffix):
    """CONN-12 (B): clients connect to the stage, with a slash at its end or without."""
    serve(RECORDING).joins(suffix)


def test_CONN_13_a_request_that_is_no_upgrade_is_asked_to_upgrade(serve):
    """CONN-13 (B): a plain GET of the stage is answered 426."""
    connection = serve(RECORDING).raw(b"GET /api HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, headers, _ = read_response(connection)
    assert (status, headers["upgrade"]) == (426, "websocket")


def test_CONN_14_sending_before_the_connection_is_open_is_gone(serve):
    """CONN-14 (A): while $connect runs, @connections answers 410 about its id."""
    probe = serve("""
    @app.on_ws_connect()
    def connect(event):
        events.put(event.to_dict())
        gate.wait(10)
    """)
    opening = threading.Thread(target=probe.joins)
    opening.start()
    connection_id = probe.connection_id()
    for call in ("get_connection", "delete_connection"):
        with pytest.raises(ClientError, match="GoneException"):
            getattr(probe.management(), call)(ConnectionId=connection_id)
    with pytest.raises(ClientError, match="GoneException"):
        probe.management().post_to_connection(ConnectionId=connection_id, Data="too early")
    probe.app.gate.set()
    opening.join()
    probe.management().post_to_connection(ConnectionId=connection_id, Data="now")


@pytest.mark.presumed
def test_CONN_15_a_function_past_the_integration_timeout_refuses_with_504(serve):
    """CONN-15 (C): $connect runs past the integration timeout: the handshake is refused with 504."""
    probe = serve(refusing("gate.wait(10)"), limits=Limits(integration_seconds=0.1))
    status, _, body = read_response(probe.raw(handshake()))
    probe.app.gate.set()
    assert (status, json.loads(body)["message"]) == (504, "Endpoint request timed out")


def test_CONN_16_connection_ids_are_unique_and_of_the_real_shape(serve):
    """CONN-16 (B): connection ids are unique: 15 base64url characters and `=`."""
    probe = serve(RECORDING)
    probe.joins()
    probe.joins()
    ids = {probe.connection_id(), probe.connection_id()}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{15}=", connection_id) for connection_id in ids)


@pytest.mark.presumed
def test_CONN_17_a_client_that_leaves_during_connect_was_never_there(serve):
    """CONN-17 (C): a client that leaves while $connect runs is not registered: 410, and no $disconnect."""
    probe = serve("""
    @app.on_ws_connect()
    def connect(event):
        events.put(event.to_dict())
        gate.wait(10)
        events.put(event.to_dict())

    @app.on_ws_disconnect()
    def disconnect(event):
        events.put(event.to_dict())
    """)
    connection = probe.raw(handshake())
    connection_id = probe.connection_id()
    connection.close()
    # The gateway hears of it within a turn of its loop.
    time.sleep(0.1)
    probe.app.gate.set()
    assert probe.connection_id() == connection_id
    with pytest.raises(ClientError, match="GoneException"):
        probe.management().get_connection(ConnectionId=connection_id)
    assert probe.has_no_event_within(0.1)


def test_CONN_18_a_compressed_echo_survives(serve):
    """CONN-18 (B): permessage-deflate is accepted where a client offers it."""
    client = serve(ECHO).joins()
    assert "permessage-deflate" in client.socket.response.headers["Sec-WebSocket-Extensions"]
    for text in ("abc" * 10_000, "x", "", "abc" * 10_000):
        client.sends(text)
        assert client.receives() == text
