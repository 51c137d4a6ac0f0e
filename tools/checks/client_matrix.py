"""Connect the WebSocket clients that people use to the local gateway, over ws:// and wss://, and print a table.

    python tools/checks/client_matrix.py

Each connects, sends, receives what it has sent, and is refused with 401 elsewhere. Opt-in: it takes packages from PyPI
and npm, into a temporary directory. Clients that need what is not installed (Node.js, Chromium) are listed as skipped.
"""

import argparse
import base64
import hashlib
import json
import os
import pty
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

sys.path.insert(0, str(Path(__file__).parents[2]))

from localgateway import LocalGateway

NPM_PACKAGES = ["ws@8.23.0", "wscat@6.1.0", "playwright-core@1.65.1"]
PYTHON_PACKAGES = ["websocket-client==1.9.2"]
SECONDS = 60

PROJECT = """
import boto3
from chalice import Chalice, Response

app = Chalice(app_name="echo")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = boto3.session.Session()

@app.on_ws_connect()
def connect(event):
    return Response(status_code=401 if "queryStringParameters" in event.to_dict() else 200, body="")

@app.on_ws_message()
def message(event):
    app.websocket_api.send(event.connection_id, event.body)
"""

# Each program prints two lines: what it received, and how it was refused. Its arguments are the two URLs for that.
WEBSOCKETS = """
import sys
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
with connect(sys.argv[1]) as socket:
    socket.send("hello")
    print(socket.recv(timeout=10))
try:
    connect(sys.argv[2])
except InvalidStatus as refused:
    print(refused.response.status_code)
"""
WEBSOCKET_CLIENT = """
import sys, websocket
socket = websocket.create_connection(sys.argv[1], timeout=10)
socket.send("hello")
print(socket.recv())
socket.close()
try:
    websocket.create_connection(sys.argv[2], timeout=10)
except websocket.WebSocketBadStatusException as refused:
    print(refused.status_code)
"""
WS = """
const WebSocket = require("ws");
const socket = new WebSocket(process.argv[2]);
socket.on("open", () => socket.send("hello"));
socket.on("message", (data) => {
  console.log(String(data));
  socket.close();
  const refused = new WebSocket(process.argv[3]);
  refused.on("error", () => {});
  refused.on("unexpected-response", (request, response) => { console.log(response.statusCode); process.exit(); });
});
"""
# A page learns of a refusal only the code 1006. Chromium cannot trust an authority without a change to the user's
# settings, but it can trust a given certificate.
CHROMIUM = """
const { chromium } = require("playwright-core");
(async () => {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--ignore-certificate-errors-spki-list=" + process.env.CERTIFICATE],
  });
  const page = await tests.browser.newPage();
  const said = await page.evaluate(async ([url, refusedUrl]) => {
    const received = await new Promise((resolve, reject) => {
      const socket = new WebSocket(url);
      socket.onopen = () => socket.send("hello");
      socket.onmessage = (event) => { resolve(event.data); socket.close(); };
      socket.onerror = () => reject(new Error("no connection"));
    });
    const refusal = await new Promise((resolve) => {
      new WebSocket(refusedUrl).onclose = (event) => resolve(event.code);
    });
    return [received, refusal];
  }, [process.argv[2], process.argv[3]]);
  console.log(said.join("\\n"));
  await tests.browser.close();
})();
"""


@dataclass(frozen=True)
class Client:
    """One client: how to run it, and how it reports a refusal; or, without a `run`, why it cannot run."""

    name: str
    run: Callable[[str, str, dict[str, str]], list[str]] | None
    refusal: str = "401"
    reason: str = ""


def main() -> int:
    """Print the table and return 1 if a client that could run failed."""
    argparse.ArgumentParser(description="Connect the clients that people use to the local gateway.").parse_args()
    with TemporaryDirectory(prefix="clients-") as directory:
        clients = find_clients(Path(directory))
        project = write_project(Path(directory) / "project")
        results = {client.name: "" for client in clients}
        failed = False
        for tls in (False, True):
            with LocalGateway(project, tls=tls) as gateway:
                for client in clients:
                    if client.run is None:
                        results[client.name] = f"skipped: {client.reason}"
                        continue
                    said = ask(client, gateway)
                    failed |= said != ["hello", client.refusal]
                    results[client.name] += f"{', '.join(said):<20}"
    print(f"\n{'client':<18}{'ws: echo, refusal':<20}wss: echo, refusal")
    for name, result in results.items():
        print(f"{name:<18}{result}")
    return int(failed)


