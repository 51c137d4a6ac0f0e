"""The $connect event: what of the handshake reaches the handler, and what does not."""

import re

from tests.localgateway.kit import RECORDING, handshake


class TestTheEvent:
    def test_without_a_query_there_is_no_key_for_it(self, serve):
        """EVT-01"""
        probe = serve(RECORDING)
        probe.joins()
        assert not {"queryStringParameters", "multiValueQueryStringParameters"} & set(probe.event())

    def test_a_query_is_there_once_by_its_last_and_once_by_all_values(self, serve):
        """EVT-02"""
        probe = serve(RECORDING)
        probe.joins("?a=1&b=2&a=3&empty=&text=%C3%BC+x")
        event = probe.event()
        assert event["queryStringParameters"] == {"a": "3", "b": "2", "empty": "", "text": "ü x"}
        assert event["multiValueQueryStringParameters"] == {
            "a": ["1", "3"],
            "b": ["2"],
            "empty": [""],
            "text": ["ü x"],
        }

    def test_there_is_no_body(self, serve):
        """EVT-03"""
        probe = serve(RECORDING)
        probe.joins()
        event = probe.event()
        assert "body" not in event
        assert event["isBase64Encoded"] is False

    def test_headers_are_the_clients_and_those_of_the_way(self, serve):
        """EVT-04"""
        probe = serve(RECORDING)
        probe.raw(handshake("/api", "x-lower: 1", "X-Twice: a", "X-Twice: b", "X-Forwarded-For: 203.0.113.9"))
        event = probe.event()
        headers = event["headers"]
        assert headers["Host"] == "localhost"
        assert headers["Sec-WebSocket-Key"] == "x3JJHMbDL1EzLkh9GBhXDw=="
        assert headers["Sec-WebSocket-Version"] == "13"
        assert headers["x-lower"] == "1"
        assert headers["X-Twice"] == "b"
        assert event["multiValueHeaders"]["X-Twice"] == ["a", "b"]
        assert headers["X-Forwarded-For"] == "203.0.113.9, 127.0.0.1"
        assert headers["X-Forwarded-Port"] == str(probe.address[1])
        assert headers["X-Forwarded-Proto"] == "http"
        assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", headers["X-Amzn-Trace-Id"])
        assert not {"connection", "upgrade"} & {name.lower() for name in headers}
        assert event["multiValueHeaders"].keys() == headers.keys()

    def test_it_says_where_the_gateway_is_and_who_called(self, serve):
        """EVT-05"""
        probe = serve(RECORDING)
        probe.joins(user_agent_header="tester/1")
        context = probe.event()["requestContext"]
        assert context["domainName"] == "{}:{}".format(*probe.address)
        assert context["stage"] == "api"
        assert re.fullmatch(r"[a-z0-9]{10}", context["apiId"])
        assert context["identity"] == {"sourceIp": "127.0.0.1", "userAgent": "tester/1"}

    def test_a_client_without_a_user_agent_has_none(self, serve):
        """EVT-05"""
        probe = serve(RECORDING)
        probe.joins(user_agent_header=None)
        assert probe.event()["requestContext"]["identity"] == {"sourceIp": "127.0.0.1"}

    def test_two_connections_have_different_ids_of_the_real_shape(self, serve):
        """CONN-16"""
        probe = serve(RECORDING)
        probe.joins()
        probe.joins()
        ids = {probe.connection_id(), probe.connection_id()}
        assert len(ids) == 2
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{15}=", connection_id) for connection_id in ids)

    def test_chalice_reads_a_missing_body_as_it_does_on_aws(self, serve):
        probe = serve("""
        @app.on_ws_connect()
        def connect(event):
            events.put({"body": event.body, "id": event.connection_id})
        """)
        probe.joins()
        assert probe.event()["body"] == "None"
