"""Who dies unheard leaves nothing behind, row or membership, whichever function meets it first."""

import json
from typing import Any

import pytest

from chalicelib.errors import NotFound, TableError
from chalicelib.handlers import jobs as worker
from chalicelib.handlers import rest
from chalicelib.limits import LIMITS, Limits
from chalicelib.peal import Peal
from chalicelib.store.log import Log
from chalicelib.store.members import Members
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone

CHANNEL = "chat:1"
ADVANCE = {"Records": [{"body": json.dumps({"job": "advance", "channel": CHANNEL, "shard": 0})}]}


@pytest.fixture
def limits() -> Limits:
    """The clock stands still, so waiting for it would take for ever."""
    return LIMITS._replace(publication_seconds=0)


@pytest.fixture
def alice(peal: Peal, api: FakeWebsocketApi) -> Client:
    return subscribed(Client(peal, api, "a=", userId="u_alice"))


@pytest.fixture
def bob(peal: Peal, api: FakeWebsocketApi, alice: Client, jobs: FakeJobs) -> Client:
    """Subscribed like Alice, and from now on as good as dead."""
    bob = subscribed(Client(peal, api, "b=", userId="u_bob"))
    api.fails["b="] = [gone(), gone()]
    jobs.take()
    return bob


def subscribed(client: Client) -> Client:
    client.asks("subscribe", channel=CHANNEL)
    return client


def leaves_nothing(peal: Peal, jobs: FakeJobs, bob: Client) -> None:
    with pytest.raises(NotFound):
        peal.connection(bob.id)
    status, answer = rest.answer(rest.get_members, peal, CHANNEL)
    assert (status, [member["userId"] for member in answer["members"]]) == (200, ["u_alice"])
    leave = {"job": "leave", "channel": CHANNEL, "userId": "u_bob", "connectionId": bob.id}
    assert jobs.take() == [leave]


def test_a_frame_finds_it_gone(peal: Peal, jobs: FakeJobs, alice: Client, bob: Client) -> None:
    alice.asks("publish", channel=CHANNEL, data=1)
    leaves_nothing(peal, jobs, bob)


def test_a_backend_finds_it_gone(peal: Peal, jobs: FakeJobs, bob: Client) -> None:
    assert rest.answer(rest.post_to_channel, peal, CHANNEL, b'{"data":1}')[0] == 200
    leaves_nothing(peal, jobs, bob)


def test_a_job_finds_it_gone(
    peal: Peal, jobs: FakeJobs, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch, Members, "receivers")
    alice.sends({"action": "publish", "channel": CHANNEL, "data": 1})
    (left_by_the_publisher,) = jobs.take()
    worker.work(peal, {"Records": [{"body": json.dumps(left_by_the_publisher)}]})
    leaves_nothing(peal, jobs, bob)
    assert alice.receives_in(CHANNEL) == [1]


def test_a_job_fills_the_hole_that_a_publisher_left(peal: Peal, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once(monkeypatch, Log, "write")
    alice.sends({"action": "publish", "channel": CHANNEL, "data": "lost"})
    worker.work(peal, ADVANCE)
    history = alice.asks("history", channel=CHANNEL)
    assert (history["offset"], history["publications"]) == (1, [])


def fail_once(monkeypatch: pytest.MonkeyPatch, of: type, method: str) -> None:
    """The method fails, as where DynamoDB does not answer, and is well again."""
    whole = getattr(of, method)

    def fail(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(of, method, whole)
        raise TableError("Query", "InternalServerError")

    monkeypatch.setattr(of, method, fail)
