"""CB: @connections, the callback side, as boto3 and raw HTTP see it."""

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from gatewaykit import NEVER_USED, RECORDING, SIGNED, call, handshake, how_it_ended, read_response
from localgateway import Limits


def test_CB_01_the_client_gets_the_text_and_the_caller_an_empty_200(serve):
    """CB-01 (A): POST is answered 200 with an empty body, and the client gets the data as a text frame."""
    probe = serve(RECORDING)
    alice, alice_id = probe.joins(), probe.connection_id()
    answer = probe.management().post_to_connection(ConnectionId=alice_id, Data="hello ü 🔔")
    assert alice.receives() == "hello ü 🔔"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    status, headers, body = call(probe, "POST", f"/api/@connections/{alice_id}", SIGNED, body=b"raw")
    assert (status, body) == (200, b"")
    assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-amzn-requestid"])
    assert alice.receives() == "raw"


@pytest.mark.parametrize("how", ["closed", "deleted", "never"])
@pytest.mark.parametrize("action", ["post_to_connection", "get_connection", "delete_connection"])
def test_CB_02_a_missing_connection_is_gone(serve, how, action):
    """CB-02 (B): for a connection that is closed, deleted or unknown, boto3 raises GoneException."""
    probe = serve(RECORDING)
    connection_id = NEVER_USED
    management = probe.management()
    if how != "never":
        alice, connection_id = probe.joins(), probe.connection_id()
        if how == "closed":
            alice.socket.close()
        else:
            management.delete_connection(ConnectionId=connection_id)
        probe.event()
    data = {"Data": "x"} if action == "post_to_connection" else {}
    with pytest.raises(management.exceptions.GoneException):
        getattr(management, action)(ConnectionId=connection_id, **data)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_CB_02_the_410_has_its_type_in_a_header_and_an_empty_body(serve, method):
    """CB-02 (B): its 410 has `x-amzn-ErrorType: GoneException` and an empty body."""
    probe = serve(RECORDING)
    status, headers, body = call(probe, method, f"/api/@connections/{NEVER_USED}", SIGNED)
    assert (status, headers["x-amzn-errortype"], body) == (410, "GoneException", b"")


@pytest.mark.parametrize("bad_id", ["zzz", "L0SM9cOFvHcCIhw", "L0SM9cOFvHcCIhw%253D", "L0SM9cOF+HcCIhw=", "%00"])
def test_CB_04_an_id_of_another_shape_is_a_bad_request(serve, bad_id):
    """CB-04 (B): an id of another shape is answered 400."""
    status, headers, body = call(serve(RECORDING), "POST", f"/api/@connections/{bad_id}", SIGNED)
    assert (status, headers["x-amzn-errortype"]) == (400, "BadRequestException")
    assert b"Invalid connectionId: " in body


def test_CB_04_boto3_raises_a_bad_request(serve):
    """CB-04 (B): boto3 reads it as BadRequestException, "Invalid connectionId: zzz"."""
    management = serve(RECORDING).management()
    with pytest.raises(ClientError) as refusal:
        management.post_to_connection(ConnectionId="zzz", Data="x")
    assert refusal.value.response["Error"] == {"Code": "BadRequestException", "Message": "Invalid connectionId: zzz"}


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_CB_05_128_kilobytes_arrive_whole_and_one_byte_more_is_refused(serve, compression):
    """CB-05 (A): 131,072 bytes arrive whole; one byte more is answered 413, and the socket stays open."""
    probe = serve(RECORDING)
    alice, alice_id = probe.joins(compression=compression), probe.connection_id()
    management = probe.management()
    management.post_to_connection(ConnectionId=alice_id, Data="x" * 131_072)
    assert alice.receives() == "x" * 131_072
    with pytest.raises(management.exceptions.PayloadTooLargeException) as refusal:
        management.post_to_connection(ConnectionId=alice_id, Data="x" * 131_073)
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert refusal.value.response["Error"]["Message"] == "Message is longer than 131072 bytes"
    management.post_to_connection(ConnectionId=alice_id, Data="still here")
    assert alice.receives() == "still here"


