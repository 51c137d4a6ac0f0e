"""DIS: how connections end, and $disconnect."""

import time
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from gatewaykit import RECORDING, frame, handshake, how_it_ended, read_response, read_to_end, refusing
from localgateway import Limits


def test_DIS_01_a_close_without_a_code(serve):
    """DIS-01 (A): a close frame without a code is 1005, "Client-side close frame status not set"."""
    probe = serve(RECORDING)
    connection = probe.raw(handshake())
    read_response(connection)
    probe.event()
    connection.sendall(frame(8, b""))
    assert read_to_end(connection) == b"\x88\x00"
    assert how_it_ended(probe.event()) == ("DISCONNECT", 1005, "Client-side close frame status not set")


@pytest.mark.parametrize("code", [1001, 1000])
def test_DIS_02_a_close_with_a_code(serve, code):
    """DIS-02 (B): a close frame with a code and no text, as of a browser that leaves, is that code and ""."""
    probe = serve(RECORDING)
    client = probe.joins()
    probe.event()
    client.socket.close(code)
    assert how_it_ended(probe.event()) == ("DISCONNECT", code, "")


@pytest.mark.presumed
@pytest.mark.parametrize(("code", "reason"), [(4001, "bye ü"), (1011, "broken")])
def test_DIS_03_a_close_with_a_code_and_a_reason(serve, code, reason):
    """DIS-03 (C): a client's own code and text are those of $disconnect."""
    probe = serve(RECORDING)
    client = probe.joins()
    probe.event()
    client.socket.close(code, reason)
    assert how_it_ended(probe.event()) == ("DISCONNECT", code, reason)


def test_DIS_04_a_silent_connection_is_closed(serve):
    """DIS-04 (B): a connection without messages is closed after the idle timeout: 1001 "Going away" on both sides."""
    probe = serve(RECORDING, limits=Limits(idle_seconds=0.1))
    client = probe.joins()
    probe.event()
    assert client.is_closed_with() == (1001, "Going away")
    assert how_it_ended(probe.event()) == ("DISCONNECT", 1001, "Going away")


def test_DIS_05_messages_to_the_client_keep_it_open(serve):
    """DIS-05 (B): messages to the client keep it open."""
    probe = serve(RECORDING, limits=Limits(idle_seconds=600))
    client, connection_id = probe.joins(), probe.connection_id()
    management = probe.management()
    for _ in range(3):
        probe.advance(500)
        management.post_to_connection(ConnectionId=connection_id, Data="still here?")
        assert client.receives() == "still here?"


def test_DIS_05_messages_of_the_client_keep_it_open(serve):
    """DIS-05 (B): so do messages of the client."""
    probe = serve(RECORDING, limits=Limits(idle_seconds=600))
    client, _ = probe.joins(), probe.event()
    for _ in range(3):
        probe.advance(500)
        client.sends("still here")
        probe.event()
    assert client.socket.ping().wait(10)


def test_DIS_06_no_connection_lives_longer_than_the_limit(serve):
    """DIS-06 (B): two hours after it was opened every connection is closed, busy or not: 1001 "Going away"."""
    probe = serve(RECORDING, limits=Limits(duration_seconds=0.4))
    client = probe.joins()
    with suppress(ConnectionClosed):
        for _ in range(30):
            client.sends("busy")
            time.sleep(0.02)
    assert client.is_closed_with() == (1001, "Going away")


@pytest.mark.parametrize("failure", ["1 / 0", "gate.wait(10)"])
def test_DIS_07_a_disconnect_that_fails_affects_nobody_else(serve, failure):
    """DIS-07 (A): a $disconnect that fails or hangs affects no other connection."""
    probe = serve(
        f"""
        @app.on_ws_message()
        def message(event):
            send(event.connection_id, event.body)

        @app.on_ws_disconnect()
        def disconnect(event):
            events.put(event.to_dict())
            {failure}
        """
    )
    alice, bob = probe.joins(), probe.joins()
    alice.socket.close()
    probe.event()
    bob.sends("x")
    assert bob.receives() == "x"
    bob.socket.close()
    assert probe.event()["requestContext"]["eventType"] == "DISCONNECT"
    probe.app.gate.set()


def test_DIS_08_a_connection_is_gone_inside_its_own_disconnect(serve):
    """DIS-08 (B): inside $disconnect, sending to that connection is answered 410."""
    probe = serve("""
    from chalice import WebsocketDisconnectedError

    @app.on_ws_disconnect()
    def disconnect(event):
        try:
            send(event.connection_id, "goodbye")
        except WebsocketDisconnectedError:
            events.put("gone")
    """)
    probe.joins().socket.close()
    assert probe.app.events.get(timeout=10) == "gone"


@pytest.mark.presumed
@pytest.mark.parametrize("how", ["end of stream", "reset"])
def test_DIS_09_an_end_without_a_close_frame(serve, how):
    """DIS-09 (C): a TCP connection that ends without a close frame has one $disconnect; here at once, with 1006."""
    probe = serve(RECORDING)
    connection = probe.raw(handshake())
    read_response(connection)
    probe.event()
    if how == "reset":
        # Closing on unread bytes resets the connection.
        connection.sendall(frame(9, b"answer me"))
        time.sleep(0.05)
    connection.close()
    assert how_it_ended(probe.event()) == ("DISCONNECT", 1006, "")
    assert probe.has_no_event_within(0.1)


@pytest.mark.presumed
def test_DIS_10_a_refused_handshake_has_no_disconnect(serve):
    """DIS-10 (C): a handshake that $connect has refused has no $disconnect."""
    probe = serve(refusing("Response(body='', status_code=403)"))
    read_to_end(probe.raw(handshake()))
    assert probe.has_no_event_within(0.2)
