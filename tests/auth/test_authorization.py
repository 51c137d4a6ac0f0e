"""What connections may do: docs/PROTOCOL.md, "What you may do", from raw event to frames."""

from collections.abc import Callable
from typing import Any

import boto3
import pytest

from chalicelib.channels.admission import Admission
from chalicelib.peal import Peal
from chalicelib.peal import build as build_peal
from chalicelib.protocol.grants import EVERYTHING, Grants, Rights, Verb
from chalicelib.settings import Settings
from chalicelib.store.connection import Connection
from tests.conftest import Clock
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi
from tests.support.signing import NEW, NOW, token

Connect = Callable[..., Client]
ROOM = "chat:lobby"
ALL_VERBS = ["subscribe", "publish", "presence", "history"]


@pytest.fixture
def build(
    table_name: str, api: FakeWebsocketApi, session: boto3.session.Session, clock: Clock, jobs: FakeJobs
) -> Callable[..., Peal]:
    def build(**options: Any) -> Peal:
        settings = Settings(table_name, jwt_secrets=NEW, **options.pop("settings", {}))
        return build_peal(settings, api, session, clock, jobs=jobs, **options)

    return build


@pytest.fixture
def peal(build: Callable[..., Peal]) -> Peal:
    """A service where a token says what one may do."""
    return build()


@pytest.fixture
def connect(peal: Peal, api: FakeWebsocketApi) -> Connect:
    """Connects u_123 with what its token grants; the name is the connection's, and anything else a claim."""

    def connect(name: str = "alice=", **claims: Any) -> Client:
        return Client(peal, api, name, token=token(**claims))

    return connect


FRAMES: dict[str, dict[str, Any]] = {
    "subscribe": {"action": "subscribe", "channel": ROOM},
    "publish": {"action": "publish", "channel": ROOM, "data": 1},
    "presence": {"action": "presence", "channel": ROOM},
    "history": {"action": "history", "channel": ROOM},
    "send": {"action": "sendMessage", "targetUserId": "u_456", "text": "hi"},
    "broadcast": {"action": "broadcastAll"},
}
GRANTS: dict[str, dict[str, Any]] = {
    **{verb: {"channels": {"chat:*": [verb]}} for verb in ALL_VERBS},
    "send": {"users": ["u_456"]},
    "broadcast": {"broadcast": True},
}


class TestEachAction:
    @pytest.mark.parametrize("granted", GRANTS)
    def test_a_grant_allows_one_action_only(self, connect: Connect, granted: str) -> None:
        alice = connect(**GRANTS[granted])
        allowed = []
        for name, frame in FRAMES.items():
            alice.sends({**frame, "id": 1})
            frames = alice.api.frames(alice.id)
            if frames[-1]["type"] == "reply" or frames[0]["type"] == "reply":
                allowed.append(name)
            else:
                assert [frame["error"]["code"] for frame in frames] == ["forbidden"]
        assert allowed == [granted]

    def test_staying_connected_and_leaving_need_no_grant(self, connect: Connect) -> None:
        alice = connect(channels={ROOM: ["subscribe"]})
        alice.asks("subscribe", channel=ROOM)
        alice.asks("authenticate", token=token(channels={ROOM: ["subscribe"]}))
        assert alice.asks("unsubscribe", channel=ROOM) == {"channel": ROOM}
        assert alice.asks("ping") == {}
        assert alice.asks("whoami")["userId"] == "u_123"

    def test_recovery_needs_the_history_grant(self, connect: Connect) -> None:
        alice = connect(channels={ROOM: ["subscribe"]})
        recover = {"epoch": "x", "offset": 0}
        assert alice.is_refused("subscribe", channel=ROOM, recover=recover) == "forbidden"
        alice.asks("authenticate", token=token(channels={ROOM: ["subscribe", "history"]}))
        assert alice.asks("subscribe", channel=ROOM, recover=recover)["recovered"] is False

    def test_only_the_owner_reads_a_personal_channel(self, connect: Connect, peal: Peal) -> None:
        alice = connect()
        alice.asks("subscribe", channel="user:u_123")
        peal.publish("user:u_123", "for you")
        assert alice.receives_in("user:u_123") == ["for you"]
        assert alice.is_refused("subscribe", channel="user:u_456") == "forbidden"
        everything = connect("root=", sub="root", **EVERYTHING.as_claims())
        assert everything.is_refused("history", channel="user:u_123") == "forbidden"


