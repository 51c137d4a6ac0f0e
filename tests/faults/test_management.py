"""@connections refuses, fails, hangs or lies: what becomes of real sends to a server that does.

Everything but the server is Peal as it ships: the client, its retries, delivery, the table.
"""

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace

import boto3
import pytest
from chalice.app import WebsocketAPI

from chalicelib.aws.management import ManagementClient
from chalicelib.aws.sigv4 import Credentials
from chalicelib.delivery.delivery import Outcome
from chalicelib.errors import NotFound
from chalicelib.handlers import websocket
from chalicelib.peal import Peal, build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.settings import Settings
from tests.conftest import Clock
from tests.support import raw_events
from tests.support.fakes import FakeJobs, does
from tests.support.management_server import ManagementServer, Move, answer, closes, pauses, refuses, resets, serving

pytestmark = pytest.mark.slow

COUNT = 8
BAD = 2
THROTTLED = refuses(429, "LimitExceededException")
GONE = refuses(410, "GoneException")
BROKEN = answer(500)
# Long enough for a busy machine to answer, short enough to wait for.
PATIENCE_SECONDS = 1.0


@pytest.fixture
def server() -> Iterator[ManagementServer]:
    with serving(None) as server:
        yield server


@pytest.fixture
def peal(
    server: ManagementServer, table_name: str, session: boto3.session.Session, clock: Clock, jobs: FakeJobs
) -> Iterator[Peal]:
    """The whole service, which sends to the server and waits less long for it than it would for AWS."""
    settings = Settings(
        table_name, allow_anonymous=True, anonymous_grants=EVERYTHING, management_endpoint=server.endpoint
    )
    api = WebsocketAPI()
    peal = build(settings, api, session, clock, jobs=jobs)
    limits = ManagementClient.limits._replace(answer_seconds=PATIENCE_SECONDS)
    client = ManagementClient(server.endpoint, "eu-central-1", lambda: Credentials("A", "s", None), limits=limits)
    api.session = SimpleNamespace(region_name="eu-central-1", client=lambda *_, **__: client)
    yield peal
    client.close()


Crowd = Callable[[str], list[str]]


@pytest.fixture
def crowd(peal: Peal, server: ManagementServer) -> Crowd:
    """Connects clients and subscribes them to a channel; returns their ids."""

    def crowd(channel: str) -> list[str]:
        ids = [f"c{n:03d}=" for n in range(COUNT)]
        for connection_id in ids:
            websocket.connect(peal, raw_events.connect(connection_id))
            body = json.dumps({"action": "subscribe", "channel": channel})
            websocket.message(peal, raw_events.message(body, connection_id))
        assert server.requests == []
        return ids

    return crowd


def asked(server: ManagementServer, method: str) -> Counter[str]:
    """Return how many requests with that method each connection has had so far."""
    return Counter(request.connection_id for request in server.requests if request.method == method)


def registered(peal: Peal, ids: list[str]) -> list[str]:
    return [one.connection_id for one in map(peal.connection, ids)]


@pytest.mark.parametrize("refusal", [THROTTLED, BROKEN], ids=["429", "500"])
def test_every_send_refused_twice_is_sent_once(
    refusal: bytes, crowd: Crowd, peal: Peal, server: ManagementServer
) -> None:
    ids = crowd("live:a")
    for connection_id in ids:
        server.on(connection_id, refusal)
        server.on(connection_id, refusal)
    assert peal.publish("live:a", 1).outcome == Outcome(sent=COUNT)
    assert asked(server, "POST") == dict.fromkeys(ids, 3)
    assert asked(server, "DELETE") == {}
    assert registered(peal, ids) == ids


def trickles(connection: socket.socket) -> None:
    """Send headers byte by byte, for as long as the client waits."""
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            time.sleep(0.05)
            connection.sendall(b"a")


# The part of a response that arrives before the connection breaks.
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
KINDS: dict[str, tuple[Move, ...]] = {
    "throttled": (THROTTLED,),
    "broken": (BROKEN,),
    "reset in the middle of the body": (BODY, resets),
    "closed without an answer": (closes,),
    "silent": (pauses(PATIENCE_SECONDS + 0.5),),
    "slow loris": (trickles,),
}


