"""New publications of a channel without history: as a client of the stage, with a ticket of its own.

Invariant: when the connection ends, after two hours at the latest, a new one is opened; what was published in between
is lost, and that is reported.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from pealctl.api import Api, Json, pause_seconds
from pealctl.errors import CommandError, Unavailable
from pealctl.target import is_loopback

# The user it connects as. A namespace of your own that announces joins and leaves announces this one too.
USER: Final = "peal-tail"
OPEN_SECONDS: Final = 30
# API Gateway closes a connection that is silent for ten minutes.
PING_SECONDS: Final = 540


def follow(
    api: Api,
    channel: str,
    note: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    ping_seconds: float = PING_SECONDS,
) -> Iterator[Json]:
    """Yield what is published in the channel, without end.

    Args:
        api: of the stage.
        channel: one without history.
        note: is called with a sentence when the connection ends and when there is a new one.
        sleep: waits that many seconds.
        ping_seconds: how long the connection may be silent before it sends a ping.

    Raises:
        CommandError: the channel may not be followed, or the first connection fails.
    """
    was_subscribed, failures = False, 0
    while True:
        try:
            with _member(api, channel) as (socket, early):
                if was_subscribed:
                    note("Connected again; what was published meanwhile is lost.")
                was_subscribed, failures = True, 0
                yield from early
                yield from _publications(socket, channel, ping_seconds)
            note("The connection has ended: reconnecting.")
        except Unavailable as error:
            if not was_subscribed:
                raise
            if not failures:
                note(f"{error} Still trying.")
            failures += 1
        sleep(pause_seconds(failures))


@contextmanager
def _member(api: Api, channel: str) -> Iterator[tuple[ClientConnection, list[Json]]]:
    """Subscribe over a new connection; yield it and the publications that came before the reply."""
    url = api.target.socket_url
    ticket = api.post("tickets", body={"userId": USER, "channels": {channel: ["subscribe"]}})["ticket"]
    # Nothing on this machine is behind a proxy.
    proxy: dict[str, Any] = {"proxy": None} if is_loopback(url) else {}
    early = []
    with ExitStack() as closing:
        try:
            opening = connect(f"{url}?ticket={quote(ticket, safe='')}", open_timeout=OPEN_SECONDS, **proxy)
            socket: ClientConnection = closing.enter_context(opening)
            socket.send(json.dumps({"action": "subscribe", "id": 0, "channel": channel}))
            while _is_publication(answer := _read(socket, OPEN_SECONDS), channel):
                early.append(answer)
        except InvalidStatus as refused:
            status = refused.response.status_code
            message = f"{url} refuses to connect ({status})."
            raise (Unavailable if status == 429 or status >= 500 else CommandError)(message) from None
        except (OSError, WebSocketException) as error:
            raise Unavailable(f"{url} does not answer ({error}).") from None
        if answer.get("type") != "reply":
            refusal = answer.get("error")
            raise CommandError(str(refusal.get("message") if isinstance(refusal, dict) else answer.get("message")))
        yield socket, early


def _publications(socket: ClientConnection, channel: str, ping_seconds: float) -> Iterator[Json]:
    """Yield the channel's publications until the connection ends."""
    ping_at = time.monotonic() + ping_seconds
    while True:
        try:
            frame = _read(socket, max(ping_at - time.monotonic(), 0))
        except TimeoutError:
            ping_at = time.monotonic() + ping_seconds
            with suppress(ConnectionClosed):
                socket.send('{"action":"ping"}')
            continue
        except ConnectionClosed:
            return
        if _is_publication(frame, channel):
            yield frame


def _is_publication(frame: Json, channel: str) -> bool:
    return frame.get("type") == "publication" and frame.get("channel") == channel


def _read(socket: ClientConnection, timeout_seconds: float) -> Json:
    try:
        frame = json.loads(socket.recv(timeout_seconds))
    except ValueError:
        return {}
    return frame if isinstance(frame, dict) else {}
