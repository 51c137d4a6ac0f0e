"""What each command does and prints, on the project that the local gateway runs."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from localgateway.faults import parse_fault
from localgateway.testing import Client, Gateway
from tests.pealctl.conftest import SECONDS, Done

Say = Callable[..., Done]


def subscribed(gateway: Gateway, user: str, channel: str) -> Client:
    """Return a client that is a member of the channel."""
    client = gateway.connect(user, device="phone")
    client.sends({"action": "subscribe", "id": 1, "channel": channel})
    client.receives({"type": "reply"})
    # The reply may come before the membership is written.
    deadline = time.monotonic() + SECONDS
    while user not in [one["userId"] for one in gateway.call("GET", f"/channels/{channel}/members").body["members"]]:
        assert time.monotonic() < deadline, f"{user} is not in {channel}"
        time.sleep(0.02)
    return client


def printed(done: Done) -> list[Any]:
    """Return what a command with --json has printed, one object a line."""
    assert (done.status, done.err) == (0, "")
    return [json.loads(line) for line in done.lines]


class TestConnections:
    def test_everyone_with_their_users(self, gateway: Gateway, peal_says: Say) -> None:
        alice, stranger = gateway.connect("u_1"), gateway.connect()
        done = peal_says("connections")
        assert (done.status, done.err) == (0, "")
        assert sorted(done.lines) == sorted([f"{alice.connection_id}  u_1", f"{stranger.connection_id}  -"])

    def test_as_json(self, gateway: Gateway, peal_says: Say) -> None:
        alice = gateway.connect("u_1")
        assert printed(peal_says("connections", "--json")) == [
            {"connectionId": alice.connection_id, "userId": "u_1"},
        ]

    @pytest.mark.slow
    def test_page_by_page(self, gateway: Gateway, peal_says: Say, dynamodb: Any) -> None:
        """More than one page of rows, written as $connect writes them."""
        ids = [f"c{number:04}" for number in range(1_005)]
        for start in range(0, len(ids), 25):
            puts = [{"PutRequest": {"Item": row(one)}} for one in ids[start : start + 25]]
            dynamodb.batch_write_item(RequestItems={"peal-local-connections": puts})
        done = peal_says("connections", "--json")
        assert sorted(one["connectionId"] for one in printed(done)) == ids

    def test_one_users_connections_in_detail(self, gateway: Gateway, peal_says: Say) -> None:
        alice = subscribed(gateway, "u_1", "chat:lobby")
        gateway.connect("u_2")
        (line,) = peal_says("connections", "--user", "u_1").lines
        connection_id, user, connected_at, device, channels = line.split()
        assert (connection_id, user, device, channels) == (alice.connection_id, "u_1", "phone", "chat:lobby")
        assert connected_at.endswith("Z")
        (one,) = printed(peal_says("connections", "--user", "u_1", "--json"))
        assert one == printed(peal_says("connection", alice.connection_id, "--json"))[0]

    def test_nobody(self, peal_says: Say) -> None:
        assert peal_says("connections") == peal_says("connections", "--user", "u_1") == Done(0, "", "")

    def test_one_connection(self, gateway: Gateway, peal_says: Say) -> None:
        alice = gateway.connect("u_1", query={"attributes": '{"room":"a"}'})
        done = peal_says("connection", alice.connection_id)
        record = dict(line.split(None, 1) for line in done.lines)
        assert (record["connectionId"], record["userId"]) == (alice.connection_id, "u_1")
        assert (record["attributes"], record["channels"], record["deviceId"]) == ('{"room":"a"}', "-", "-")

    def test_an_unknown_connection(self, peal_says: Say) -> None:
        assert peal_says("connection", "nobody=") == Done(1, "", "There is no such connection.\n")


def row(connection_id: str) -> dict[str, Any]:
    texts = {"PK": f"CONN#{connection_id}", "SK": "CONN", "GSI1PK": "USER#u_1", "GSI1SK": f"CONN#{connection_id}"}
    return {name: {"S": text} for name, text in texts.items()} | {"ttl": {"N": "9999999999"}}


class TestChannels:
    def test_members(self, gateway: Gateway, peal_says: Say) -> None:
        subscribed(gateway, "u_1", "chat:lobby")
        assert peal_says("members", "chat:lobby") == Done(0, "u_1  1  -\n", "")
        (here,) = printed(peal_says("members", "chat:lobby", "--json"))
        assert here == {
            "channel": "chat:lobby",
            "members": [{"userId": "u_1", "connections": 1, "attributes": {}}],
            "count": 1,
            "connections": 1,
            "complete": True,
        }

    @pytest.mark.slow
    def test_too_many_members_to_list(self, gateway: Gateway, peal_says: Say, dynamodb: Any) -> None:
        for start in range(0, 400, 25):
            puts = [{"PutRequest": {"Item": member(number)}} for number in range(start, start + 25)]
            dynamodb.batch_write_item(RequestItems={"peal-local-connections": puts})
        done = peal_says("members", "chat:lobby")
        assert done == Done(0, "", "Too many to list: 400 users with 400 connections.\n")

    def test_position_and_options(self, gateway: Gateway, peal_says: Say) -> None:
        peal_says("send", "--channel", "chat:lobby", "hi")
        record = dict(line.split(None, 1) for line in peal_says("channel", "chat:lobby").lines)
        assert (record["channel"], record["offset"], record["count"]) == ("chat:lobby", "1", "0")
        assert (record["historySize"], record["presence"]) == ("1000", "true")
        (described,) = printed(peal_says("channel", "chat:lobby", "--json"))
        assert described["options"]["historySize"] == 1_000

    def test_an_impossible_channel(self, peal_says: Say) -> None:
        done = peal_says("channel", "nowhere:lobby")
        assert done == Done(1, "", "channel must be in one of the namespaces chat, feed, live, user.\n")

    def test_history(self, gateway: Gateway, peal_says: Say) -> None:
        publish(gateway, "chat:lobby", range(25))
        done = peal_says("history", "chat:lobby")
        assert [line.split("  ")[1:] for line in done.lines] == [
            [str(number + 1), "(server)", str(number)] for number in range(5, 25)
        ]
        few = printed(peal_says("history", "chat:lobby", "-n", "2", "--json"))
        every = printed(peal_says("history", "chat:lobby", "--all", "--json"))
        assert [one["data"] for one in every] == list(range(25))
        assert every[-2:] == few
        assert few[1].keys() == {"type", "channel", "epoch", "offset", "data", "from", "time", "messageId"}
        assert (few[1]["type"], few[1]["channel"]) == ("publication", "chat:lobby")

    @pytest.mark.slow
    def test_history_of_more_than_a_page(self, gateway: Gateway, peal_says: Say) -> None:
        large = [f"{number}" + "x" * 9_999 for number in range(8)]
        publish(gateway, "feed:news", large)
        for how_many in (["--all"], ["-n", "8"], ["-n", "1000"]):
            every = printed(peal_says("history", "feed:news", "--json", *how_many))
            assert [one["data"] for one in every] == large
        assert [one["data"] for one in printed(peal_says("history", "feed:news", "--json", "-n", "5"))] == large[3:]

    def test_publishers(self, gateway: Gateway, peal_says: Say) -> None:
        alice, stranger = gateway.connect("u_1"), gateway.connect()
        for client in (alice, stranger):
            client.sends({"action": "publish", "id": 1, "channel": "chat:lobby", "data": "hi"})
            client.receives({"type": "reply"})
        names = [line.split("  ")[2:] for line in peal_says("history", "chat:lobby").lines]
        assert names == [["u_1", '"hi"'], [stranger.connection_id, '"hi"']]

    def test_a_channel_without_history(self, peal_says: Say) -> None:
        done = peal_says("history", "live:x")
        assert done == Done(1, "", "channel is in a namespace without history.\n")

    def test_control_characters_are_escaped(self, gateway: Gateway, peal_says: Say) -> None:
        evil = "\x1b[2J \x9b31m \x07 \u202e \n"
        publish(gateway, "chat:lobby", [evil])
        for done in (peal_says("history", "chat:lobby"), peal_says("history", "chat:lobby", "--json")):
            assert done.out.removesuffix("\n").isprintable()
        (one,) = printed(peal_says("history", "chat:lobby", "--json"))
        assert one["data"] == evil


def publish(gateway: Gateway, channel: str, messages: Any) -> None:
    for message in messages:
        assert gateway.call("POST", f"/channels/{channel}/messages", {"data": message}).status == 200


def member(number: int) -> dict[str, Any]:
    texts = {"PK": "CHAN#chat:lobby#0", "SK": f"CONN#c{number}", "userId": f"u_{number:0100}", "attributes": "{}"}
    return {name: {"S": text} for name, text in texts.items()} | {"ttl": {"N": "9999999999"}}


class TestSending:
    def test_to_a_user(self, gateway: Gateway, peal_says: Say) -> None:
        alice = gateway.connect("u_1")
        assert peal_says("send", "--user", "u_1", "hi") == Done(0, "sent 1, gone 0, failed 0\n", "")
        alice.receives({"type": "message", "from": None, "text": "hi", "data": None})

    def test_to_a_connection_text_and_data(self, gateway: Gateway, peal_says: Say) -> None:
        alice = gateway.connect("u_1")
        done = peal_says("send", "--connection", alice.connection_id, "hi", "--data", '{"x":[1,null]}', "--json")
        assert printed(done) == [{"sent": 1, "gone": 0, "failed": 0}]
        alice.receives({"type": "message", "text": "hi", "data": {"x": [1, None]}})

    def test_to_everyone(self, gateway: Gateway, peal_says: Say) -> None:
        clients = [gateway.connect("u_1"), gateway.connect()]
        assert peal_says("send", "--everyone", "back soon").out == "sent 2, gone 0, failed 0\n"
        assert peal_says("send", "--everyone").out == "sent 2, gone 0, failed 0\n"
        for client in clients:
            client.receives({"type": "broadcast", "note": "back soon"})
            client.receives({"type": "broadcast", "note": None})

    def test_to_a_channel(self, gateway: Gateway, peal_says: Say) -> None:
        alice = subscribed(gateway, "u_1", "chat:lobby")
        once = ("send", "--channel", "chat:lobby", "--data", "null", "--message-id", "m-1")
        done = peal_says(*once)
        epoch = alice.receives({"type": "publication", "data": None, "messageId": "m-1", "offset": 1})["epoch"]
        assert done.out == f"sent 1, gone 0, failed 0; offset 1 of epoch {epoch}\n"
        assert peal_says(*once).out == f"queued: another function delivers it; offset 1 of epoch {epoch}\n"
        alice.receives_nothing()

    def test_to_a_channel_without_history(self, peal_says: Say) -> None:
        assert peal_says("send", "--channel", "live:x", "hi").out == "sent 0, gone 0, failed 0\n"

    def test_standard_input(self, gateway: Gateway, peal_says: Say) -> None:
        """Keeps secrets out of lists of processes and the shell's history."""
        alice = gateway.connect("u_1")
        assert peal_says("send", "--user", "u_1", "-", stdin="grüße\n".encode()).status == 0
        assert peal_says("send", "--user", "u_1", "--data", "-", stdin=b'{"a":"b"}').status == 0
        alice.receives({"text": "grüße"})
        alice.receives({"text": None, "data": {"a": "b"}})

    def test_to_a_user_without_connections(self, peal_says: Say) -> None:
        assert peal_says("send", "--user", "u_9", "hi") == Done(0, "sent 0, gone 0, failed 0\n", "")
        assert peal_says("send", "--connection", "c=", "hi") == Done(1, "", "There is no such connection.\n")

    def test_a_failed_send_makes_the_status_1(self, gateway: Gateway, peal_says: Say) -> None:
        gateway.connect("u_1")
        gateway.faults.arm(parse_fault("throttle=10"))
        assert peal_says("send", "--user", "u_1", "hi") == Done(1, "sent 0, gone 0, failed 1\n", "")

    def test_a_frame_that_is_too_large(self, peal_says: Say) -> None:
        done = peal_says("send", "--user", "u_1", "-", stdin=b"x" * 32_000)
        assert done == Done(1, "", "32012 bytes are more than the 32000 a frame may have.\n")


