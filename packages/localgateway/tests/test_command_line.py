"""`python -m localgateway` as a process: what it prints, what it serves, how it ends."""

import re
import shlex
import signal
import socket
from contextlib import closing

import boto3
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gatewaykit import SECONDS
from gatewayprocesses import FREE, ends_soon, get, is_running, needs_proc

pytestmark = pytest.mark.slow


class TestRunning:
    def test_it_prints_where_everything_is_and_serves_it(self, run):
        gateway = run(*FREE, "--env", "GREETING=hi ")
        url = gateway.prints(r"^WebSocket +(ws://127\.0\.0\.1:\d+/api)$")
        management = gateway.prints(r"^@connections +(http://127\.0\.0\.1:\d+/api)/@connections/\{connectionId\}$")
        rest = gateway.prints(r"^REST +(http://127\.0\.0\.1:\d+)$")
        assert "<title>Console</title>" in get(gateway.prints(r"^Console +(http://127\.0\.0\.1:\d+/_console)$"))
        exports = {}
        for name in (
            "GREETING",
            "AWS_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ENDPOINT_URL_DYNAMODB",
        ):
            exports[name] = shlex.split(gateway.prints(rf"^export {name}=(.*)$"))[0]
        with connect(url, open_timeout=SECONDS) as client:
            client.send("you")
            assert client.recv(timeout=SECONDS) == "hi you"
            assert get(f"{rest}/count") == '{"count":1}'
            session = boto3.session.Session(exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"])
            endpoint = exports["AWS_ENDPOINT_URL_DYNAMODB"]
            with closing(session.client("dynamodb", endpoint_url=endpoint, region_name=exports["AWS_REGION"])) as table:
                (row,) = table.scan(TableName="rows")["Items"]
            with closing(session.client("apigatewaymanagementapi", endpoint_url=management, region_name="x")) as api:
                api.post_to_connection(ConnectionId=row["PK"]["S"], Data="pushed")
            assert client.recv(timeout=SECONDS) == "pushed"
        gateway.prints(r"\d\d:\d\d:\d\d\.\d{3} \$disconnect disconnect [A-Za-z0-9_-]{15}= 200 \d+ ms$")
        assert get(f"{rest}/count") == '{"count":0}'

    def test_the_clocks_are_options(self, run):
        url = run(*FREE, "--idle-timeout", "0.2").prints(r"^WebSocket +(.*)$")
        with connect(url, open_timeout=SECONDS) as client, pytest.raises(ConnectionClosed, match="1001"):
            client.recv(timeout=SECONDS)

    def test_what_cloudformation_adds_is_an_option(self, run, project):
        (project / "app.py").write_text(
            """
from chalice import Chalice

app = Chalice(app_name="sample")
app.experimental_feature_flags.update(["WEBSOCKETS"])

@app.on_ws_message()
def message(event):
    pass

@app.lambda_function(name="authorize")
def authorize(event, context):
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": event["methodArn"]}
    return {"principalId": event["queryStringParameters"]["token"], "policyDocument": {"Statement": [statement]}}

@app.lambda_function(name="who")
def who(event, context):
    return {"statusCode": 200, "body": event["requestContext"]["authorizer"]["principalId"]}
"""
        )
        options = ("--authorizer", "authorize", "--identity-source", "route.request.querystring.token")
        url = run(*FREE, *options, "--route", "who=who", "--route-response", "who").prints(r"^WebSocket +(.*)$")
        with pytest.raises(InvalidStatus, match="401"):
            connect(url, open_timeout=SECONDS)
        with connect(f"{url}?token=u_1", open_timeout=SECONDS) as client:
            client.send('{"action":"who"}')
            assert client.recv(timeout=SECONDS) == "u_1"

    def test_listening_beyond_this_machine_is_warned_about(self, run):
        run(*FREE, "--host", "0.0.0.0").prints(r"^Warning: 0\.0\.0\.0 is not loopback; others can reach the app\.$")


class TestEnding:
    @needs_proc
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_cleanly(self, run, number):
        gateway = run(*FREE)
        url = gateway.prints(r"^WebSocket +(.*)$")
        gateway.prints("^export AWS_ENDPOINT_URL_SQS")
        left = gateway.descendants()
        assert len(left) >= 2
        with connect(url, open_timeout=SECONDS) as client:
            gateway.popen.send_signal(number)
            with pytest.raises(ConnectionClosed, match=r"1001 \(going away\) Going away"):
                client.recv(timeout=SECONDS)
        assert gateway.ends() == 0
        assert not any(is_running(pid) for pid in left)
        # The row could still be deleted while the gateway shut down.
        assert re.search(r"\$disconnect disconnect \S+ 200 ", gateway.output)
        assert "Traceback" not in gateway.output

    @needs_proc
    def test_killed_it_takes_its_engine_and_its_workers_along(self, run):
        gateway = run(*FREE)
        gateway.prints("^export AWS_ENDPOINT_URL_SQS")
        left = gateway.descendants()
        assert len(left) >= 2
        gateway.popen.kill()
        assert all(ends_soon(pid) for pid in left)


class TestMistakes:
    def test_a_directory_without_a_project(self, run, tmp_path):
        gateway = run(str(tmp_path))
        assert gateway.ends() == 1
        assert gateway.output == f"{tmp_path} is not a Chalice project: it needs app.py and .chalice/config.json.\n"

    def test_a_project_that_does_not_import_shows_its_own_error(self, run, project):
        (project / "app.py").write_text("def broken():\n    return missing\n\nbroken()\n")
        gateway = run(*FREE)
        assert gateway.ends() == 1
        assert f'File "{project}/app.py", line 4, in <module>' in gateway.output
        assert gateway.output.endswith("app.py does not import: NameError: name 'missing' is not defined\n")

    def test_a_port_in_use_is_reported_in_one_sentence(self, run):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            gateway = run("--port", str(port))
            assert gateway.ends() == 1
        assert gateway.output == (
            f"Port {port} on 127.0.0.1 is in use: stop the process that has it, "
            "or choose another port with --port (0 takes a free one).\n"
        )

    @pytest.mark.parametrize(
        "arguments",
        [["--port", "x"], ["--port", "65536"], ["--env", "NAME"], ["--env", "=x"], ["--idle-timeout", "0"], ["--what"]],
        ids=" ".join,
    )
    def test_wrong_arguments(self, run, arguments):
        gateway = run(*arguments)
        assert gateway.ends() == 2
        assert "error: " in gateway.output
