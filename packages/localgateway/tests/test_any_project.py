"""Any Chalice project runs, whatever it has or lacks, in threads and in worker processes."""

import json
from contextlib import closing
from textwrap import dedent

import pytest
from websockets.exceptions import InvalidStatus

from gatewaykit import ROWS_TABLE, write_project
from localgateway import Additions
from localgateway.errors import ProjectError
from localgateway.runtime.deployments import Deployments
from localgateway.runtime.pool import Zygote

pytestmark = pytest.mark.slow

PRELUDE = """
import json, os, time
from boto3.session import Session
from chalice import Chalice

app = Chalice(app_name="probe")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = Session()

def tell(event, **what):
    app.websocket_api.send(event.connection_id, json.dumps(what))
"""

ECHO = """
@app.on_ws_message()
def chat(event):
    tell(event, body=event.body)
"""


@pytest.fixture(params=["threads", "workers"])
def write_and_run(request, serve, tmp_path):
    """Run a project with more files than app.py: names and what is in them."""

    def run(source, files=None, **options):
        for name, text in (files or {}).items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
        return serve(source, prelude=PRELUDE, workers=request.param == "workers", **options)

    return run


def answer(client, text="?"):
    client.sends(text)
    return json.loads(client.receives())


class TestWhatAProjectMayLack:
    @pytest.mark.usefixtures("own_engine")
    def test_resources_and_rest_routes(self, write_and_run):
        probe = write_and_run(ECHO)
        assert probe.gateway.rest_url is None
        assert not {"AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS"} & set(probe.gateway.environment)
        assert answer(probe.joins()) == {"body": "?"}

    def test_websockets(self, write_and_run):
        probe = write_and_run('@app.route("/")\ndef index():\n    return {}\n')
        client = probe.joins()
        client.sends("anybody?")
        assert json.loads(client.receives())["message"] == "Forbidden"

    def test_handlers_but_the_one_for_messages(self, write_and_run):
        client = write_and_run(ECHO).joins()
        assert answer(client) == {"body": "?"}
        client.socket.close()