def test_CB_07_get_returns_identity_and_times(serve):
    """CB-07 (A): GET answers connectedAt, lastActiveAt (ISO 8601 with milliseconds) and identity."""
    probe = serve(RECORDING)
    probe.joins(user_agent_header="tester/1")
    context = probe.event()["requestContext"]
    path = f"/api/@connections/{context['connectionId']}"
    status, headers, body = call(probe, "GET", path, SIGNED)
    connected = datetime.fromtimestamp(context["connectedAt"] / 1000, UTC)
    moment = connected.strftime("%Y-%m-%dT%H:%M:%S.") + f"{context['connectedAt'] % 1000:03d}Z"
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert body.decode() == (
        f'{{"connectedAt":"{moment}","identity":{{"sourceIp":"127.0.0.1","userAgent":"tester/1"}},'
        f'"lastActiveAt":"{moment}"}}'
    )


def test_CB_07_a_client_without_a_user_agent_has_null(serve):
    """CB-07 (A): userAgent is null where the client has sent none."""
    probe = serve(RECORDING)
    probe.joins(user_agent_header=None)
    connection_id = probe.connection_id()
    _, _, body = call(probe, "GET", f"/api/@connections/{connection_id}", SIGNED)
    assert json.loads(body)["identity"] == {"sourceIp": "127.0.0.1", "userAgent": None}
    answer = probe.management().get_connection(ConnectionId=connection_id)
    assert answer["Identity"] == {"SourceIp": "127.0.0.1"}


def test_CB_08_the_last_activity_moves_with_messages_either_way(serve):
    """CB-08 (B): lastActiveAt moves with a message of the client's, and here with a POST too; connectedAt stays."""
    probe = serve(RECORDING)
    alice, alice_id = probe.joins(), probe.connection_id()
    management = probe.management()
    first = management.get_connection(ConnectionId=alice_id)
    time.sleep(0.01)
    alice.sends("x")
    probe.event()
    second = management.get_connection(ConnectionId=alice_id)
    time.sleep(0.01)
    management.post_to_connection(ConnectionId=alice_id, Data="y")
    third = management.get_connection(ConnectionId=alice_id)
    assert first["ConnectedAt"] == second["ConnectedAt"] == third["ConnectedAt"]
    assert first["LastActiveAt"] < second["LastActiveAt"] < third["LastActiveAt"]
    assert datetime.now(UTC) - third["LastActiveAt"] < timedelta(seconds=10)


def test_CB_09_delete_closes_normally_and_runs_disconnect(serve):
    """CB-09 (B): DELETE is answered 204; the client sees 1000, and $disconnect 1000 "Connection Closed Normally"."""
    probe = serve(RECORDING)
    alice, alice_id = probe.joins(), probe.connection_id()
    answer = probe.management().delete_connection(ConnectionId=alice_id)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert alice.is_closed_with() == (1000, "Connection Closed Normally")
    assert how_it_ended(probe.event()) == ("DISCONNECT", 1000, "Connection Closed Normally")
    assert probe.has_no_event_within(0.1)


@pytest.mark.parametrize("at", ["@", "%40"])
@pytest.mark.parametrize("equals", ["=", "%3D", "%3d"])
def test_CB_11_at_and_equals_may_be_encoded(serve, at, equals):
    """CB-11 (A): `@` and `=` in the path may be percent-encoded."""
    probe = serve(RECORDING)
    alice = probe.joins()
    path = f"/api/{at}connections/{probe.connection_id().replace('=', equals)}"
    assert call(probe, "POST", path, SIGNED, body=b"x")[0] == 200
    assert alice.receives() == "x"


