"""Try what has been deployed as a client would: a ticket over REST, a socket with it, a frame, an answer."""

import json
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from pealctl.deploy.aws import Aws
from pealctl.errors import SmokeTestFailed

USER = "peal-smoke-test"
ANSWER_SECONDS = 30
# New roles, routes and permissions take some seconds to take effect on AWS; until then anything may be refused.
PATIENCE_SECONDS = 90
PAUSE_SECONDS = 3


class _Refused(Exception):
    """A step failed; the message says which and how."""


def smoke_test(
    aws: Aws,
    websocket_url: str,
    rest_url: str,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
    answer_seconds: float = ANSWER_SECONDS,
) -> None:
    """Get a ticket, connect with it, send a frame, wait for its reply and close the socket.

    Args:
        aws: the account, whose credentials sign the request for a ticket.
        websocket_url, rest_url: the stage's two APIs.
        patience_seconds: how long to try again after a failure.
        answer_seconds: how long to wait for each answer.

    Raises:
        SmokeTestFailed: a step still failed when the patience had run out.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            _ping(websocket_url, _ticket(aws, rest_url, answer_seconds), answer_seconds)
            return
        except _Refused as refused:
            if time.monotonic() > deadline:
                raise SmokeTestFailed(f"Everything is deployed, but {refused}") from None
            time.sleep(PAUSE_SECONDS)


def _ticket(aws: Aws, rest_url: str, answer_seconds: float) -> str:
    url, body = f"{rest_url}/tickets", json.dumps({"userId": USER})
    signed = AWSRequest("POST", url, data=body, headers={"Content-Type": "application/json"})
    SigV4Auth(aws.credentials, "execute-api", aws.region).add_auth(signed)
    request = Request(url, body.encode(), dict(signed.headers), method="POST")
    try:
        with urlopen(request, timeout=answer_seconds) as answer:
            ticket: str = json.load(answer)["ticket"]
    except HTTPError as error:
        error.close()
        hint = "Your own permissions need execute-api:Invoke." if error.code == 403 else "See `chalice logs`."
        raise _Refused(f"POST {url} is answered {error.code}. {hint}") from None
    except OSError as error:
        raise _Refused(f"POST {url} is not answered: {error}.") from None
    return ticket


def _ping(url: str, ticket: str, answer_seconds: float) -> None:
    try:
        with connect(f"{url}?ticket={ticket}", open_timeout=answer_seconds) as socket:
            socket.send(json.dumps({"action": "ping", "id": 1}))
            reply = json.loads(socket.recv(timeout=answer_seconds))
    except InvalidStatus as refusal:
        status = refusal.response.status_code
        raise _Refused(f"{url} refuses a client with {status}. See `chalice logs --name websocket_connect`.") from None
    except TimeoutError:
        raise _Refused(f"{url} does not answer a frame. See `chalice logs --name websocket_message`.") from None
    except (WebSocketException, OSError, ValueError) as error:
        raise _Refused(f"{url} does not work as a WebSocket: {error}.") from None
    if reply.get("type") != "reply":
        code = reply.get("error", {}).get("code") or reply.get("message")
        raise _Refused(f"{url} answers a ping with {code}. See `chalice logs --name websocket_message`.")
