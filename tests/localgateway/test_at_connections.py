"""@connections: what another process can do with a socket, and what it is told when it cannot."""

import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from localgateway import Limits
from tests.localgateway.kit import NEVER_USED, RECORDING, SIGNED, handshake, read_response, read_to_end


def call(probe, method, path, *headers, body=b""):
    """Send one request as it stands and return what comes back."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers, "", ""]
    return read_response(probe.raw("\r\n".join(lines).encode() + body))


class TestPost:
    def test_the_client_gets_the_text_and_the_caller_an_empty_200(self, serve):
        """CB-01"""
        probe = serve(RECORDING)
        alice, alice_id = probe.joins(), probe.connection_id()
        answer = probe.management().post_to_connection(ConnectionId=alice_id, Data="hello ü 🔔")
        assert alice.receives() == "hello ü 🔔"
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        status, headers, body = call(probe, "POST", f"/api/@connections/{alice_id}", SIGNED, body=b"raw")
        assert (status, body) == (200, b"")
        assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-amzn-requestid"])
        assert alice.receives() == "raw"

    def test_an_empty_post_is_an_empty_message(self, serve):
        probe = serve(RECORDING)
        alice = probe.joins()
        probe.management().post_to_connection(ConnectionId=probe.connection_id(), Data=b"")
        assert alice.receives() == ""

    def test_posts_arrive_in_the_order_they_were_made(self, serve):
        probe = serve(RECORDING)
        alice, alice_id = probe.joins(), probe.connection_id()
        management = probe.management()
        for number in range(50):
            management.post_to_connection(ConnectionId=alice_id, Data=str(number))
        assert [alice.receives() for _ in range(50)] == [str(number) for number in range(50)]

    @pytest.mark.parametrize("compression", [None, "deflate"])
    def test_128_kilobytes_arrive_whole_and_one_byte_more_is_refused(self, serve, compression):
        """CB-05"""
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

    def test_a_long_message_goes_in_frames_of_32_kilobytes(self, serve):
        probe = serve(RECORDING)
        connection = probe.raw(handshake())
        read_response(connection)
        probe.management().post_to_connection(ConnectionId=probe.connection_id(), Data="x" * 70_000)
        received = connection.makefile("rb")
        frames = []
        while not frames or not frames[-1][0] & 0x80:
            first, length = received.read(2)
            size = int.from_bytes(received.read(2)) if length == 126 else length
            frames.append((first, len(received.read(size))))
        received.close()
        assert frames == [(0x01, 32_768), (0x00, 32_768), (0x80, 4_464)]

    def test_what_is_not_utf_8_arrives_with_replacement_characters(self, serve):
        probe = serve(RECORDING)
        alice = probe.joins()
        probe.management().post_to_connection(ConnectionId=probe.connection_id(), Data=b"a\xffb")
        assert alice.receives() == "a�b"

    def test_another_process_can_do_it(self, serve):
        """CB-16"""
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


class TestGet:
    def test_it_says_who_and_since_when(self, serve):
        """CB-07"""
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

    def test_a_client_without_a_user_agent_has_none(self, serve):
        """CB-07"""
        probe = serve(RECORDING)
        probe.joins(user_agent_header=None)
        answer = probe.management().get_connection(ConnectionId=probe.connection_id())
        assert answer["Identity"] == {"SourceIp": "127.0.0.1"}

    def test_the_last_activity_moves_with_messages_either_way_and_the_connect_time_does_not(self, serve):
        """CB-08"""
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


class TestDelete:
    def test_the_client_sees_a_normal_close_and_the_disconnect_handler_too(self, serve):
        """CB-09"""
        probe = serve(RECORDING)
        alice, alice_id = probe.joins(), probe.connection_id()
        answer = probe.management().delete_connection(ConnectionId=alice_id)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert alice.is_closed_with() == (1000, "Connection Closed Normally")
        context = probe.event()["requestContext"]
        assert (context["disconnectStatusCode"], context["disconnectReason"]) == (1000, "Connection Closed Normally")
        assert probe.has_no_event_within(0.1)

    def test_a_client_that_does_not_answer_the_close_is_cut_off(self, serve):
        probe = serve(RECORDING, limits=Limits(close_seconds=0.1))
        connection = probe.raw(handshake())
        read_response(connection)
        probe.management().delete_connection(ConnectionId=probe.connection_id())
        assert connection.recv(100)[:1] == b"\x88"
        assert read_to_end(connection) == b""


class TestGone:
    @pytest.mark.parametrize("how", ["closed", "deleted", "never"])
    @pytest.mark.parametrize("action", ["post_to_connection", "get_connection", "delete_connection"])
    def test_a_connection_that_is_not_there_is_gone(self, serve, how, action):
        """CB-02"""
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
    def test_the_410_has_its_type_in_a_header_and_an_empty_body(self, serve, method):
        """CB-02"""
        probe = serve(RECORDING)
        status, headers, body = call(probe, method, f"/api/@connections/{NEVER_USED}", SIGNED)
        assert (status, headers["x-amzn-errortype"], body) == (410, "GoneException", b"")

    def test_it_is_gone_inside_its_own_disconnect(self, serve):
        """DIS-08"""
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


class TestRefusals:
    @pytest.mark.parametrize("bad_id", ["zzz", "L0SM9cOFvHcCIhw", "L0SM9cOFvHcCIhw%253D", "L0SM9cOF+HcCIhw=", "%00"])
    def test_an_id_of_another_shape_is_a_bad_request(self, serve, bad_id):
        """CB-04"""
        probe = serve(RECORDING)
        status, headers, body = call(probe, "POST", f"/api/@connections/{bad_id}", SIGNED)
        assert (status, headers["x-amzn-errortype"]) == (400, "BadRequestException")
        assert b"Invalid connectionId: " in body

    def test_boto3_reads_it_so(self, serve):
        """CB-04"""
        management = serve(RECORDING).management()
        with pytest.raises(ClientError) as refusal:
            management.post_to_connection(ConnectionId="zzz", Data="x")
        assert refusal.value.response["Error"] == {
            "Code": "BadRequestException",
            "Message": "Invalid connectionId: zzz",
        }

    @pytest.mark.parametrize("at", ["@", "%40"])
    @pytest.mark.parametrize("equals", ["=", "%3D", "%3d"])
    def test_at_and_equals_may_be_encoded(self, serve, at, equals):
        """CB-11"""
        probe = serve(RECORDING)
        alice = probe.joins()
        path = f"/api/{at}connections/{probe.connection_id().replace('=', equals)}"
        assert call(probe, "POST", path, SIGNED, body=b"x")[0] == 200
        assert alice.receives() == "x"

    @pytest.mark.parametrize("prefix", ["", "/prod", "/API"])
    def test_a_missing_or_wrong_stage_is_forbidden(self, serve, prefix):
        """CB-12"""
        probe = serve(RECORDING)
        probe.joins()
        connection_id = probe.connection_id()
        status, _, body = call(probe, "POST", f"{prefix}/@connections/{connection_id}", SIGNED)
        assert (status, body) == (403, b'{"message":"Forbidden"}')
        management = probe.management(probe.gateway.management_endpoint.removesuffix("/api") + prefix)
        with pytest.raises(management.exceptions.ForbiddenException):
            management.post_to_connection(ConnectionId=connection_id, Data="x")

    @pytest.mark.parametrize("headers", [[], ["Authorization: Bearer x"]])
    def test_an_unsigned_call_is_refused(self, serve, headers):
        """CB-13"""
        probe = serve(RECORDING)
        probe.joins()
        path = f"/api/@connections/{quote(probe.connection_id())}"
        status, _, body = call(probe, "POST", path, *headers, body=b"x")
        assert (status, body) == (403, b'{"message":"Missing Authentication Token"}')

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS"])
    def test_other_methods_are_refused(self, serve, method):
        probe = serve(RECORDING)
        assert call(probe, method, f"/api/@connections/{NEVER_USED}", SIGNED)[0] == 403

    def test_a_client_that_does_not_read_makes_its_sender_wait_and_nobody_else(self, serve):
        """CB-14"""
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
