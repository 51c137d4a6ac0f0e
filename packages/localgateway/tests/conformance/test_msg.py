"""MSG: messages of clients, and what they hear of them."""

import json
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from gatewaykit import RECORDING, frame, handshake, read_response
from localgateway import Additions, Limits

JOIN = """
@app.lambda_function(name="join")
def join(event, context):
    events.put(event)
    return {"statusCode": 200, "body": "joined " + event["body"]}
"""


@pytest.mark.parametrize("text", ['{"action":"unknown"}', '{"no":"action"}', "no json", '{"action":"$connect"}'])
def test_MSG_01_every_message_takes_the_default_route(serve, text):
    """MSG-01 (A): what no other route takes goes to $default, word for word: JSON with or without action, or none."""
    probe = serve(RECORDING)
    client = probe.joins()
    probe.event()
    client.sends(text)
    event = probe.event()
    assert event["requestContext"]["routeKey"] == "$default"
    assert event["body"] == text


def test_MSG_03_a_route_is_chosen_by_the_action(serve):
    """MSG-03 (A): a message whose action is the key of a route takes that route."""
    probe = serve(RECORDING + JOIN, additions=Additions(routes={"join": "join"}))
    client = probe.joins()
    probe.event()
    client.sends('{"action":"join"}')
    event = probe.event()
    assert event["requestContext"]["routeKey"] == "join"
    assert event["requestContext"]["eventType"] == "MESSAGE"
    assert event["body"] == '{"action":"join"}'
    client.sends('{"action":"leave"}')
    assert probe.event()["requestContext"]["routeKey"] == "$default"


def test_MSG_04_without_a_default_route_what_no_route_takes_is_forbidden(serve):
    """MSG-04 (B): a message that no route takes is answered "Forbidden"; the socket stays open."""
    client = serve("""
    @app.on_ws_connect()
    def connect(event):
        pass
    """).joins()
    for _ in range(2):
        client.sends('{"action":"x"}')
        assert json.loads(client.receives())["message"] == "Forbidden"


def test_MSG_05_a_function_that_raises_is_an_internal_server_error(serve):
    """MSG-05 (B): a function that raises is answered "Internal server error"; the socket stays and works."""
    probe = serve("""
    @app.on_ws_message()
    def message(event):
        events.put(event.to_dict())
        if event.body == "bad":
            raise ValueError("no word of this")
        send(event.connection_id, event.body)
    """)
    client = probe.joins()
    client.sends("bad")
    context = probe.event()["requestContext"]
    answer = json.loads(client.receives())
    assert answer == {
        "message": "Internal server error",
        "connectionId": context["connectionId"],
        "requestId": context["requestId"],
    }
    client.sends("good")
    assert client.receives() == "good"


@pytest.mark.parametrize(
    "failure", ["sys.exit(3)", "return {'statusCode': 200, 'body': {1}}", "return {'statusCode': None}"]
)
def test_MSG_05_however_it_fails(serve, failure):
    """MSG-05 (B): so is one that exits, or returns what is no result."""
    client = serve(f"""
    import sys

    @app.on_ws_message()
    def message(event):
        {failure}
    """).joins()
    client.sends("x")
    assert json.loads(client.receives())["message"] == "Internal server error"


def test_MSG_05_a_function_past_its_own_timeout_too(serve):
    """MSG-05 (B): so is one that runs past its own timeout."""
    probe = serve(
        """
        @app.on_ws_message()
        def message(event):
            gate.wait(10)
        """,
        config={"lambda_timeout": 0.1},
    )
    client = probe.joins()
    client.sends("x")
    assert json.loads(client.receives())["message"] == "Internal server error"
    probe.app.gate.set()


def test_MSG_06_the_integration_timeout_does_not_stop_the_function(serve):
    """MSG-06 (B): past the integration timeout the client gets "Endpoint request timed out"; the function continues."""
    probe = serve(
        """
        @app.on_ws_message()
        def message(event):
            gate.wait(10)
            send(event.connection_id, "done at last")
        """,
        limits=Limits(integration_seconds=0.1),
    )
    client = probe.joins()
    client.sends("x")
    answer = json.loads(client.receives())
    assert list(answer) == ["message", "connectionId", "requestId"]
    assert answer["message"] == "Endpoint request timed out"
    probe.app.gate.set()
    assert client.receives() == "done at last"


def test_MSG_07_what_a_function_returns_never_reaches_the_client(serve):
    """MSG-07 (B): what a Chalice function returns never reaches the client: Chalice makes no route responses."""
    probe = serve("""
    @app.on_ws_message()
    def message(event):
        if event.body == "end":
            send(event.connection_id, "end")
        return {"statusCode": 200, "body": "x"}
    """)
    client = probe.joins()
    client.sends("one")
    client.sends("end")
    assert client.receives() == "end"