class TestWhatARefusalReveals:
    @pytest.mark.parametrize("action", ["subscribe", "publish", "presence", "history"])
    def test_not_whether_a_channel_exists(self, connect: Connect, peal: Peal, action: str) -> None:
        peal.publish(ROOM, "someone is here")
        alice = connect()
        refusals = []
        for channel in (ROOM, "chat:nobody", "no-such-namespace:x", "user:u_456", "#"):
            alice.sends({"action": action, "id": 1, "channel": channel, "data": 1})
            refusals += alice.api.frames(alice.id)
        assert refusals == [refusals[0]] * 5
        assert refusals[0]["error"] == {"code": "forbidden", "message": "This is not allowed.", "retryable": False}

    def test_not_whether_a_user_or_a_connection_is_connected(self, connect: Connect) -> None:
        bob = connect("bob=", sub="u_456")
        alice = connect(users=["u_789"])
        for target in ({"targetUserId": "u_456"}, {"targetUserId": "nobody"}):
            assert alice.is_refused("sendMessage", text="hi", **target) == "forbidden"
        for target in ({"targetConnectionId": "bob="}, {"targetConnectionId": "nobody="}):
            assert alice.is_refused("sendMessage", text="hi", **target) == "forbidden"
        bob.receives_nothing()

    def test_a_grant_for_a_user_reaches_all_its_connections(self, connect: Connect) -> None:
        bob = connect("bob=", sub="u_456")
        alice = connect(users=["u_456"])
        assert alice.asks("sendMessage", targetConnectionId="bob=", text="hi")["sent"] == 1
        assert bob.api.frames("bob=")[0]["text"] == "hi"


class TestAnonymousClients:
    def test_they_may_do_nothing_by_default(self, build: Callable[..., Peal], api: FakeWebsocketApi) -> None:
        stranger = Client(build(settings={"allow_anonymous": True}), api, "stranger=", userId="u_1")
        assert stranger.is_refused("broadcastAll") == "forbidden"
        assert stranger.is_refused("subscribe", channel=ROOM) == "forbidden"
        assert stranger.asks("ping") == {}

    def test_they_may_do_what_the_settings_say(self, build: Callable[..., Peal], api: FakeWebsocketApi) -> None:
        readers = Grants(Rights({"feed:*": frozenset({Verb.SUBSCRIBE})}))
        peal = build(settings={"allow_anonymous": True, "anonymous_grants": readers})
        stranger = Client(peal, api, "stranger=")
        stranger.asks("subscribe", channel="feed:news")
        assert stranger.is_refused("subscribe", channel=ROOM) == "forbidden"

    def test_anonymous_grants_are_not_added_to_those_of_a_token(
        self, build: Callable[..., Peal], api: FakeWebsocketApi
    ) -> None:
        peal = build(settings={"allow_anonymous": True, "anonymous_grants": EVERYTHING})
        alice = Client(peal, api, "alice=", token=token())
        assert alice.is_refused("broadcastAll") == "forbidden"


