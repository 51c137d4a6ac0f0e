"""Messages: what the handler is told, what the client hears of it, and how large they may be."""

import json
import time

import pytest

from localgateway import Limits
from tests.localgateway.kit import ECHO, RECORDING


class TestTheEvent:
    def test_every_message_goes_to_the_default_route_as_it_is(self, serve):
        """MSG-01, EVT-13"""
        probe = serve(RECORDING)
        client = probe.joins()
        probe.event()
        for text in ('{"action":"unknown"}', '{"no":"action"}', "no json", "a\r\n\tb ü 🔔", '{"action":"$connect"}'):
            client.sends(text)
            event = probe.event()
            assert event["requestContext"]["routeKey"] == "$default"
            assert event["body"] == text
            assert event["isBase64Encoded"] is False

    def test_an_empty_message_is_a_message(self, serve):
        """MSG-13"""
        probe = serve(RECORDING)
        client = probe.joins()
        probe.event()
        client.sends("")
        assert probe.event()["body"] == ""

    def test_it_has_no_headers_and_no_query(self, serve):
        """EVT-10"""
        probe = serve(RECORDING)
        probe.joins("?a=1").sends("x")
        probe.event()
        assert set(probe.event()) == {"requestContext", "body", "isBase64Encoded"}

    def test_messages_have_ids_of_their_own_and_other_events_have_none(self, serve):
        """EVT-09"""
        probe = serve(RECORDING)
        client = probe.joins("")
        client.sends("one")
        connected, one = probe.event(), probe.event()
        client.sends("two")
        two = probe.event()
        client.socket.close()
        disconnected = probe.event()
        ids = [event["requestContext"].get("messageId") for event in (connected, one, two, disconnected)]
        assert ids[0] is ids[3] is None
        assert len({*ids[1:3]}) == 2
        assert all(len(message_id) == 16 for message_id in ids[1:3])

    def test_all_events_of_a_connection_agree_and_none_has_the_request_id_of_another(self, serve):
        """EVT-06, EVT-08"""
        probe = serve(RECORDING)
        client = probe.joins(user_agent_header="tester/1")
        connected = probe.event()["requestContext"]
        client.sends("x")
        said = probe.event()["requestContext"]
        client.socket.close()
        left = probe.event()["requestContext"]
        contexts = (connected, said, left)
        for name in ("connectionId", "connectedAt", "identity", "domainName", "stage", "apiId"):
            assert connected[name] == said[name] == left[name]
        assert [context["eventType"] for context in contexts] == ["CONNECT", "MESSAGE", "DISCONNECT"]
        assert [context["routeKey"] for context in contexts] == ["$connect", "$default", "$disconnect"]
        assert len({context["requestId"] for context in contexts}) == 3
        for context in contexts:
            assert context["requestId"] == context["extendedRequestId"]
            assert context["messageDirection"] == "IN"
            assert context["connectedAt"] <= context["requestTimeEpoch"]
            assert abs(context["requestTimeEpoch"] - time.time() * 1000) < 10_000


class TestWhatTheClientHears:
    def test_what_a_handler_returns_never_reaches_it(self, serve):
        """MSG-07"""
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

    def test_a_handler_that_raises_answers_internal_server_error_and_the_socket_stays(self, serve):
        """MSG-05, MSG-16"""
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
        assert client.receives() == (
            f'{{"message": "Internal server error", "connectionId":"{context["connectionId"]}", '
            f'"requestId":"{context["requestId"]}"}}'
        )
        client.sends("good")
        assert client.receives() == "good"

    @pytest.mark.parametrize(
        "failure", ["sys.exit(3)", "return {'statusCode': 200, 'body': {1}}", "return {'statusCode': None}"]
    )
    def test_however_it_fails(self, serve, failure):
        """MSG-05"""
        client = serve(f"""
        import sys

        @app.on_ws_message()
        def message(event):
            {failure}
        """).joins()
        client.sends("x")
        assert json.loads(client.receives())["message"] == "Internal server error"

    def test_a_function_killed_by_its_own_timeout_is_an_internal_server_error(self, serve):
        """MSG-05"""
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

    def test_the_integration_timeout_is_told_and_does_not_stop_the_handler(self, serve):
        """MSG-06"""
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

    def test_without_a_handler_every_message_is_forbidden_and_the_socket_stays(self, serve):
        """MSG-04"""
        client = serve("""
        @app.on_ws_connect()
        def connect(event):
            pass
        """).joins()
        for _ in range(2):
            client.sends('{"action":"x"}')
            assert json.loads(client.receives())["message"] == "Forbidden"

    def test_messages_of_one_client_do_not_wait_for_each_other(self, serve):
        """MSG-15"""
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

    def test_a_handler_sends_to_others_and_learns_who_is_gone(self, serve):
        """CB-15"""
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

    def test_middleware_runs_around_every_handler(self, serve):
        client = serve("""
        @app.middleware("websocket")
        def twice(event, get_response):
            get_response(event)
            return get_response(event)

        @app.on_ws_message()
        def message(event):
            send(event.connection_id, event.body)
        """).joins()
        client.sends("x")
        assert [client.receives(), client.receives()] == ["x", "x"]

    def test_a_ping_is_answered_by_the_gateway_itself(self, serve):
        """MSG-14"""
        probe = serve(RECORDING)
        client = probe.joins()
        probe.event()
        assert client.socket.ping("are you there").wait(10)
        assert probe.has_no_event_within(0.05)


def test_many_clients_talk_at_the_same_time(serve):
    probe = serve(ECHO)
    clients = [probe.joins() for _ in range(50)]
    for number, client in enumerate(clients):
        client.sends(str(number))
    assert [client.receives() for client in clients] == [str(number) for number in range(50)]
