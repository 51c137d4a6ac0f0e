"""$connect: who comes in, what the handler is told, and what a refused client sees."""

import json
import threading
import time

import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from localgateway import Limits
from tests.localgateway.kit import ECHO, RECORDING, frame, handshake, read_response, read_to_end


def refusing(response: str) -> str:
    return f"""
    @app.on_ws_connect()
    def connect(event):
        return {response}

    @app.on_ws_disconnect()
    def disconnect(event):
        events.put(event.to_dict())
    """


class TestTheVerdict:
    def test_the_upgrade_waits_for_the_handler(self, serve):
        """CONN-01"""
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
    def test_any_status_but_2xx_refuses_with_that_status(self, serve, status):
        """CONN-02"""
        probe = serve(refusing(f'Response(body="no", status_code={status})'))
        with pytest.raises(InvalidStatus) as refusal:
            probe.joins()
        assert refusal.value.response.status_code == status

    def test_the_refusal_has_the_gateways_body_and_not_the_handlers(self, serve):
        probe = serve(refusing('Response(body="secret", status_code=403, headers={"X-Other": "1"})'))
        status, headers, body = read_response(probe.raw(handshake()))
        answer = json.loads(body)
        assert (status, list(answer), answer["message"]) == (403, ["message", "connectionId", "requestId"], "Forbidden")
        assert headers["content-type"] == "application/json"
        assert headers["connection"] == "close"
        assert "x-other" not in headers

    @pytest.mark.parametrize("status", [200, 201, 204])
    def test_every_2xx_lets_in(self, serve, status):
        probe = serve(refusing(f'Response(body="", status_code={status})'))
        probe.joins()

    def test_a_handler_that_raises_refuses_with_502(self, serve):
        """CONN-04"""
        probe = serve(refusing("1 / 0"))
        status, _, body = read_response(probe.raw(handshake()))
        assert (status, json.loads(body)["message"]) == (502, "Internal server error")

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
    def test_a_result_that_means_nothing_refuses_with_502(self, serve, result):
        probe = serve(refusing(result))
        status, headers, _ = read_response(probe.raw(handshake()))
        assert status == 502
        assert "x-injected" not in headers

    def test_a_plain_lambda_handler_must_return_a_status(self, serve):
        """CONN-05"""
        probe = serve(RECORDING + "\n\ndef connect(event, context):\n    return {'body': 'no status'}\n")
        assert read_response(probe.raw(handshake()))[0] == 502

    def test_a_handler_past_the_integration_timeout_refuses_with_504(self, serve):
        """CONN-15"""
        probe = serve(refusing("gate.wait(10)"), limits=Limits(integration_seconds=0.1))
        status, _, body = read_response(probe.raw(handshake()))
        probe.app.gate.set()
        assert (status, json.loads(body)["message"]) == (504, "Endpoint request timed out")

    def test_a_function_past_its_own_timeout_refuses_with_502(self, serve):
        probe = serve(refusing("gate.wait(10)"), config={"lambda_timeout": 0.1})
        status, _, _ = read_response(probe.raw(handshake()))
        probe.app.gate.set()
        assert status == 502

    def test_without_a_handler_everyone_comes_in(self, serve):
        """CONN-06"""
        client = serve(ECHO).joins()
        client.sends("hello")
        assert client.receives() == "hello"

    def test_a_refused_handshake_has_no_disconnect(self, serve):
        """DIS-10"""
        probe = serve(refusing("Response(body='', status_code=403)"))
        read_to_end(probe.raw(handshake()))
        assert probe.has_no_event_within(0.2)


class TestSubprotocols:
    def test_an_offer_alone_is_not_answered(self, serve):
        """CONN-07"""
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
    def test_the_handler_chooses_one(self, serve, result):
        """CONN-08"""
        client = serve(refusing(result)).joins(subprotocols=[Subprotocol("a"), Subprotocol("b")])
        assert client.socket.subprotocol == "b"

    def test_no_other_header_and_no_body_reaches_the_client(self, serve):
        """CONN-09"""
        probe = serve(refusing('Response(body="hello", headers={"X-Other": "1", "Set-Cookie": "a=b"})'))
        connection = probe.raw(handshake())
        status, headers, body = read_response(connection)
        assert status == 101
        assert set(headers) == {"date", "connection", "upgrade", "sec-websocket-accept"}
        connection.sendall(frame(0x9, b"still here?"))
        assert body + connection.recv(100) == b"\x8a\x0bstill here?"


class TestWhereClientsConnect:
    @pytest.mark.parametrize("suffix", ["", "/", "?userId=u_1", "/?userId=u_1"])
    def test_the_stage_with_and_without_a_slash(self, serve, suffix):
        """CONN-12"""
        serve(RECORDING).joins(suffix)

    def test_the_stage_has_the_name_the_project_gives_it(self, serve):
        probe = serve(RECORDING, config={"api_gateway_stage": "v2"})
        assert probe.gateway.url.endswith("/v2")
        probe.joins()
        assert probe.event()["requestContext"]["stage"] == "v2"

    @pytest.mark.parametrize("path", ["/", "/other", "/api/more", "/api//", "/API"])
    def test_anywhere_else_is_forbidden(self, serve, path):
        """CONN-10, CONN-11"""
        probe = serve(RECORDING)
        status, _, body = read_response(probe.raw(handshake(path)))
        assert (status, body) == (403, b'{"message":"Forbidden"}')

    def test_a_request_that_is_no_upgrade_is_asked_to_upgrade(self, serve):
        """CONN-13"""
        connection = serve(RECORDING).raw(b"GET /api HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, headers, _ = read_response(connection)
        assert (status, headers["upgrade"]) == (426, "websocket")

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
    def test_a_handshake_with_a_mistake_is_refused_with_400_and_asks_no_handler(self, serve, request_bytes):
        probe = serve(RECORDING)
        status, _, _ = read_response(probe.raw(request_bytes))
        assert status == 400
        assert probe.has_no_event_within(0.1)


class TestBeforeTheConnectionIsOpen:
    def test_sending_to_it_finds_nobody(self, serve):
        """CONN-14"""
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

    def test_a_client_that_leaves_was_never_there(self, serve):
        """CONN-17"""
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
