"""Messages: what the handler gets, what the client gets back, and how large they may be."""

import pytest

from gatewaykit import ECHO


class TestWhatTheClientHears:
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


@pytest.mark.slow
def test_many_clients_talk_at_the_same_time(serve):
    probe = serve(ECHO)
    clients = [probe.joins() for _ in range(50)]
    for number, client in enumerate(clients):
        client.sends(str(number))
    assert [client.receives() for client in clients] == [str(number) for number in range(50)]