class TestTheHookOfTheApp:
    @pytest.mark.parametrize(
        ("said", "granted", "denied", "is_allowed"),
        [
            (None, True, False, True),
            (None, False, False, False),
            (True, False, False, True),
            (True, True, True, False),
            (False, True, False, False),
            (False, False, False, False),
        ],
    )
    def test_hook_and_grants_each_allow_or_deny_and_a_denial_wins(
        self,
        build: Callable[..., Peal],
        api: FakeWebsocketApi,
        said: bool | None,
        granted: bool,
        denied: bool,
        is_allowed: bool,
    ) -> None:
        asked: list[tuple[str | None, Verb, str | None]] = []

        def hook(connection: Connection, verb: Verb, target: str | None) -> bool | None:
            asked.append((connection.user_id, verb, target))
            return said

        publish = {"channels": {ROOM: ["publish"]}}
        claims = (publish if granted else {}) | ({"deny": publish} if denied else {})
        alice = Client(build(authorize=hook), api, "alice=", token=token(**claims))
        if is_allowed:
            alice.asks("publish", channel=ROOM, data=1)
        else:
            assert alice.is_refused("publish", channel=ROOM, data=1) == "forbidden"
        assert asked == ([] if denied else [("u_123", Verb.PUBLISH, ROOM)])


class TestNewGrantsOnALivingConnection:
    def test_memberships_last_as_long_as_the_new_token(self, connect: Connect, peal: Peal, clock: Clock) -> None:
        grants = {"channels": {"*": ["subscribe"]}}
        alice = connect(exp=NOW + 60, **grants)
        for channel in (ROOM, "live:map"):
            alice.asks("subscribe", channel=channel)
        clock.now += 59
        alice.asks("authenticate", token=token(exp=NOW + 120, **grants))
        clock.now += 60
        alice.api.frames(alice.id)
        for channel in (ROOM, "live:map"):
            peal.publish(channel, "still here?")
            assert alice.receives_in(channel) == ["still here?"]
        clock.now += 1
        for channel in (ROOM, "live:map"):
            peal.publish(channel, "and now?")
            assert alice.receives_in(channel) == []

    def test_ungranted_channels_are_left_and_their_members_notified(self, connect: Connect) -> None:
        alice = connect(channels={"*": ["subscribe"]})
        bob = connect("bob=", sub="u_456", channels={ROOM: ["subscribe"]})
        for channel in (ROOM, "live:map"):
            alice.asks("subscribe", channel=channel)
        bob.asks("subscribe", channel=ROOM)
        bob.api.frames(bob.id)
        alice.asks("authenticate", token=token(channels={"live:map": ["subscribe"]}))
        assert alice.asks("whoami")["channels"] == ["live:map"]
        bob.receives({"type": "leave", "channel": ROOM, "user": "u_123"})

    @pytest.mark.parametrize(("verbs", "is_member"), [(["subscribe"], True), ([], False)])
    def test_new_grants_apply_to_a_subscribe_under_way(
        self,
        connect: Connect,
        peal: Peal,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        verbs: list[str],
        is_member: bool,
    ) -> None:
        alice = connect(exp=NOW + 60, channels={ROOM: ["subscribe"]})
        sender = peal.arrivals.admit(alice.id)

        def authenticate_before_the_membership_is_written(*_: object) -> bool:
            peal.authenticate(sender, token(exp=NOW + 120, channels={ROOM: verbs}))
            return True

        monkeypatch.setattr(Admission, "reply", authenticate_before_the_membership_is_written)
        peal.subscribe(sender, ROOM, None, None)
        for seconds in (0, 60):
            clock.now += seconds
            peal.publish(ROOM, seconds)
            assert alice.receives_in(ROOM) == ([seconds] if is_member else [])

    def test_a_membership_that_ended_meanwhile_is_not_restored(
        self, connect: Connect, peal: Peal, dynamodb: Any, table_name: str
    ) -> None:
        alice = connect(channels={"*": ["subscribe"]})
        alice.asks("subscribe", channel=ROOM)
        alice.asks("subscribe", channel="live:map")
        for row in dynamodb.scan(TableName=table_name)["Items"]:
            if row["PK"]["S"].startswith("CHAN#") and row["SK"]["S"].startswith("CONN#"):
                dynamodb.delete_item(TableName=table_name, Key={"PK": row["PK"], "SK": row["SK"]})
        alice.asks("authenticate", token=token(channels={ROOM: ["subscribe"]}))
        rows = dynamodb.scan(TableName=table_name)["Items"]
        assert [row for row in rows if row["PK"]["S"].startswith("CHAN#") and row["SK"]["S"].startswith("CONN#")] == []
