"""What these tests share: small Chalice projects, clients on real sockets, and the events that handlers received."""

import json
import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from queue import Empty
from textwrap import dedent
from typing import Any

import boto3
from botocore.config import Config
from websockets.sync.client import connect

from localgateway import LocalGateway
from localgateway.api.api import Api
from localgateway.testing import Client

# How long something that should happen at once may take on a busy machine.
SECONDS = 10
# A well-formed connection id that was never used.
NEVER_USED = "L0SM9cOFvHcCIhw="
# Makes a request a signed one; the gateway does not verify the signature.
SIGNED = "Authorization: AWS4-HMAC-SHA256 Credential=local/20261123/us-east-1/execute-api/aws4_request"
# A client made from a session of its own takes ten times as long.
SESSION = boto3.session.Session()

PRELUDE = f"""
import os, queue, sys, threading, time
from chalice import Chalice, Response
sys.path.append({str(Path(__file__).parent)!r})
from gatewaykit import SESSION

app = Chalice(app_name="probe")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = SESSION
events = queue.SimpleQueue()
gate = threading.Event()
send = app.websocket_api.send
"""

RECORDING = """
@app.on_ws_connect()
def connect(event):
    events.put(event.to_dict())

@app.on_ws_message()
def message(event):
    events.put(event.to_dict())

@app.on_ws_disconnect()
def disconnect(event):
    events.put(event.to_dict())
"""

ECHO = """
@app.on_ws_message()
def message(event):
    send(event.connection_id, event.body)
"""


def refusing(response: str) -> str:
    """Write a project whose $connect returns this."""
    return f"""
    @app.on_ws_connect()
    def connect(event):
        return {response}

    @app.on_ws_disconnect()
    def disconnect(event):
        events.put(event.to_dict())
    """


ROWS_ROUTES = """
@app.route("/rows")
def rows():
    import boto3
    client = boto3.client("dynamodb")
    count = client.scan(TableName="rows")["Count"]
    client.close()
    return {"count": count}

@app.route("/rows", methods=["POST"])
def add():
    import boto3
    client = boto3.client("dynamodb")
    client.put_item(TableName="rows", Item={"PK": {"S": app.current_request.raw_body.decode()}})
    client.close()
    return {"at": app.current_request.query_params}

@app.route("/broken")
def broken():
    raise ValueError("no")
"""

ROWS_TABLE = {
    "Type": "AWS::DynamoDB::Table",
    "Properties": {
        "TableName": "rows",
        "AttributeDefinitions": [{"AttributeName": "PK", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    },
}


def write_project(
    directory: Path,
    source: str,
    *,
    config: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    prelude: str = PRELUDE,
) -> Path:
    """Write a Chalice project and return its directory."""
    (directory / ".chalice").mkdir(parents=True)
    (directory / ".chalice" / "config.json").write_text(
        json.dumps({"version": "2.0", "app_name": "probe", "stages": {"local": {}}} | dict(config or {}))
    )
    (directory / "app.py").write_text(prelude + dedent(source))
    if resources is not None:
        (directory / "resources.json").write_text(json.dumps({"Resources": resources}))
    return directory


class Probe:
    """A running gateway with a project of this package's making."""

    def __init__(self, gateway: LocalGateway, enter: Callable[[Any], Any]) -> None:
        self.gateway = gateway
        self._enter = enter

    @property
    def app(self) -> Any:
        """The project's app.py as the gateway has loaded it."""
        return sys.modules["app"]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.gateway.url.split("/")[2].split(":")
        return host, int(port)

    def joins(self, suffix: str = "", **options: Any) -> Client:
        """Connect to the stage; `suffix` is what follows it in the URL."""
        # With a thread that pings, a test about silence would not be about silence.
        options = {"open_timeout": SECONDS, "close_timeout": SECONDS, "ping_interval": None} | options
        return Client(self._enter(connect(self.gateway.url + suffix, **options)), read=str)

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""

        async def advance(api: Api) -> None:
            api.advance(seconds)

        self.gateway.ask(advance, SECONDS)

    def event(self) -> dict[str, Any]:
        """Return the next event a handler has recorded."""
        event = self.app.events.get(timeout=SECONDS)
        assert isinstance(event, dict)
        return event

    def has_no_event_within(self, seconds: float) -> bool:
        try:
            self.app.events.get(timeout=seconds)
        except Empty:
            return True
        return False

    def connection_id(self) -> str:
        """Return the connection id in the next event."""
        return str(self.event()["requestContext"]["connectionId"])

    def management(self, endpoint: str | None = None) -> Any:
        """A boto3 client of @connections, as another process would make it."""
        config = Config(retries={"total_max_attempts": 1}, read_timeout=SECONDS)
        endpoint = endpoint or self.gateway.management_endpoint
        return self._enter(closing(SESSION.client("apigatewaymanagementapi", endpoint_url=endpoint, config=config)))

    def raw(self, data: bytes = b"") -> socket.socket:
        """A TCP connection on which `data` has been sent."""
        connection: socket.socket = self._enter(socket.create_connection(self.address, timeout=SECONDS))
        connection.sendall(data)
        return connection


def is_alive(probe: Probe) -> bool:
    """Tell whether a project with an ECHO still answers."""
    client = probe.joins()
    client.sends("alive?")
    return client.receives() == "alive?"


def handshake(path: str = "/api", *headers: str) -> bytes:
    """Write an upgrade request as a client sends it."""
    return "\r\n".join(
        [
            f"GET {path} HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
            "Sec-WebSocket-Version: 13",
            *headers,
            "",
            "",
        ]
    ).encode("latin-1")


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Write a client's frame of up to 125 bytes, masked with zeros."""
    return bytes([(0x80 if fin else 0) | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def read_response(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one HTTP response: status, headers with lower-case names, body."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            raise AssertionError(f"closed after {data!r}")
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return int(lines[0].split()[1]), headers, body


def call(probe: Probe, method: str, path: str, *headers: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Send one HTTP request as it is and return the response."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers, "", ""]
    return read_response(probe.raw("\r\n".join(lines).encode() + body))


def how_it_ended(event: Mapping[str, Any]) -> tuple[str, int, str]:
    """Return what a $disconnect event says about the end."""
    context = event["requestContext"]
    return context["eventType"], context["disconnectStatusCode"], context["disconnectReason"]


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    data = b""
    while received := connection.recv(65536):
        data += received
    return data


def ask(url: str, body: bytes | None = None) -> Any:
    """Return the JSON answer to a GET, or to a POST if there is a body."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read())
