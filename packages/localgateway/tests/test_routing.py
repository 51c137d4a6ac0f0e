"""Routes, route responses and an authorizer that have been added to what Chalice makes."""

import json
import time

import pytest
from websockets.sync.client import connect

from gatewaykit import ECHO, RECORDING, SECONDS, write_project
from localgateway import Additions, LocalGateway
from localgateway.api.routing import Routing
from localgateway.contract.project import Function
from localgateway.errors import ProjectError

FUNCTION = Function("f", "app-dev-f", "app.f", 60, 128)

ANSWERING = """
@app.lambda_function(name="answer")
def answer(event, context):
    return json.loads(event["body"])["result"]
"""

SAYING = """
from chalice import Chalice

app = Chalice(app_name="probe")

@app.lambda_function(name="say")
def say(event, context):
    return {"statusCode": 200, "body": "said"}
"""


def routing(*keys):
    return Routing(dict.fromkeys(keys, FUNCTION))


class TestTheAction:
    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ('{"action":"join"}', "join"),
            ('{"action":"join","action":"leave"}', "leave"),
            ('{"action":7}', "7"),
            ('{"action":true}', "true"),
            ('{"action":"Join"}', "$default"),
            ('{"action":" join"}', "$default"),
            ('{"action":null}', "$default"),
            ('{"action":["join"]}', "$default"),
            ('{"data":{"action":"join"}}', "$default"),
            ('["action","join"]', "$default"),
            ('"join"', "$default"),
            ("join", "$default"),
            ("", "$default"),
            ('{"action":"join"', "$default"),
            ("[" * 100_000, "$default"),
            ('{"action":"$connect"}', "$default"),
            ('{"action":"$disconnect"}', "$default"),
        ],
    )
    def test_it_is_read_from_a_json_object_and_written_as_text(self, text, key):
        assert routing("$connect", "$disconnect", "$default", "join", "leave", "7", "true").select(text) == key

    def test_without_a_default_route_what_matches_nothing_goes_nowhere(self):
        assert routing("$connect", "join").select('{"action":"leave"}') is None
        assert routing("$connect", "join").select("") is None
        assert routing("$connect", "join").select('{"action":"join"}') == "join"


class TestRouteResponses:
    @pytest.fixture
    def client(self, serve):
        additions = Additions(routes={"say": "answer"}, route_responses=["say"])
        return serve(ECHO + "import json\n" + ANSWERING, additions=additions).joins()

    @pytest.mark.parametrize("status", [200, 404, 500])
    def test_the_body_is_sent_whatever_the_status(self, client, status):
        client.sends(json.dumps({"action": "say", "result": {"statusCode": status, "body": "ü"}}))
        assert client.receives() == "ü"

    @pytest.mark.parametrize("result", [{"statusCode": 200}, {"statusCode": 200, "body": None}])
    def test_without_a_body_nothing_is_sent(self, client, result):
        client.sends(json.dumps({"action": "say", "result": result}))
        client.sends("echo")
        assert client.receives() == "echo"

    @pytest.mark.parametrize("result", ["text", {"body": "x"}, {"statusCode": 200, "body": {}}, None])
    def test_an_invalid_result_is_an_internal_server_error(self, client, result):
        client.sends(json.dumps({"action": "say", "result": result}))
        assert json.loads(client.receives())["message"] == "Internal server error"

    def test_a_body_too_long_for_a_message_is_an_error_too(self, serve):
        additions = Additions(routes={"long": "long"}, route_responses=["long"])
        client = serve(
            """
            @app.lambda_function(name="long")
            def long(event, context):
                return {"statusCode": 200, "body": "x" * 131_073}
            """,
            additions=additions,
        ).joins()
        client.sends('{"action":"long"}')
        assert json.loads(client.receives())["message"] == "Internal server error"

    @pytest.mark.parametrize("status", [400, 404, 500])
    def test_a_status_alone_is_no_error_frame(self, serve, status):
        client = serve(
            f"""
            @app.on_ws_message()
            def message(event):
                if event.body == "end":
                    send(event.connection_id, "end")
                return {{"statusCode": {status}, "body": "x"}}
            """
        ).joins()
        client.sends("x", "end")
        assert client.receives() == "end"

    def test_the_default_route_may_respond_too(self, serve):
        probe = serve(
            """
            @app.on_ws_message()
            def message(event):
                return {"statusCode": 200, "body": event.body.upper()}
            """,
            additions=Additions(route_responses=["$default"]),
        )
        client = probe.joins()
        client.sends("hello")
        assert client.receives() == "HELLO"

    def test_a_client_that_has_left_gets_none(self, serve):
        probe = serve(
            """
            @app.on_ws_message()
            def message(event):
                events.put("running")
                gate.wait(10)
                return {"statusCode": 200, "body": "too late"}
            """,
            additions=Additions(route_responses=["$default"]),
        )
        client = probe.joins()
        client.sends("x")
        assert probe.app.events.get(timeout=10) == "running"
        client.socket.close()
        probe.app.gate.set()
        other = probe.joins()
        other.sends("x")
        assert other.receives() == "too late"


class TestMistakes:
    @pytest.mark.parametrize(
        ("additions", "sentence"),
        [
            (
                Additions(authorizer="nobody"),
                "There is no function nobody in this project: it has connect, disconnect, message.",
            ),
            (
                Additions(routes={"join": "nobody"}),
                "There is no function nobody in this project: it has connect, disconnect, message.",
            ),
            (
                Additions(route_responses=["join"]),
                "There is no route join that could respond: messages take $default.",
            ),
            (
                Additions(route_responses=["$connect"]),
                "There is no route $connect that could respond: messages take $default.",
            ),
            (
                Additions(authorizer="connect", identity_sources=["context.identity.sourceIp"]),
                "context.identity.sourceIp is not an identity source that this gateway knows: "
                "route.request.header.NAME and route.request.querystring.NAME.",
            ),
            (
                Additions(identity_sources=["route.request.header.Cookie"]),
                "Identity sources are for an authorizer, and there is none.",
            ),
        ],
    )
    def test_an_addition_to_a_missing_function_is_one_sentence(self, tmp_path, additions, sentence):
        with pytest.raises(ProjectError) as refusal:
            LocalGateway(write_project(tmp_path / "p", RECORDING), additions=additions).start()
        assert str(refusal.value) == sentence

    @pytest.mark.slow
    def test_a_deployment_without_it_leaves_the_old_code_running(self, tmp_path, caplog):
        additions = Additions(routes={"say": "say"}, route_responses=["say"])
        project = write_project(tmp_path / "p", SAYING, prelude="")
        with (
            LocalGateway(project, workers=True, reload=True, additions=additions) as gateway,
            connect(gateway.url, open_timeout=SECONDS, ping_interval=None) as client,
        ):
            (project / "app.py").write_text(SAYING.replace("say", "tell"))
            deadline = time.monotonic() + SECONDS
            while "The old code keeps running." not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.02)
            assert "There is no function say in this project: it has tell. The old code keeps running." in caplog.text
            client.send('{"action":"say"}')
            assert client.recv(timeout=SECONDS) == "said"
