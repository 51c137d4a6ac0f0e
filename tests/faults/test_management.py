"""@connections refuses, fails, hangs or lies: real sends to a server that answers so, and what becomes of each.

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

from chalicelib import wiring
from chalicelib.aws.management import ManagementClient
from chalicelib.aws.sigv4 import Credentials
from chalicelib.delivery.audience import Outcome
from chalicelib.errors import NotFound
from chalicelib.handlers import websocket
from chalicelib.peal import Service
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.settings import Settings
from tests.conftest import Clock
from tests.support import raw_events
from tests.support.fakes import FakeJobs, does
from tests.support.management_server import ManagementServer, Move, answer, closes, pauses, refuses, resets, serving

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
) -> Iterator[Service]:
    """The whole service, which sends to the server and waits less long for it than it would for AWS."""
    settings = Settings(
        table_name, allow_anonymous=True, anonymous_grants=EVERYTHING, management_endpoint=server.endpoint
    )
    api = WebsocketAPI()
    peal = wiring.build(settings, api, session, clock, jobs=jobs)
    limits = ManagementClient.limits._replace(answer_seconds=PATIENCE_SECONDS)
    client = ManagementClient(server.endpoint, "eu-central-1", lambda: Credentials("A", "s", None), None, limits=limits)
    api.session = SimpleNamespace(region_name="eu-central-1", client=lambda *_, **__: client)
    yield peal
    client.close()


Crowd = Callable[[str], list[str]]


@pytest.fixture
def crowd(peal: Service, server: ManagementServer) -> Crowd:
    """Connections that are all in one channel."""

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
    """How often that was asked of each connection so far."""
    return Counter(request.connection_id for request in server.requests if request.method == method)


def registered(peal: Service, ids: list[str]) -> list[str]:
    return [one.connection_id for one in map(peal.connection, ids)]


@pytest.mark.parametrize("refusal", [THROTTLED, BROKEN], ids=["429", "500"])
def test_in_a_storm_in_which_every_send_is_refused_twice_everyone_is_sent_it_once(
    refusal: bytes, crowd: Crowd, peal: Service, server: ManagementServer
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
    """Headers come byte by byte, for as long as anybody waits."""
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            time.sleep(0.05)
            connection.sendall(b"a")


# Of an answer as much as comes before the connection breaks.
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
        """Connections of which no request is answered as it should."""
        ids = [f"c{n:03d}=" for n in range(0, COUNT, COUNT // BAD)]
        for connection_id in ids:
            server.moves[connection_id] = [KINDS[request.param]] * 40
        return ids

    def test_they_have_failed_and_are_kept_and_the_others_are_sent_it_once_and_do_not_wait(
        self, bad: list[str], crowd: Crowd, peal: Service, server: ManagementServer
    ) -> None:
        ids = crowd("live:a")
        began_at = time.monotonic()
        assert peal.publish("live:a", 1).outcome == Outcome(sent=COUNT - BAD, failed=BAD)
        assert time.monotonic() - began_at < BAD * PATIENCE_SECONDS, "they wait for each other"
        posts = asked(server, "POST")
        assert {connection_id for connection_id, times in posts.items() if times == 1} >= set(ids) - set(bad)
        others = [request.connection_id for request in server.requests if request.connection_id not in bad]
        assert len(others) == COUNT - BAD
        assert asked(server, "DELETE") == {}
        assert registered(peal, ids) == ids

    def test_where_there_is_history_they_are_sent_away_and_the_others_are_sent_it_once(
        self, bad: list[str], crowd: Crowd, peal: Service, server: ManagementServer, jobs: FakeJobs
    ) -> None:
        ids = crowd("feed:a")
        assert peal.publish("feed:a", 1).outcome == Outcome(sent=COUNT - BAD, failed=BAD)
        assert asked(server, "DELETE").keys() == set(bad)
        # What cannot be closed either does not count any more, and is closed as soon as that can be.
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
    def test_once_for_everyone_costs_a_second_send_each_and_nothing_else(
        self, crowd: Crowd, peal: Service, server: ManagementServer
    ) -> None:
        ids = crowd("feed:a")
        for connection_id in ids:
            server.on(connection_id, GONE)
        assert peal.publish("feed:a", 1).outcome == Outcome(sent=COUNT)
        assert asked(server, "POST") == dict.fromkeys(ids, 2)
        assert asked(server, "DELETE") == {}
        assert registered(peal, ids) == ids

    def test_twice_is_believed_and_who_is_there_all_the_same_is_sent_away_to_come_back(
        self, crowd: Crowd, peal: Service, server: ManagementServer
    ) -> None:
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

    def test_of_a_connection_that_has_just_begun_is_not_believed(
        self, peal: Service, server: ManagementServer, clock: Clock
    ) -> None:
        websocket.connect(peal, raw_events.connect("new=", {"userId": "bob"}, connectedAt=int(clock.now * 1000)))
        for _ in range(3):
            server.on("new=", GONE)
        assert peal.send_to_user("bob", text="hi") == Outcome(gone=1)
        assert registered(peal, ["new="]) == ["new="]
        assert peal.send_to_user("bob", text="hi") == Outcome(sent=1)