class TestSomeCannotBeReached:
    @pytest.fixture(params=KINDS)
    def bad(self, request: pytest.FixtureRequest, server: ManagementServer) -> list[str]:
        """Connections whose every request is answered badly."""
        ids = [f"c{n:03d}=" for n in range(0, COUNT, COUNT // BAD)]
        for connection_id in ids:
            server.moves[connection_id] = [KINDS[request.param]] * 40
        return ids

    def test_unreachable_receivers_are_kept_and_others_sent_once(
        self, bad: list[str], crowd: Crowd, peal: Peal, server: ManagementServer
    ) -> None:
        ids = crowd("live:a")
        assert peal.publish("live:a", 1).outcome == Outcome(sent=COUNT - BAD, failed=BAD)
        posts = asked(server, "POST")
        assert {connection_id for connection_id, times in posts.items() if times == 1} >= set(ids) - set(bad)
        others = [request.connection_id for request in server.requests if request.connection_id not in bad]
        assert len(others) == COUNT - BAD
        assert asked(server, "DELETE") == {}
        assert registered(peal, ids) == ids

    def test_with_history_unreachable_receivers_are_closed(
        self, bad: list[str], crowd: Crowd, peal: Peal, server: ManagementServer, jobs: FakeJobs
    ) -> None:
        ids = crowd("feed:a")
        assert peal.publish("feed:a", 1).outcome == Outcome(sent=COUNT - BAD, failed=BAD)
        assert asked(server, "DELETE").keys() == set(bad)
        # One that cannot be closed either is no longer registered, and a job closes it as soon as it can.
        for connection_id in bad:
            with pytest.raises(NotFound):
                peal.connection(connection_id)
        todo = jobs.take()
        assert sorted(job["connectionId"] for job in todo) == bad
        server.moves.clear()
        server.requests.clear()
        for job in todo:
            does(peal, job)
        assert asked(server, "DELETE") == dict.fromkeys(bad, 1)
        assert peal.publish("feed:a", 2).outcome == Outcome(sent=COUNT - BAD)
        assert asked(server, "POST") == dict.fromkeys(set(ids) - set(bad), 1)


class TestFalse410:
    def test_one_for_everyone_costs_a_second_send_each(
        self, crowd: Crowd, peal: Peal, server: ManagementServer
    ) -> None:
        ids = crowd("feed:a")
        for connection_id in ids:
            server.on(connection_id, GONE)
        assert peal.publish("feed:a", 1).outcome == Outcome(sent=COUNT)
        assert asked(server, "POST") == dict.fromkeys(ids, 2)
        assert asked(server, "DELETE") == {}
        assert registered(peal, ids) == ids

    def test_a_second_410_closes_the_connection(self, crowd: Crowd, peal: Peal, server: ManagementServer) -> None:
        ids = crowd("feed:a")
        for connection_id in ids[:BAD]:
            server.on(connection_id, GONE)
            server.on(connection_id, GONE)
        assert peal.publish("feed:a", 1).outcome == Outcome(sent=COUNT - BAD, gone=BAD)
        assert asked(server, "DELETE") == dict.fromkeys(ids[:BAD], 1)
        assert registered(peal, ids[BAD:]) == ids[BAD:]
        for connection_id in ids[:BAD]:
            with pytest.raises(NotFound):
                peal.connection(connection_id)
        assert peal.publish("feed:a", 2).outcome == Outcome(sent=COUNT - BAD)

    def test_a_410_of_a_young_connection_is_not_believed(
        self, peal: Peal, server: ManagementServer, clock: Clock
    ) -> None:
        websocket.connect(peal, raw_events.connect("new=", {"userId": "bob"}, connectedAt=int(clock.now * 1000)))
        for _ in range(3):
            server.on("new=", GONE)
        assert peal.send_to_user("bob", text="hi") == Outcome(gone=1)
        assert registered(peal, ["new="]) == ["new="]
        assert peal.send_to_user("bob", text="hi") == Outcome(sent=1)
