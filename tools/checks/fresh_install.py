"""Install the local gateway as others would, and use it.

    python tools/checks/fresh_install.py [PYTHON ...]

For each Python (by default its own): a new virtual environment, the package with the newest boto3, `pip check`,
`localgateway --help`, the engine, the pytest plugin without a conftest.py, and a Chalice project with a table: two
clients, a push from outside, the console. It fetches packages, so it is not part of the tests.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "packages" / "localgateway"
SECONDS = 600

APP = """
import boto3
from chalice import Chalice

app = Chalice(app_name="board")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = boto3.session.Session()
table = boto3.resource("dynamodb").Table("board-connections")


@app.on_ws_connect()
def connect(event):
    table.put_item(Item={"id": event.connection_id})


@app.on_ws_message()
def message(event):
    for row in table.scan()["Items"]:
        app.websocket_api.send(row["id"], event.body)


@app.on_ws_disconnect()
def disconnect(event):
    table.delete_item(Key={"id": event.connection_id})


@app.route("/connections")
def connections():
    return [row["id"] for row in table.scan()["Items"]]
"""

RESOURCES = {
    "Resources": {
        "Connections": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": "board-connections",
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "BillingMode": "PAY_PER_REQUEST",
            },
        }
    }
}

TESTS = """
def test_all_clients_get_a_message(gateway):
    alice, bob = gateway.connect("alice"), gateway.connect("bob")
    alice.sends("hello")
    alice.receives("hello")
    bob.receives("hello")
    assert len(gateway.call("GET", "/connections").body) == 2
"""

CLIENT = """
import json, sys, urllib.request
import boto3
from websockets.sync.client import connect

url, rest, console = sys.argv[1:]
with connect(url) as alice, connect(url) as bob:
    alice.send("hello")
    assert alice.recv(timeout=30) == bob.recv(timeout=30) == "hello"
    ids = json.load(urllib.request.urlopen(f"{rest}/connections", timeout=30))
    assert len(ids) == 2, ids
    api = boto3.client("apigatewaymanagementapi", endpoint_url=url.replace("ws:", "http:"))
    for connection_id in ids:
        api.post_to_connection(ConnectionId=connection_id, Data="pushed")
    assert alice.recv(timeout=30) == bob.recv(timeout=30) == "pushed"
assert b"<title>Console</title>" in urllib.request.urlopen(console, timeout=30).read()
"""


def check(python: str, directory: Path) -> None:
    """Install and use the package with one Python, below an empty directory."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    environment |= {"LOCALGATEWAY_ENGINE_DIR": str(directory / "engines"), "PYTHONUNBUFFERED": "1"}
    project = directory / "board"
    (project / ".chalice").mkdir(parents=True)
    stages = {"version": "2.0", "app_name": "board", "stages": {"local": {}}}
    (project / ".chalice" / "config.json").write_text(json.dumps(stages))
    (project / "app.py").write_text(APP)
    (project / "resources.json").write_text(json.dumps(RESOURCES))
    (project / "test_board.py").write_text(TESTS)
    bin_directory = directory / "venv" / "bin"

    def run(program: str, *arguments: str) -> str:
        print("$", program, *arguments, flush=True)
        done = subprocess.run(
            [bin_directory / program, *arguments],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        return done.stdout

    subprocess.run([python, "-m", "venv", str(directory / "venv")], check=True, timeout=SECONDS)
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
    run("python", *pip, "install", "--upgrade", f"{PACKAGE}[test,tls]", "boto3")
    run("python", *pip, "check")
    run("localgateway", "--help")
    print(run("localgateway", "engine", "install").strip())
    run("python", "-m", "pytest", "-q", "-W", "error")
    with ExitStack() as stack:
        print("$ localgateway", flush=True)
        gateway = stack.enter_context(
            subprocess.Popen(
                [bin_directory / "localgateway", "--port", "0", "--rest-port", "0"],
                cwd=project,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(gateway.terminate)
        assert gateway.stdout
        printed: dict[str, str] = {}
        for line in gateway.stdout:
            name, _, value = line.strip().partition(" ")
            if name == "export":
                variable, _, text = value.partition("=")
                environment[variable] = text
                # The last one that the gateway prints.
                if variable == "AWS_ENDPOINT_URL_LAMBDA":
                    break
            printed[name] = value.strip()
        run("python", "-c", CLIENT, printed["WebSocket"], printed["REST"], printed["Console"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Install the local gateway as others would, and use it.")
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", default=[sys.executable], help="default: this one")
    for python in parser.parse_args().pythons:
        print(f"With {python}:", flush=True)
        with tempfile.TemporaryDirectory(prefix="fresh-install-") as directory:
            check(python, Path(directory))
    print("All of it works.")


if __name__ == "__main__":
    main()