def ask(client: Client, gateway: LocalGateway) -> list[str]:
    """Return what the client received and how it was refused, or in a word why not."""
    assert client.run is not None
    environment = dict(os.environ)
    if gateway.tls:
        environment |= {"SSL_CERT_FILE": str(gateway.tls.ca_path), "NODE_EXTRA_CA_CERTS": str(gateway.tls.ca_path)}
        host, port = gateway.url.split("/")[2].split(":")
        environment["CERTIFICATE"] = fingerprint(ssl.get_server_certificate((host, int(port))))
    try:
        return client.run(gateway.url, gateway.url + "?refuse=me", environment)
    except subprocess.TimeoutExpired:
        return ["no answer"]


def find_clients(directory: Path) -> list[Client]:
    """Install what can be installed and return all clients, those that cannot run with the reason."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(directory / "python")]
    subprocess.run([*install, *PYTHON_PACKAGES], check=True, stderr=subprocess.DEVNULL)
    clients = [
        Client("websockets", program(sys.executable, "-c", WEBSOCKETS)),
        Client("websocket-client", program(sys.executable, "-c", WEBSOCKET_CLIENT, PYTHONPATH=directory / "python")),
    ]
    names = ("ws (npm)", "wscat", "Chromium")
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return [*clients, *(Client(name, None, reason="there is no Node.js") for name in names)]
    subprocess.run([npm, "install", "--silent", "--prefix", directory, *NPM_PACKAGES], check=True)
    for name, source in (("ws.js", WS), ("chromium.js", CHROMIUM)):
        (directory / name).write_text(source)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    browser = program(node, directory / "chromium.js", CHROMIUM=chromium or "")
    return [
        *clients,
        Client("ws (npm)", program(node, directory / "ws.js")),
        Client("wscat", wscat(node, directory)),
        Client("Chromium", browser if chromium else None, refusal="1006", reason="there is no Chromium"),
    ]


def program(*command: str | Path, **variables: str | Path) -> Callable[[str, str, dict[str, str]], list[str]]:
    """Make a client of a program that prints what it received."""

    def run(url: str, refused_url: str, environment: dict[str, str]) -> list[str]:
        environment = environment | {name: str(value) for name, value in variables.items()}
        ran = subprocess.run(
            [*command, url, refused_url], env=environment, capture_output=True, text=True, timeout=SECONDS
        )
        return ran.stdout.split() or [ran.stderr.strip().rpartition("\n")[2] or "nothing"]

    return run


def wscat(node: str, directory: Path) -> Callable[[str, str, dict[str, str]], list[str]]:
    """Make a client of wscat, which is silent without a terminal."""

    def run(url: str, refused_url: str, environment: dict[str, str]) -> list[str]:
        wscat = [node, str(directory / "node_modules" / "wscat" / "bin" / "wscat")]
        echoed = in_terminal([*wscat, "-c", url, "-x", "hello", "-w", "1"], environment)
        refused = in_terminal([*wscat, "-c", refused_url], environment)
        return ["hello" if "hello" in echoed else "nothing", *re.findall(r"response: (\d+)", refused)]

    return run


def in_terminal(command: list[str], environment: dict[str, str]) -> str:
    """Return what a program writes to its terminal until it ends."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = b""
        # On Linux the end of a terminal is an error.
        with suppress(OSError):
            while data := os.read(ours, 1024):
                written += data
        os.close(ours)
        process.wait(timeout=SECONDS)
    return written.decode(errors="replace")


def fingerprint(certificate: str) -> str:
    """Return the hash of a certificate's public key, by which Chromium trusts it."""
    key = load_pem_x509_certificate(certificate.encode()).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()


def write_project(directory: Path) -> Path:
    (directory / ".chalice").mkdir(parents=True)
    config = {"version": "2.0", "app_name": "echo", "stages": {"local": {}}}
    (directory / ".chalice" / "config.json").write_text(json.dumps(config))
    (directory / "app.py").write_text(PROJECT)
    return directory


if __name__ == "__main__":
    sys.exit(main())
