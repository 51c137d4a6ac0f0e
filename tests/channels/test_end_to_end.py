"""Channels over real sockets, a real queue and worker processes: what a client with a bad network gets."""

from typing import Any

import pytest

from localgateway.testing import Client, Gateway

pytestmark = pytest.mark.slow

ROOM = "chat:lobby"


def ask(client: Client, action: str, **fields: Any) -> Any:
    """Send a frame and return the data of its reply; skip the pushes before it."""
    client.sends({"action": action, "id": action, **fields})
    return until(client, "reply")["data"]


def until(client: Client, kind: str, within: float = 10) -> Any:
    """Return the next frame of that type; skip others."""
    while (frame := client.receives(within=within))["type"] != kind:
        assert frame["type"] != "error", frame
    return frame


def position(frame: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": frame["epoch"], "offset": frame["offset"]}


def texts(publications: list[dict[str, Any]]) -> list[Any]:
    return [publication["data"] for publication in publications]


def test_a_client_that_loses_its_connection_misses_nothing(gateway: Gateway) -> None:
    alice, bob = gateway.connect("alice"), gateway.connect("bob")
    for client in (alice, bob):
        ask(client, "subscribe", channel=ROOM)
    for n in range(3):
        alice.sends({"action": "publish", "channel": ROOM, "data": n})
        last = until(bob, "publication")
        assert last["data"] == n
    bob.socket.socket.close()
    path = "/channels/chat%3Alobby"
    for n in range(3, 8):
        assert gateway.call("POST", f"{path}/messages", {"data": n}).status == 200
    back = ask(gateway.connect("bob"), "subscribe", channel=ROOM, recover=position(last))
    assert (back["recovered"], texts(back["publications"])) == (True, [3, 4, 5, 6, 7])
    assert gateway.call("GET", path).body["offset"] == 8
    assert texts(gateway.call("GET", f"{path}/history?limit=2").body["publications"]) == [0, 1]


def test_a_client_closed_after_two_hours_reconnects_and_misses_nothing(gateway: Gateway) -> None:
    bob = gateway.connect("bob")
    joined = ask(bob, "subscribe", channel="feed:news")
    for _ in range(13):
        gateway.advance(540)
        ask(bob, "ping")
    gateway.advance(200)
    bob.is_closed_with(1001)
    gateway.call("POST", "/channels/feed:news/messages", {"messages": [{"data": n} for n in range(3)]})
    back = ask(gateway.connect("bob"), "subscribe", channel="feed:news", recover=position(joined))
    assert texts(back["publications"]) == [0, 1, 2]


def test_concurrent_publications_reach_everyone_in_one_order(gateway: Gateway) -> None:
    clients = [gateway.connect(f"u_{n}") for n in range(6)]
    for client in clients:
        ask(client, "subscribe", channel="chat:busy")
    for n in range(5):
        for client in clients:
            client.sends({"action": "publish", "channel": "chat:busy", "data": n})
    for client in clients:
        assert [until(client, "publication")["offset"] for _ in range(30)] == list(range(1, 31))


def test_members_get_a_leave_once_the_grace_period_is_over(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves(client: Client, grace_seconds: int) -> None:
        """Close a client's connection and let its $disconnect run, with this grace period."""
        departures = gateway.app.peal.departures
        monkeypatch.setattr(departures, "limits", departures.limits._replace(grace_seconds=grace_seconds))
        client.closes()
        gateway.settle()

    alice, bob, carol = gateway.connect("alice"), gateway.connect("bob"), gateway.connect("carol")
    for client in (alice, bob, carol):
        ask(client, "subscribe", channel=ROOM)
    leaves(bob, grace_seconds=600)
    assert ask(alice, "presence", channel=ROOM)["count"] == 3
    leaves(carol, grace_seconds=1)
    assert until(alice, "leave", within=20)["user"] == "carol"
    # The leave is sent before the membership is deleted: a worker that dies in between repeats it.
    gateway.settle()
    assert ask(alice, "presence", channel=ROOM)["count"] == 2


def test_a_client_unsubscribed_by_a_server_is_notified(gateway: Gateway) -> None:
    bob = gateway.connect("bob")
    ask(bob, "subscribe", channel=ROOM)
    assert gateway.call("DELETE", "/channels/chat%3Alobby/members/bob").body["connections"] == 1
    assert until(bob, "unsubscribed")["channel"] == ROOM
    assert gateway.call("POST", "/channels/chat%3Alobby/messages", {"data": 1}).body["sent"] == 0