def test_MSG_08_a_route_response_carries_the_body_to_the_client(serve):
    """MSG-08 (A): on a route with a route response, the body that the function returns is sent to the client."""
    additions = Additions(routes={"join": "join"}, route_responses=["join"])
    client = serve(RECORDING + JOIN, additions=additions).joins()
    client.sends('{"action":"join"}')
    assert client.receives() == 'joined {"action":"join"}'


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_MSG_09_a_frame_over_32_kilobytes_closes_the_socket(serve, compression):
    """MSG-09 (A): a frame of more than 32,768 bytes closes the socket with 1009."""
    probe = serve(RECORDING)
    client = probe.joins(compression=compression)
    client.sends("x" * 32_769)
    assert client.is_closed_with()[0] == 1009
    probe.event()
    assert probe.event()["requestContext"]["disconnectStatusCode"] == 1009


def test_MSG_10_a_longer_message_in_short_frames_arrives_whole_and_once(serve):
    """MSG-10 (A): 100 KB in four frames arrive whole, as one event."""
    probe = serve(RECORDING)
    client = probe.joins()
    probe.event()
    parts = [letter * 25_600 for letter in "abcd"]
    client.socket.send(parts)
    assert probe.event()["body"] == "".join(parts)
    client.sends("next")
    assert probe.event()["body"] == "next"


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_MSG_11_a_message_over_128_kilobytes_closes_the_socket(serve, compression):
    """MSG-11 (A): a message of more than 131,072 bytes closes the socket with 1009 and reaches no function."""
    probe = serve(RECORDING)
    client = probe.joins(compression=compression)
    probe.event()
    client.socket.send(["x" * 32_768] * 4)
    assert len(probe.event()["body"]) == 131_072
    # The close may come before the sender is done.
    with suppress(ConnectionClosed):
        client.socket.send(["x" * 32_768] * 4 + ["x"])
    assert client.is_closed_with()[0] == 1009
    assert probe.event()["requestContext"]["eventType"] == "DISCONNECT"


def test_MSG_12_a_binary_frame_closes_the_socket_without_an_event(serve):
    """MSG-12 (A): a binary frame closes the socket with 1003 and reaches no function."""
    probe = serve(RECORDING)
    client = probe.joins()
    probe.event()
    client.socket.send(b"binary")
    assert client.is_closed_with() == (1003, "")
    context = probe.event()["requestContext"]
    assert (context["eventType"], context["disconnectStatusCode"]) == ("DISCONNECT", 1003)


def test_MSG_12_nothing_after_a_binary_frame_counts(serve):
    """MSG-12 (A): nor does anything after it."""
    probe = serve(RECORDING)
    connection = probe.raw(handshake())
    read_response(connection)
    probe.event()
    connection.sendall(frame(2, b"binary") + frame(1, b"text") + frame(1, b"text"))
    assert probe.event()["requestContext"]["eventType"] == "DISCONNECT"
    assert probe.has_no_event_within(0.05)


def test_MSG_13_an_empty_message_is_a_message(serve):
    """MSG-13 (A): an empty text message runs $default."""
    probe = serve(RECORDING)
    client = probe.joins()
    probe.event()
    client.sends("")
    assert probe.event()["body"] == ""


@pytest.mark.presumed
def test_MSG_14_a_ping_is_answered_by_the_gateway_itself(serve):
    """MSG-14 (C): a ping is answered by the gateway with its payload; no function runs."""
    probe = serve(RECORDING)
    connection = probe.raw(handshake())
    read_response(connection)
    probe.event()
    connection.sendall(frame(9, b"are you there"))
    assert connection.recv(100) == b"\x8a\x0dare you there"
    assert probe.has_no_event_within(0.05)


@pytest.mark.presumed
def test_MSG_15_messages_of_one_client_do_not_wait_for_each_other(serve):
    """MSG-15 (C): a message's function starts although that of the message before has not ended."""
    client = serve("""
    @app.on_ws_message()
    def message(event):
        if event.body == "wait":
            gate.wait(10)
        else:
            gate.set()
        send(event.connection_id, event.body)
    """).joins()
    client.sends("wait", "go")
    assert {client.receives(), client.receives()} == {"wait", "go"}


def test_MSG_16_the_error_frame_is_spaced_as_on_aws(serve):
    """MSG-16 (B): an error frame has message, connectionId, requestId in this order, spaced as AWS does."""
    probe = serve("""
    @app.on_ws_message()
    def message(event):
        events.put(event.to_dict())
        1 / 0
    """)
    client = probe.joins()
    client.sends("x")
    context = probe.event()["requestContext"]
    assert client.receives() == (
        f'{{"message": "Internal server error", "connectionId":"{context["connectionId"]}", '
        f'"requestId":"{context["requestId"]}"}}'
    )
