"""The REST doors of channels: README, "Push from anywhere"."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from chalicelib.handlers import rest
from chalicelib.peal import Peal
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi

ROOM, MAP = "chat:lobby", "live:map"


@pytest.fixture
def alice(peal: Peal, api: FakeWebsocketApi) -> Client:
    alice = Client(peal, api, "alice=", userId="alice")
    for channel in (ROOM, MAP):
        alice.asks("subscribe", channel=channel)
    return alice


def post(peal: Peal, channel: str, body: object) -> tuple[int, Any]:
    return rest.answer(rest.post_to_channel, peal, quote(channel, safe=""), json.dumps(body).encode())


def error(status: int, code: str, message: str) -> tuple[int, Any]:
    return status, {"error": {"code": code, "message": message, "retryable": False}}


class TestPublishing:
    def test_one_message(self, peal: Peal, alice: Client) -> None:
        status, body = post(peal, ROOM, {"data": {"n": 1}, "messageId": "m-1"})
        assert status == 200
        assert body == {"channel": ROOM, "epoch": body["epoch"], "offset": 1, "sent": 1, "gone": 0, "failed": 0}
        (push,) = alice.api.frames(alice.id)
        assert (push["data"], push["from"], push["messageId"]) == ({"n": 1}, None, "m-1")

    @pytest.mark.parametrize("channel", [ROOM, MAP])
    def test_a_batch_is_published_in_order(self, peal: Peal, alice: Client, channel: str) -> None:
        status, body = post(peal, channel, {"messages": [{"data": n, "messageId": f"m-{n % 3}"} for n in range(4)]})
        assert (status, body["channel"]) == (200, channel)
        assert [message.get("sent") for message in body["messages"]] == [1, 1, 1, None]
        assert body["messages"][3]["offset"] == body["messages"][0]["offset"]
        assert alice.receives_in(channel) == [0, 1, 2]

    def test_servers_publish_where_clients_may_not(self, peal: Peal, alice: Client) -> None:
        alice.asks("subscribe", channel="user:alice")
        post(peal, "user:alice", {"data": 1})
        assert alice.receives_in("user:alice") == [1]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({}, "data must be given."),
            ({"messages": []}, "messages must be a list of 1 to 100 messages."),
            ({"messages": [{"data": 1}] * 101}, "messages must be a list of 1 to 100 messages."),
            ({"messages": "all"}, "messages must be a list of 1 to 100 messages."),
            ({"messages": [1]}, "messages must be objects with data and maybe a messageId."),
            ({"messages": [{"data": 1}, {}]}, "data must be given."),
        ],
    )
    def test_a_bad_request_is_explained_and_publishes_nothing(
        self, peal: Peal, alice: Client, body: object, message: str
    ) -> None:
        assert post(peal, ROOM, body) == error(400, "invalid", message)
        alice.receives_nothing()

    def test_a_batch_but_no_message_may_be_larger_than_a_frame(self, peal: Peal, alice: Client) -> None:
        large = "x" * 31_000
        assert post(peal, ROOM, {"messages": [{"data": large}] * 8})[0] == 200
        assert alice.receives_in(ROOM) == [large] * 8
        refusal = error(400, "too_large", "32001 bytes are more than the 32000 a frame may have.")
        assert post(peal, ROOM, {"data": "x" * 31_999}) == refusal
        assert post(peal, ROOM, {"data": "x" * 256_000})[1]["error"]["code"] == "too_large"


class TestReading:
    def test_a_channel(self, peal: Peal, alice: Client) -> None:
        epoch = post(peal, ROOM, {"data": 1})[1]["epoch"]
        status, body = rest.answer(rest.get_channel, peal, quote(ROOM, safe=""))
        assert (status, body) == (
            200,
            {
                "channel": ROOM,
                "epoch": epoch,
                "offset": 1,
                "count": 1,
                "connections": 1,
                "options": {
                    "historySize": 1_000,
                    "historyTtlSeconds": 86_400,
                    "presence": True,
                    "joinLeave": True,
                    "clientsPublish": True,
                    "echo": True,
                },
            },
        )
        body = rest.answer(rest.get_channel, peal, MAP)[1]
        assert body
        assert (body["epoch"], body["offset"], body["count"], body["connections"]) == (None, None, None, None)

    def test_its_members(self, peal: Peal, alice: Client) -> None:
        status, body = rest.answer(rest.get_members, peal, ROOM)
        assert (status, body) == (200, {"channel": ROOM, **peal.presence(ROOM).as_dict()})
        assert rest.answer(rest.get_members, peal, MAP)[0] == 400

    def test_its_history(self, peal: Peal, alice: Client) -> None:
        for n in range(1, 5):
            epoch = post(peal, ROOM, {"data": n})[1]["epoch"]

        def look(**query: str) -> list[Any]:
            status, body = rest.answer(rest.get_history, peal, ROOM, query)
            assert status == 200, body
            assert body
            return [publication["data"] for publication in body["publications"]]

        assert look() == [1, 2, 3, 4]
        assert look(limit="2", reverse="true") == [4, 3]
        assert look(epoch=epoch, offset="2", reverse="false") == [3, 4]

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ({"limit": "many"}, "limit must be a whole number from 0 to 1000."),
            ({"limit": "9" * 16}, "limit must be a whole number from 0 to 1000."),
            ({"reverse": "yes"}, "reverse must be true or false."),
            ({"offset": "1"}, "since must be an object with an epoch, a string, and an offset, a whole number."),
            ({"epoch": "x"}, "since must be an object with an epoch, a string, and an offset, a whole number."),
        ],
    )
    def test_a_bad_query_is_explained(self, peal: Peal, query: dict[str, str], message: str) -> None:
        assert rest.answer(rest.get_history, peal, ROOM, query) == error(400, "invalid", message)


class TestUnsubscribing:
    def test_all_connections_of_the_user_are_unsubscribed_and_notified(
        self, peal: Peal, alice: Client, api: FakeWebsocketApi
    ) -> None:
        tablet, bob = Client(peal, api, "tablet=", userId="alice"), Client(peal, api, "bob=", userId="bob")
        for client in (tablet, bob):
            client.asks("subscribe", channel=ROOM)
        for client in (alice, bob):
            api.frames(client.id)
        answer = rest.answer(rest.delete_member, peal, quote(ROOM, safe=""), "alice")
        assert answer == (200, {"channel": ROOM, "userId": "alice", "connections": 2})
        for client in (alice, tablet):
            assert {"type": "unsubscribed", "channel": ROOM} in api.frames(client.id)
        bob.receives({"type": "leave", "channel": ROOM, "user": "alice"})
        post(peal, ROOM, {"data": 1})
        alice.receives_nothing()
        assert rest.answer(rest.delete_member, peal, ROOM, "alice")[1] == {
            "channel": ROOM,
            "userId": "alice",
            "connections": 0,
        }


def test_closing_a_connection_ends_its_memberships_and_queues_a_leave(
    peal: Peal, alice: Client, jobs: FakeJobs
) -> None:
    assert rest.answer(rest.delete_connection, peal, alice.id, {}) == (204, None)
    assert [job for job, _ in jobs.put_jobs] == [
        {"job": "leave", "channel": ROOM, "userId": "alice", "connectionId": alice.id}
    ]
    assert [post(peal, channel, {"data": 1})[1]["sent"] for channel in (ROOM, MAP)] == [0, 0]