@pytest.mark.parametrize("prefix", ["", "/prod", "/API"])
def test_CB_12_a_missing_or_wrong_stage_is_forbidden(serve, prefix):
    """CB-12 (B): without the stage in the path, or with a wrong one, the answer is 403 `{"message":"Forbidden"}`."""
    probe = serve(RECORDING)
    probe.joins()
    connection_id = probe.connection_id()
    status, _, body = call(probe, "POST", f"{prefix}/@connections/{connection_id}", SIGNED)
    assert (status, body) == (403, b'{"message":"Forbidden"}')
    management = probe.management(probe.gateway.management_endpoint.removesuffix("/api") + prefix)
    with pytest.raises(management.exceptions.ForbiddenException):
        management.post_to_connection(ConnectionId=connection_id, Data="x")


@pytest.mark.parametrize("headers", [[], ["Authorization: Bearer x"]])
def test_CB_13_an_unsigned_call_is_refused(serve, headers):
    """CB-13 (A): a call without a SigV4 signature is answered 403."""
    probe = serve(RECORDING)
    probe.joins()
    path = f"/api/@connections/{quote(probe.connection_id())}"
    status, _, body = call(probe, "POST", path, *headers, body=b"x")
    assert (status, body) == (403, b'{"message":"Missing Authentication Token"}')


def test_CB_14_a_client_that_does_not_read_delays_only_its_sender(serve):
    """CB-14 (A): once a client's buffer is full, POST is answered 429 (LimitExceededException); others get theirs."""
    probe = serve(RECORDING, limits=Limits(write_buffer_bytes=100_000))
    slow = probe.raw(handshake())
    read_response(slow)
    slow_id = probe.connection_id()
    bob, bob_id = probe.joins(), probe.connection_id()
    management = probe.management()

    def flood():
        # The operating system's own buffers come first.
        for _ in range(1_000):
            management.post_to_connection(ConnectionId=slow_id, Data="x" * 100_000)

    with pytest.raises(management.exceptions.LimitExceededException):
        flood()
    management.post_to_connection(ConnectionId=bob_id, Data="fine")
    assert bob.receives() == "fine"
    while True:
        slow.recv(10_000_000)
        try:
            management.post_to_connection(ConnectionId=slow_id, Data="again")
        except management.exceptions.LimitExceededException:
            continue
        break


def test_CB_15_a_function_sends_to_others_and_sees_a_410(serve):
    """CB-15 (A): `app.websocket_api.send` reaches any client; for one that is gone, Chalice raises
    WebsocketDisconnectedError.
    """
    probe = serve("""
    from chalice import WebsocketDisconnectedError

    @app.on_ws_connect()
    def connect(event):
        events.put(event.to_dict())

    @app.on_ws_message()
    def message(event):
        for connection_id in event.json_body:
            try:
                send(connection_id, "hello")
            except WebsocketDisconnectedError as gone:
                send(event.connection_id, f"gone: {gone.connection_id}")
    """)
    alice, alice_id = probe.joins(), probe.connection_id()
    bob, bob_id = probe.joins(), probe.connection_id()
    carol, carol_id = probe.joins(), probe.connection_id()
    carol.socket.close()
    alice.sends(json.dumps([carol_id, bob_id, alice_id]))
    assert alice.receives() == f"gone: {carol_id}"
    assert alice.receives() == "hello"
    assert bob.receives() == "hello"


@pytest.mark.slow
def test_CB_16_another_process_can_do_it(serve):
    """CB-16 (A): any process with an AWS SDK can send."""
    probe = serve(RECORDING)
    alice, alice_id = probe.joins(), probe.connection_id()
    program = (
        "import boto3, sys; "
        "boto3.client('apigatewaymanagementapi', endpoint_url=sys.argv[1])"
        ".post_to_connection(ConnectionId=sys.argv[2], Data='from elsewhere')"
    )
    arguments = [sys.executable, "-c", program, probe.gateway.management_endpoint, alice_id]
    subprocess.run(arguments, env={**os.environ, **probe.gateway.environment}, check=True, timeout=30)
    assert alice.receives() == "from elsewhere"
