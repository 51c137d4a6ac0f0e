"""A client of the deployed stage, and a backend that pushes to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from websockets.sync.client import ClientConnection, connect

from tests.e2e.emulator import REGION, Account

# A function's first answer includes the start of its Python.
SECONDS = 20


class Client:
    """One socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def asks(self, **frame: Any) -> Any:
        """Send a frame and return its reply's data; any other frame is an error."""
        self.socket.send(json.dumps({"id": 1, **frame}))
        reply = self.receives()
        assert reply["type"] == "reply", reply
        return reply["data"]

    def receives(self) -> Any:
        return json.loads(self.socket.recv(timeout=SECONDS))

    def leaves(self) -> None:
        self.socket.close()


@contextmanager
def connected(url: str, query: str) -> Iterator[Client]:
    with connect(f"{url}?{query}", open_timeout=SECONDS) as socket:
        yield Client(socket)


def call(account: Account, url: str, method: str, body: Any = None, by: Credentials | None = None) -> tuple[int, Any]:
    """Call a REST route, by default as the account's owner; return status and body."""
    data = None if body is None else json.dumps(body)
    request = AWSRequest(method, url, data=data, headers={"Content-Type": "application/json"})
    SigV4Auth(by or Credentials(account.number, "owner"), "execute-api", REGION).add_auth(request)
    try:
        answer = urlopen(Request(url, data and data.encode(), dict(request.headers), method=method), timeout=SECONDS)
    except HTTPError as error:
        answer = error
    with answer:
        text = answer.read()
        return answer.status, json.loads(text) if text else None


# The clients of these tests may do everything.
GRANTS = {"channels": {"*": ["subscribe", "publish", "presence", "history"]}, "users": ["*"], "broadcast": True}


def ticket(account: Account, rest_url: str, user_id: str) -> str:
    """Return the query string with which that user's client can connect."""
    status, answer = call(account, f"{rest_url}/tickets", "POST", {"userId": user_id, **GRANTS})
    assert status == 201, answer
    return f"ticket={answer['ticket']}"
