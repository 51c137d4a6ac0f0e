"""$connect: which clients are admitted, what the handler gets, and what a refused client sees."""

import json
import re
import time

import pytest

from gatewaykit import RECORDING, frame, handshake, read_response, refusing
from localgateway import Limits


class TestTheVerdict:
    def test_the_refusal_has_the_gateways_body_and_not_the_handlers(self, serve):
        probe = serve(refusing('Response(body="secret", status_code=403, headers={"X-Other": "1"})'))
        status, headers, body = read_response(probe.raw(handshake()))
        answer = json.loads(body)
        assert (status, list(answer), answer["message"]) == (403, ["message", "connectionId", "requestId"], "Forbidden")
        assert headers["content-type"] == "application/json"
        assert headers["connection"] == "close"
        assert "x-other" not in headers

    @pytest.mark.parametrize("status", [200, 201, 204])
    def test_every_2xx_admits_the_client(self, serve, status):
        probe = serve(refusing(f'Response(body="", status_code={status})'))
        probe.joins()

    @pytest.mark.parametrize(
        "result",
        [
            '{"statusCode": "soon"}',
            '{"statusCode": 99}',
            '{"statusCode": 101}',
            '{"statusCode": 200, "body": {1, 2}}',
            '{"statusCode": 200, "headers": ["Sec-WebSocket-Protocol"]}',
            r'{"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "a\r\nX-Injected: 1"}}',
        ],
    )
    def test_an_invalid_result_refuses_with_502(self, serve, result):
        probe = serve(refusing(result))
        status, headers, _ = read_response(probe.raw(handshake()))
        assert status == 502
        assert "x-injected" not in headers

    def test_a_function_past_its_own_timeout_refuses_with_502(self, serve):
        probe = serve(refusing("gate.wait(10)"), config={"lambda_timeout": 0.1})
        status, _, _ = read_response(probe.raw(handshake()))
        probe.app.gate.set()
        assert status == 502


class TestTheEvent:
    def test_every_event_says_where_the_gateway_is(self, serve):
        probe = serve(RECORDING)
        client = probe.joins()
        client.sends("x")
        events = [probe.event(), probe.event()]
        client.socket.close()
        events.append(probe.event())
        for event in events:
            context = event["requestContext"]
            assert context["domainName"] == "{}:{}".format(*probe.address)
            assert context["stage"] == "api"
            assert re.fullmatch(r"[a-z0-9]{10}", context["apiId"])
        assert len({event["requestContext"]["connectionId"] for event in events}) == 1

    def test_chalice_reads_a_missing_body_as_it_does_on_aws(self, serve):
        probe = serve("""
        @app.on_ws_connect()
        def connect(event):
            events.put({"body": event.body, "id": event.connection_id})
        """)
        probe.joins()
        assert probe.event()["body"] == "None"


class TestWhereClientsConnect:
    def test_the_stage_has_the_name_the_project_gives_it(self, serve):
        probe = serve(RECORDING, config={"api_gateway_stage": "v2"})
        assert probe.gateway.url.endswith("/v2")
        probe.joins()
        assert probe.event()["requestContext"]["stage"] == "v2"

    @pytest.mark.parametrize(
        "request_bytes",
        [
            handshake().replace(b"Version: 13", b"Version: 8"),
            handshake().replace(b"x3JJHMbDL1EzLkh9GBhXDw==", b"short"),
            handshake().replace(b"HTTP/1.1", b"HTTP/1.0"),
            handshake().replace(b"GET", b"POST"),
            handshake("/api", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
            handshake("/api", 'Sec-WebSocket-Extensions: "'),
        ],
        ids=["version", "key", "http", "method", "two keys", "extension"],
    )
    def test_a_malformed_handshake_is_refused_with_400_without_a_handler(self, serve, request_bytes):
        probe = serve(RECORDING)
        status, _, _ = read_response(probe.raw(request_bytes))
        assert status == 400
        assert probe.has_no_event_within(0.1)


class TestBeforeTheConnectionIsOpen:
    def test_what_a_client_sends_ahead_is_kept_for_after(self, serve):
        probe = serve("""
        @app.on_ws_connect()
        def connect(event):
            time.sleep(0.1)

        @app.on_ws_message()
        def message(event):
            events.put(event.to_dict())
        """)
        connection = probe.raw(handshake() + frame(1, b"first"))
        connection.sendall(frame(1, b"second"))
        assert {probe.event()["body"], probe.event()["body"]} == {"first", "second"}

    def test_a_client_that_sends_too_much_ahead_waits_and_loses_nothing(self, serve):
        probe = serve(
            """
            @app.on_ws_connect()
            def connect(event):
                gate.wait(10)

            @app.on_ws_message()
            def message(event):
                events.put(event.to_dict())
            """,
            limits=Limits(early_bytes=10),
        )
        connection = probe.raw(handshake())
        for number in range(20):
            connection.sendall(frame(1, b"message %02d" % number))
            time.sleep(0.005)
        probe.app.gate.set()
        assert {probe.event()["body"] for _ in range(20)} == {f"message {number:02d}" for number in range(20)}
