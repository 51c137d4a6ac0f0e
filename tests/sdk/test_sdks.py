"""docs/PROTOCOL.md, "Official SDKs": both run as they are published, against the local gateway.

What an SDK promises of a subscription's states is at centrifugal.dev/docs/transports/client_api.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jwt
import pytest

from localgateway.testing import Gateway
from tests.conftest import PROJECT
from tests.sdk.sdks import DRIVERS, HERE, SECONDS, CallFailed, Sdk, SdkClient

pytestmark = pytest.mark.slow

ROOM = "chat:lobby"
SECRET = "the-secret-of-the-tests-with-sdks"
Open = Callable[..., SdkClient]


@pytest.fixture(scope="module", params=DRIVERS)
def sdk(request: pytest.FixtureRequest) -> Iterator[Sdk]:
    """One SDK after the other."""
    if request.param == "javascript" and not (shutil.which("node") and (HERE / "node_modules").exists()):
        pytest.skip("needs Node.js and the JavaScript SDK: make sdk")
    sdk = Sdk(request.param)
    yield sdk
    sdk.stop()


@pytest.fixture
def open(sdk: Sdk, gateway: Gateway) -> Iterator[Open]:
    """Opens a client of a user, anonymous ones too, as on the desk."""

    def open(user: str | None = None, **options: Any) -> SdkClient:
        query = f"?userId={user}" if user else ""
        client = sdk.open(gateway.url + query, **options)
        client.id = client.sees("connected")["id"]
        return client

    yield open
    sdk.close_all()


def publish(gateway: Gateway, channel: str, *data: Any) -> None:
    body = {"messages": [{"data": each} for each in data]}
    assert gateway.call("POST", f"/channels/{channel}/messages", body).status == 200


def members(gateway: Gateway, channel: str) -> int:
    gateway.settle()
    return int(gateway.call("GET", f"/channels/{channel}/members").body["connections"])


class TestConnecting:
    def test_a_client_goes_through_the_states_that_its_sdk_documents(self, open: Open, gateway: Gateway) -> None:
        alice = open("alice")
        assert gateway.call("GET", f"/connections/{alice.id}").body["codec"] == "centrifuge"
        alice.call("disconnect")
        alice.sees("disconnected", code=0)
        alice.went_through("connecting", "connected", "disconnected")
        alice.call("connect")
        alice.sees("connected")

    def test_nobody_sends_pings(self, open: Open, gateway: Gateway) -> None:
        alice = open("alice")
        assert alice.call("rpc", method="ping") == {}
        assert [ran.function for ran in gateway.invocations] == ["websocket_connect"] + ["websocket_message"] * 2


class TestSubscribing:
    def test_a_subscription_goes_through_the_states_that_its_sdk_documents(self, open: Open) -> None:
        alice = open("alice")
        alice.went_through("connecting", "connected")
        alice.subscribes(ROOM, recoverable=True, positioned=True, wasRecovering=False, recovered=False)
        alice.call("unsubscribe", channel=ROOM)
        alice.sees("unsubscribed", channel=ROOM, code=0)
        alice.subscribes(ROOM)
        alice.went_through("subscribing", "subscribed", "unsubscribed", "subscribing", "subscribed")

    @pytest.mark.parametrize(("channel", "code"), [("nowhere:1", 102), ("chat", 102), ("user:bob", 103)])
    def test_one_that_is_refused_is_unsubscribed_and_says_why(self, open: Open, channel: str, code: int) -> None:
        alice = open("alice")
        alice.call("subscribe", channel=channel)
        alice.sees("unsubscribed", channel=channel, code=code)
        assert alice.call("state", channel=channel) == "unsubscribed"

    def test_publications_reach_both_kinds_of_client_in_one_order(self, open: Open, gateway: Gateway) -> None:
        alice, bob = open("alice"), gateway.connect("bob")
        alice.subscribes(ROOM)
        bob.sends({"action": "subscribe", "id": 1, "channel": ROOM})
        bob.receives({"type": "reply", "id": 1})
        alice.sees("join", channel=ROOM, user="bob", of=bob.connection_id)
        alice.call("publish", channel=ROOM, data={"text": "hi"})
        # Who subscribed just before alice's join was told hears of it first.
        while (frame := bob.receives())["type"] == "join":
            pass
        assert (frame["data"], frame["offset"], frame["from"]["userId"]) == ({"text": "hi"}, 1, "alice")
        alice.sees("publication", channel=ROOM, data={"text": "hi"}, offset=1, user="alice")
        bob.sends({"action": "publish", "channel": ROOM, "data": None, "messageId": "m-1"})
        alice.sees("publication", channel=ROOM, data=None, offset=2, user="bob", tags={"messageId": "m-1"})
        publish(gateway, ROOM, 1)
        alice.sees("publication", channel=ROOM, data=1, offset=3, user=None)

    def test_an_unsubscribed_client_gets_nothing_more_and_others_a_leave(self, open: Open, gateway: Gateway) -> None:
        alice, bob = open("alice"), open("bob")
        bob.subscribes(ROOM)
        alice.subscribes(ROOM)
        bob.sees("join", user="alice", of=alice.id)
        alice.call("unsubscribe", channel=ROOM)
        bob.sees("leave", user="alice", of=alice.id)
        assert gateway.call("POST", f"/channels/{ROOM}/messages", {"data": 1}).body["sent"] == 1

    def test_the_last_request_of_an_app_wins_however_fast_it_asks(self, open: Open, gateway: Gateway) -> None:
        # API Gateway hands frames on at once, and SDKs do not wait for answers.
        alice = open("alice")
        for channel, calls in {
            "chat:in": ["subscribe", "unsubscribe", "subscribe"],
            "chat:out": ["subscribe", "unsubscribe"],
        }.items():
            for call in calls:
                alice.begin(call, channel=channel)
        deadline = time.monotonic() + SECONDS
        while (
            alice.call("state", channel="chat:in") != "subscribed"
            or members(gateway, "chat:in") != 1
            or members(gateway, "chat:out") != 0
        ):
            assert time.monotonic() < deadline
        publish(gateway, "chat:in", *range(3))
        alice.sees_published("chat:in", *range(3))

    def test_a_server_can_unsubscribe_and_the_sdk_does_not_come_back(self, open: Open, gateway: Gateway) -> None:
        alice = open("alice")
        alice.subscribes(ROOM)
        assert gateway.call("DELETE", f"/channels/{ROOM}/members/alice").body["connections"] == 1
        alice.sees("unsubscribed", channel=ROOM, code=2000)

    def test_without_history_there_is_nothing_to_recover(self, open: Open, gateway: Gateway) -> None:
        alice = open("alice")
        alice.subscribes("live:map", recoverable=False, positioned=False)
        publish(gateway, "live:map", {"x": 1})
        alice.sees("publication", channel="live:map", data={"x": 1}, offset=0)


class TestAsking:
    def test_presence(self, open: Open) -> None:
        alice, again, bob = open("alice"), open("alice"), open("bob")
        for client in (alice, again, bob):
            client.subscribes(ROOM)
        here = {alice.id: ["alice", None], again.id: ["alice", None], bob.id: ["bob", None]}
        assert alice.call("presence", channel=ROOM) == here
        assert alice.call("presenceStats", channel=ROOM) == [3, 2]

    def test_history(self, open: Open, gateway: Gateway) -> None:
        alice = open("alice")
        publish(gateway, ROOM, *range(5))
        page = alice.call("history", channel=ROOM, limit=2)
        assert [each["data"] for each in page["publications"]] == [0, 1]
        since = {"epoch": page["epoch"], "offset": 2}
        later = alice.call("history", channel=ROOM, limit=100, since=since)
        assert [each["data"] for each in later["publications"]] == [2, 3, 4]
        latest = alice.call("history", channel=ROOM, limit=1, reverse=True)
        assert [each["offset"] for each in latest["publications"]] == [5]
        assert alice.call("history", channel=ROOM, limit=0) == {"epoch": page["epoch"], "offset": 5, "publications": []}

    def test_an_action_by_its_name(self, open: Open, gateway: Gateway) -> None:
        alice, bob = open("alice"), gateway.connect("bob")
        answer = alice.call("rpc", method="sendMessage", data={"targetUserId": "bob", "text": "hi"})
        assert answer == {"sent": 1, "gone": 0, "failed": 0}
        bob.receives({"type": "message", "text": "hi", "from": {"userId": "alice", "connectionId": alice.id}})

    @pytest.mark.parametrize(
        ("call", "options", "code"),
        [
            ("rpc", {"method": "dance", "data": {}}, 104),
            ("rpc", {"method": "sendMessage", "data": {"text": "hi"}}, 107),
            ("publish", {"channel": "feed:news", "data": 1}, 103),
            ("presence", {"channel": "live:map"}, 108),
            ("history", {"channel": ROOM, "since": {"epoch": "over", "offset": 1}}, 112),
        ],
    )
    def test_a_refusal_says_why(self, open: Open, call: str, options: dict[str, Any], code: int) -> None:
        with pytest.raises(CallFailed) as failed:
            open("alice").call(call, **options)
        assert failed.value.code == code


class TestReconnecting:
    @pytest.mark.parametrize("is_noticed", [True, False])
    def test_a_client_that_loses_its_connection_misses_nothing(
        self, open: Open, gateway: Gateway, is_noticed: bool
    ) -> None:
        alice = open("alice")
        alice.subscribes(ROOM)
        publish(gateway, ROOM, "before")
        alice.sees_published(ROOM, "before")
        alice.seen.clear()
        if not is_noticed:
            gateway.faults.lose_disconnect()
        gateway.faults.delay_route(0.5, route="$connect")
        gateway.cut(alice.id)
        publish(gateway, ROOM, *range(5))
        alice.sees("subscribed", channel=ROOM, wasRecovering=True, recovered=True)
        assert alice.sees_published(ROOM, *range(5)) == [2, 3, 4, 5, 6]
        publish(gateway, ROOM, "after")
        assert alice.sees_published(ROOM, "after") == [7]
        changes = [(event["channel"], event["event"]) for event in alice.seen if event["event"] != "publication"]
        assert [event for channel, event in changes if channel is None] == ["connecting", "connected"]
        assert [event for channel, event in changes if channel == ROOM] == ["subscribing", "subscribed"]

    def test_publications_of_several_frames_are_recovered_whole(self, open: Open, gateway: Gateway) -> None:
        alice = open("alice")
        alice.subscribes(ROOM)
        gateway.faults.delay_route(0.5, route="$connect")
        gateway.cut(alice.id)
        large = [f"{n}" + "x" * 12_000 for n in range(12)]
        for half in (large[:6], large[6:]):
            publish(gateway, ROOM, *half)
        alice.sees("subscribed", channel=ROOM, wasRecovering=True, recovered=True)
        assert alice.sees_published(ROOM, *large) == list(range(1, 13))

    def test_a_client_that_reconnects_too_late_is_not_recovered(
        self, open: Open, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice = open("alice")
        alice.subscribes(ROOM)
        namespaces = gateway.app.peal.members.namespaces
        monkeypatch.setitem(namespaces, "chat", replace(namespaces["chat"], history_size=3))
        gateway.faults.delay_route(0.5, route="$connect")
        gateway.cut(alice.id)
        publish(gateway, ROOM, *range(4))
        alice.sees("subscribed", channel=ROOM, wasRecovering=True, recovered=False)
        publish(gateway, ROOM, "after")
        assert alice.sees_published(ROOM, "after") == [5]

    def test_two_hours_pass_unnoticed(self, open: Open, gateway: Gateway) -> None:
        alice = open("alice")
        alice.subscribes(ROOM)
        alice.seen.clear()
        for _ in range(13):
            gateway.advance(540)
            assert alice.call("rpc", method="ping") == {}
        gateway.advance(200)
        publish(gateway, ROOM, 1)
        alice.sees("subscribed", channel=ROOM, wasRecovering=True, recovered=True)
        alice.sees_published(ROOM, 1)
        assert "connecting" in [event["event"] for event in alice.seen]


class TestDisconnects:
    def test_a_kick_is_for_good(self, open: Open, gateway: Gateway) -> None:
        alice = open("alice")
        assert gateway.call("DELETE", "/users/alice/connections?code=signed-out&reason=Bye.").body["closed"] == 1
        alice.sees("disconnected", code=3503, reason="Bye.")

    def test_a_server_can_make_a_client_reconnect(self, open: Open, gateway: Gateway) -> None:
        alice = open("alice")
        assert gateway.call("DELETE", f"/connections/{alice.id}?code=3011&reason=Moving").status == 204
        alice.sees("connecting", code=3011, reason="Moving")
        assert alice.sees("connected")["id"] != alice.id

    def test_an_invalid_frame_ends_the_connection(self, gateway: Gateway) -> None:
        client = gateway.connect("alice")
        client.sends({"id": 1, "connect": {}})
        client.receives({"id": 1, "connect": {"client": client.connection_id}})
        client.sends({"action": "ping", "id": 2})
        client.receives({"push": {"disconnect": {"code": 3501, "reason": "bad request"}}})
        client.is_closed_with(1000)


@pytest.fixture(scope="module")
def strict(aws: None) -> Iterator[Gateway]:
    """Peal as on AWS: nobody is let in without a token, which may come with the first command."""
    environment = {"ALLOW_ANONYMOUS": "false", "ALLOW_LATE_AUTHENTICATION": "true", "JWT_SECRETS": SECRET}
    with Gateway(PROJECT, environment=environment) as gateway:
        yield gateway


def token(seconds: float = 60, **claims: Any) -> str:
    grants = {"channels": {"chat:*": ["subscribe", "publish", "history"], "feed:*": ["subscribe"]}}
    return jwt.encode({"sub": "alice", "exp": time.time() + seconds} | grants | claims, SECRET)


class TestTokens:
    @pytest.fixture
    def alice(self, sdk: Sdk, strict: Gateway) -> Iterator[Callable[..., SdkClient]]:
        yield lambda **options: sdk.open(strict.url, **options)
        sdk.close_all()
        strict.reset()

    def test_the_connect_command_signs_in(self, alice: Open) -> None:
        client = alice(token=token())
        client.sees("connected")
        assert client.call("rpc", method="whoami")["userId"] == "alice"

    def test_a_token_is_refreshed_before_it_runs_out(self, alice: Open, strict: Gateway) -> None:
        client = alice(token=token(seconds=2), tokens=[token(seconds=60)])
        me = client.sees("connected")["id"]
        time.sleep(2.5)
        assert client.call("rpc", method="whoami")["connectionId"] == me
        client.went_through("connecting", "connected")

    def test_an_expired_token_is_replaced_and_the_client_reconnects(self, alice: Open) -> None:
        client = alice(token=token(seconds=-1), tokens=[token()])
        client.sees("error", code=109)
        client.sees("connected")

    def test_an_invalid_token_ends_it(self, alice: Open) -> None:
        alice(token="not.a.token").sees("disconnected", code=101)

    def test_without_a_token_only_the_connect_command_is_admitted(self, alice: Open) -> None:
        alice().sees("disconnected", code=101)

    def test_without_the_history_grant_nothing_is_recovered(self, alice: Open, strict: Gateway) -> None:
        client = alice(token=token())
        me = client.sees("connected")["id"]
        client.subscribes("feed:news", recovered=False)
        strict.cut(me)
        client.sees("subscribed", channel="feed:news", wasRecovering=True, recovered=False)
