"""A reconnect storm over real sockets: all clients lose their connection at once, and reconnect during publishes.

`tools/benchmarks/storm.py` has two thousand of them.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from localgateway.testing import Client, Gateway
from tests.conftest import PROJECT
from tests.support.dynamodb_way import Way

pytestmark = pytest.mark.slow

CHANNEL = "feed:storm"
COUNT = 40
REQUESTS = 20


@pytest.fixture
def gateway(way: Way) -> Iterator[Gateway]:
    """Peal on a gateway of its own, whose requests to DynamoDB are counted."""
    with Gateway(PROJECT) as gateway:
        yield gateway
        gateway.reset()


def subscribes(client: Client, recover: dict[str, Any] | None = None) -> dict[str, Any]:
    """The reply's data."""
    client.sends({"action": "subscribe", "id": 1, "channel": CHANNEL, "recover": recover})
    reply = client.receives({"type": "reply", "id": 1}, within=60)
    return dict(reply["data"])


def receives_until(client: Client, last: int, offset: int) -> list[int]:
    """The offsets of the publications that the client is pushed after that offset, up to the last."""
    offsets = []
    while offset < last:
        offset = client.receives({"type": "publication"}, within=60)["offset"]
        offsets.append(offset)
    return offsets


def test_all_reconnect_and_get_each_publication_once_and_in_order(gateway: Gateway, way: Way) -> None:
    first = [gateway.connect(f"u_{n}") for n in range(COUNT)]
    positions = [subscribes(client) for client in first]
    all_are_in, all_is_published = threading.Event(), threading.Event()
    published: list[int] = []

    def publish() -> None:
        answer = gateway.call("POST", f"/channels/{CHANNEL}/messages", {"data": "x"})
        assert answer.status == 200
        published.append(answer.body["offset"])

    def publish_on() -> None:
        while not all_are_in.is_set():
            publish()
        publish()

    def reconnects(n: int) -> list[int]:
        client = gateway.connect(f"u_{n}")
        back = subscribes(client, {"epoch": positions[n]["epoch"], "offset": positions[n]["offset"]})
        assert back["recovered"] is True
        missed = [publication["offset"] for publication in back["publications"]]
        is_in.release()
        assert all_is_published.wait(60)
        return missed + receives_until(client, published[-1], back["offset"])

    is_in = threading.Semaphore(0)
    before = len(way.asked)
    for client in first:
        gateway.cut(client.connection_id)
    for _ in range(3):
        publish()
    publisher = threading.Thread(target=publish_on)
    publisher.start()
    with ThreadPoolExecutor(COUNT) as threads:
        receiving = [threads.submit(reconnects, n) for n in range(COUNT)]
        for _ in range(COUNT):
            assert is_in.acquire(timeout=60)
        all_are_in.set()
        publisher.join()
        all_is_published.set()
    assert [one.result() for one in receiving] == [published] * COUNT
    assert published == list(range(1, len(published) + 1))
    gateway.settle()
    ran = Counter(invocation.function for invocation in gateway.invocations)
    assert ran["websocket_connect"] == ran["websocket_message"] == 2 * COUNT
    assert ran["websocket_disconnect"] == COUNT
    assert {invocation.outcome for invocation in gateway.invocations} == {"ok"}
    registered = gateway.call("GET", "/connections?limit=1000").body["connections"]
    assert len(registered) == COUNT
    # The requests per client, and per publication, do not grow with the number of clients.
    assert len(way.asked) - before < REQUESTS * COUNT + 10 * len(published)