class TestKicking:
    def test_a_user(self, gateway: Gateway, peal_says: Say) -> None:
        clients = [gateway.connect("u_1", device=device) for device in ("phone", "phone", "laptop")]
        done = peal_says("kick", "--user", "u_1", "--device", "phone", "--code", "moved", "--reason", "You moved.")
        assert done == Done(0, "closed 2, failed 0\n", "")
        for client in clients[:2]:
            client.receives({"type": "goodbye", "code": "moved", "reason": "You moved."})
            client.is_closed_with(1000)
        clients[2].receives_nothing()
        assert printed(peal_says("kick", "--user", "u_1", "--json")) == [{"closed": 1, "failed": 0}]

    def test_a_connection(self, gateway: Gateway, peal_says: Say) -> None:
        alice = gateway.connect("u_1")
        assert peal_says("kick", "--connection", alice.connection_id) == Done(0, "closed 1, failed 0\n", "")
        alice.receives({"type": "goodbye", "code": "closed", "reason": None})
        gateway.settle()
        done = peal_says("kick", "--connection", alice.connection_id)
        assert done == Done(1, "", "There is no such connection.\n")


class TestTickets:
    @pytest.mark.parametrize("options", [[], ["--device", "phone", "--expires-in", "600"]])
    def test_it_admits_that_user_once(self, gateway: Gateway, peal_says: Say, options: list[str]) -> None:
        done = peal_says("ticket", "u_7", *options)
        alice = gateway.connect(query={"ticket": done.out.strip()})
        alice.sends({"action": "whoami", "id": 1})
        me = alice.receives()["data"]
        assert (me["userId"], me["deviceId"]) == ("u_7", "phone" if options else None)
        assert (me["expiresAt"] is None) is not bool(options)
        assert done.err.startswith("With ?ticket= it lets u_7 connect once, until ")

    def test_with_grants(self, gateway: Gateway, peal_says: Say) -> None:
        grants = '{"channels":{"feed:*":["subscribe"]}}'
        issued = json.loads(peal_says("ticket", "u_7", "--grants", grants, "--json").out)
        assert issued.keys() == {"ticket", "expiresAt"}
        alice = gateway.connect(query={"ticket": issued["ticket"]})
        for channel, kind in (("feed:news", "reply"), ("chat:lobby", "error")):
            alice.sends({"action": "subscribe", "id": 1, "channel": channel})
            alice.receives({"type": kind})

    def test_invalid_grants(self, peal_says: Say) -> None:
        done = peal_says("ticket", "u_7", "--grants", '{"userId":"u_8"}')
        assert done == Done(1, "", "--grants has userId, which is not a grant: see docs/PROTOCOL.md.\n")
        assert peal_says("ticket", "u_7", "--grants", '{"users":[7]}').status == 1