class TestWhatAProjectMayHave:
    def test_a_stage_name_of_its_own(self, write_and_run):
        config = {"stages": {"prod": {"api_gateway_stage": "live"}}}
        probe = write_and_run(ECHO, config=config, stage="prod")
        assert probe.gateway.url.endswith("/live")
        assert probe.gateway.management_endpoint.endswith("/live")
        assert answer(probe.joins()) == {"body": "?"}

    def test_middleware_around_every_kind_of_event(self, write_and_run):
        source = """
        @app.middleware("all")
        def sign(event, get_response):
            seen.append(type(event).__name__)
            return get_response(event)

        @app.middleware("websocket")
        def guard(event, get_response):
            context = event.to_dict()["requestContext"]
            if context["eventType"] == "CONNECT" and "queryStringParameters" in event.to_dict():
                return {"statusCode": 403}
            return get_response(event)

        @app.middleware("pure_lambda")
        def shout(event, get_response):
            response = get_response(event)
            return response | {"body": response["body"].upper()}

        seen = []

        @app.on_ws_connect()
        def connect(event):
            pass

        @app.on_ws_message()
        def chat(event):
            tell(event, seen=seen)

        @app.lambda_function(name="say")
        def say(event, context):
            return {"statusCode": 200, "body": f"seen {seen[-1]}"}
        """
        probe = write_and_run(source, additions=Additions(routes={"say": "say"}, route_responses=["say"]))
        client = probe.joins()
        assert answer(client)["seen"][-1] == "WebsocketEvent"
        client.sends('{"action":"say"}')
        assert client.receives() == "SEEN LAMBDAFUNCTIONEVENT"
        with pytest.raises(InvalidStatus, match="403"):
            probe.joins("?refuse=me")

    def test_blueprints(self, write_and_run):
        blueprint = """
        from chalice import Blueprint

        chat = Blueprint(__name__)

        @chat.on_ws_message()
        def message(event, context):
            # As on AWS: Chalice does not wrap the WebSocket handlers of a blueprint, so this is what Lambda passes,
            # and nobody has told the client where to send.
            from app import app
            context = event["requestContext"]
            connection_id = context["connectionId"]
            app.websocket_api.configure(context["domainName"], context["stage"])
            app.websocket_api.send(connection_id, '{"body": "%s"}' % event["body"])
            return {"statusCode": 200}

        @chat.lambda_function(name="say")
        def say(event, context):
            return {"statusCode": 200, "body": chat.current_app.app_name}
        """
        probe = write_and_run(
            "from chalicelib.chat import chat\napp.register_blueprint(chat)\n",
            {"chalicelib/__init__.py": "", "chalicelib/chat.py": blueprint},
            additions=Additions(routes={"say": "say"}, route_responses=["say"]),
        )
        client = probe.joins()
        assert answer(client) == {"body": "?"}
        client.sends('{"action":"say"}')
        assert client.receives() == "probe"

    def test_a_vendor_directory_and_files_beside_its_code(self, write_and_run):
        files = {
            "vendor/vendored/__init__.py": "name = 'vendored'",
            "chalicelib/__init__.py": "",
            "chalicelib/data.json": '{"from": "a file"}',
        }
        source = """
        from pathlib import Path
        import chalicelib, vendored

        DATA = json.loads((Path(chalicelib.__file__).parent / "data.json").read_text())

        @app.on_ws_message()
        def chat(event):
            tell(event, **DATA, vendor=vendored.name)
        """
        assert answer(write_and_run(source, files).joins()) == {"from": "a file", "vendor": "vendored"}

    def test_code_that_takes_long_to_import(self, write_and_run):
        probe = write_and_run("time.sleep(1)\n" + ECHO)
        assert answer(probe.joins()) == {"body": "?"}

    def test_variables_and_settings_of_single_functions(self, write_and_run):
        config = {
            "stages": {
                "local": {
                    "lambda_timeout": 30,
                    "environment_variables": {"WHO": "all"},
                    "lambda_functions": {
                        "websocket_message": {"lambda_timeout": 7, "lambda_memory_size": 256},
                        # The name that the project gives it is not that of the function.
                        "chat": {"lambda_timeout": 3},
                    },
                }
            }
        }
        source = """
        @app.on_ws_message()
        def chat(event):
            context = event.context
            tell(
                event,
                name=context.function_name,
                memory=context.memory_limit_in_mb,
                is_seven=6_000 < context.get_remaining_time_in_millis() <= 7_000,
            )
        """
        told = answer(write_and_run(source, config=config).joins())
        assert told == {"name": "probe-local-websocket_message", "memory": 256, "is_seven": True}

    def test_resources_that_tell_functions_of_tables(self, write_and_run):
        def telling(value):
            # As Chalice's tutorial has it: what only changes a function of Chalice's own has no type.
            return {"Properties": {"Environment": {"Variables": {"TABLE": value}}}}

        resources = {
            "Rows": ROWS_TABLE,
            "WebsocketConnect": telling({"Ref": "Rows"}),
            "WebsocketMessage": telling({"Fn::GetAtt": ["Rows", "Arn"]}),
        }
        source = """
        TABLE = os.environ["TABLE"]

        @app.on_ws_message()
        def chat(event):
            tell(event, table=TABLE)
        """
        probe = write_and_run(source, resources=resources)
        assert answer(probe.joins()) == {"table": "arn:aws:dynamodb:eu-central-1:000000000000:table/rows"}

    def test_variables_given_by_hand_win(self, write_and_run):
        resources = {"WebsocketMessage": {"Properties": {"Environment": {"Variables": {"TABLE": "of the template"}}}}}
        source = '@app.on_ws_message()\ndef chat(event):\n    tell(event, table=os.environ["TABLE"])\n'
        probe = write_and_run(source, resources=resources, environment={"TABLE": "given"})
        assert answer(probe.joins()) == {"table": "given"}


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.stop()


class TestAProjectThatDoesNotRun:
    """What a worker says of it. What the gateway says without workers is in test_starting.py."""

    @pytest.fixture
    def says(self, zygote, tmp_path):
        def says(source, prelude=PRELUDE):
            project = write_project(tmp_path / "p", source, prelude=prelude)
            deployments = Deployments(zygote, project, "local", "http://localhost/api", {}, {})
            with closing(deployments), pytest.raises(ProjectError) as refusal:
                deployments.deploy()
            return str(refusal.value).replace(str(project), "PROJECT")

        return says

    def test_it_raises_while_it_is_imported(self, says):
        assert says("1 / 0") == "PROJECT/app.py does not import: ZeroDivisionError: division by zero"

    def test_it_needs_a_variable_that_is_not_set(self, says):
        assert says('os.environ["NEVER_SET"]') == "PROJECT/app.py does not import: KeyError: 'NEVER_SET'"

    def test_it_needs_a_library_that_is_not_there(self, says):
        assert (
            says("import nowhere") == "PROJECT/app.py does not import: ModuleNotFoundError: No module named 'nowhere'"
        )

    def test_it_has_a_syntax_error(self, says):
        assert "SyntaxError: invalid syntax" in says("def broken(:")

    def test_it_has_no_app(self, says):
        assert "has no attribute 'app'" in says("", prelude="application = 1")

    def test_it_exits(self, says):
        assert says("import sys; sys.exit(3)") == "PROJECT/app.py does not import: SystemExit: 3"

    def test_it_lacks_the_feature_flag(self, says):
        assert "WEBSOCKETS" in says("app.experimental_feature_flags.clear()" + ECHO)

    def test_lambda_would_not_find_a_function(self, says):
        assert says(ECHO + "\ndel chat") == "The function chat does not exist: Lambda would look for app.chat."
