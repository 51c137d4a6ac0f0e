"""Closing connections from the server, and the rate limit: docs/PROTOCOL.md, "What closes a connection"."""

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.connections.closing import Closed
from chalicelib.errors import RateLimited
from chalicelib.handlers import rest
from chalicelib.peal import Peal, build
from chalicelib.protocol.grants import EVERYTHING
from chalicelib.settings import RateLimit, Settings
from chalicelib.store.registry import Registry
from chalicelib.store.table import Table
from tests.conftest import Clock, create_table
from tests.store.test_registry import CONNECTION
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone, refused

Connect = Callable[..., Client]
THROTTLED = "LimitExceededException"


@pytest.fixture
def connect(peal: Peal, api: FakeWebsocketApi) -> Connect:
    def connect(name: str, user: str = "u_1", **query: str) -> Client:
        return Client(peal, api, f"{name}=", userId=user, **query)

    return connect


class TestClosing:
    def test_a_connection_is_sent_the_reason_closed_and_forgotten(
        self, connect: Connect, peal: Peal, api: FakeWebsocketApi
    ) -> None:
        alice, bob = connect("alice"), connect("bob")
        peal.close("alice=", "banned", "Be kind.")
        alice.receives({"type": "goodbye", "code": "banned", "reason": "Be kind."})
        bob.receives_nothing()
        assert api.closed == ["alice="]
        assert [connection.connection_id for connection in peal.connections_of("u_1")] == ["bob="]

    def test_closing_a_user_closes_only_that_users_connections(
        self, connect: Connect, peal: Peal, api: FakeWebsocketApi
    ) -> None:
        connect("phone", deviceId="phone"), connect("tablet", deviceId="tablet")
        bob = connect("bob", "u_2")
        assert peal.close_user("u_1") == Closed(2, 0)
        assert sorted(api.closed) == ["phone=", "tablet="]
        assert peal.close_user("u_1") == Closed(0, 0)
        bob.receives_nothing()

    def test_closing_a_device_closes_only_that_device(self, connect: Connect, peal: Peal) -> None:
        connect("one", deviceId="phone"), connect("two", deviceId="phone")
        tablet, bare = connect("tablet", deviceId="tablet"), connect("bare")
        assert peal.close_user("u_1", "phone", "closed", "Signed out.") == Closed(2, 0)
        assert {connection.connection_id for connection in peal.connections_of("u_1")} == {tablet.id, bare.id}

    def test_closed_connections_are_members_of_no_channel(self, connect: Connect, peal: Peal) -> None:
        connect("alice").asks("subscribe", channel="live:map")
        peal.close_user("u_1")
        assert peal.publish("live:map", 1).as_dict()["sent"] == 0

    def test_a_failed_close_keeps_the_row_and_stops_no_other(
        self, connect: Connect, peal: Peal, api: FakeWebsocketApi, caplog: pytest.LogCaptureFixture
    ) -> None:
        connect("a"), connect("b"), connect("c")
        api.fails = {"b=": [refused(THROTTLED), refused(THROTTLED)]}
        assert peal.close_user("u_1") == Closed(2, 1)
        assert [connection.connection_id for connection in peal.connections_of("u_1")] == ["b="]
        assert caplog.messages[-1] == "Closing b= failed: ClientError"

    def test_a_connection_that_is_already_gone_is_forgotten(
        self, connect: Connect, peal: Peal, api: FakeWebsocketApi
    ) -> None:
        connect("a")
        api.fails = {"a=": [gone(), gone(), gone()]}
        assert peal.close_user("u_1") == Closed(1, 0)
        assert peal.connections_of("u_1") == []


class TestOverRest:
    def test_a_users_connections_are_listed(self, connect: Connect, peal: Peal) -> None:
        connect("phone", deviceId="phone"), connect("bob", "u_2")
        status, body = rest.answer(rest.get_connections, peal, "u_1")
        assert status == 200
        assert body
        assert [(view["connectionId"], view["deviceId"]) for view in body["connections"]] == [("phone=", "phone")]
        assert body["connections"][0] == (rest.answer(rest.get_connection, peal, "phone=")[1])
        assert rest.answer(rest.get_connections, peal, "nobody") == (200, {"connections": []})

    def test_a_device_is_closed_with_a_reason(self, connect: Connect, peal: Peal) -> None:
        phone, tablet = connect("phone", deviceId="phone"), connect("tablet", deviceId="tablet")
        query = {"deviceId": "phone", "code": "signed-out", "reason": "Signed out elsewhere."}
        assert rest.answer(rest.delete_connections, peal, "u_1", query) == (200, {"closed": 1, "failed": 0})
        phone.receives({"type": "goodbye", "code": "signed-out", "reason": "Signed out elsewhere."})
        tablet.receives_nothing()
        assert rest.answer(rest.delete_connections, peal, "u_1", {}) == (200, {"closed": 1, "failed": 0})
        tablet.receives({"type": "goodbye", "code": "closed", "reason": None})

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ({"deviceId": ""}, "deviceId must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -."),
            ({"code": "a b"}, "code must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -."),
            ({"reason": "x" * 513}, "reason must have at most 512 characters."),
        ],
    )
    def test_a_bad_query_closes_nothing(
        self, connect: Connect, peal: Peal, query: dict[str, str], message: str
    ) -> None:
        connect("phone")
        status, body = rest.answer(rest.delete_connections, peal, "u_1", query)
        assert body
        assert (status, body["error"]["message"]) == (400, message)
        assert len(peal.connections_of("u_1")) == 1


class TestRateLimit:
    @pytest.fixture
    def peal(
        self, table_name: str, api: FakeWebsocketApi, session: boto3.session.Session, clock: Clock, jobs: FakeJobs
    ) -> Peal:
        """A service that admits two frames a second, and three at once."""
        limited = Settings(table_name, allow_anonymous=True, anonymous_grants=EVERYTHING, rate_limit=RateLimit(2, 3))
        return build(limited, api, session, clock, jobs=jobs)

    def test_frames_beyond_the_burst_are_refused(self, connect: Connect, clock: Clock) -> None:
        alice, bob = connect("alice"), connect("bob", "u_2")
        for _ in range(5):
            alice.sends({"action": "sendMessage", "id": 1, "targetUserId": "u_2", "text": "hi"})
        frames = alice.api.frames(alice.id)
        assert [frame["type"] for frame in frames] == ["reply"] * 3 + ["error"] * 2
        assert frames[-1] == {
            "type": "error",
            "id": 1,
            "error": {"code": "rate_limited", "message": "Too many frames: wait a moment.", "retryable": True},
        }
        assert len(bob.api.frames(bob.id)) == 3
        clock.now += 0.5
        assert alice.asks("ping") == {}
        assert alice.is_refused("ping") == "rate_limited"
        assert alice.api.closed == []

    def test_a_malformed_frame_counts(self, connect: Connect) -> None:
        alice = connect("alice")
        for _ in range(4):
            alice.sends("nonsense")
        codes = [frame["error"]["code"] for frame in alice.api.frames(alice.id)]
        assert codes == ["bad_frame"] * 3 + ["rate_limited"]

    def test_each_connection_has_its_own_limit(self, connect: Connect) -> None:
        alice, bob = connect("alice"), connect("bob", "u_2")
        for _ in range(3):
            alice.asks("ping")
        assert alice.is_refused("ping") == "rate_limited"
        assert bob.asks("ping") == {}

    def test_a_frame_costs_one_write_and_no_read(
        self, connect: Connect, dynamodb_calls: list[str], clock: Clock
    ) -> None:
        alice = connect("alice")
        alice.asks("whoami")
        dynamodb_calls.clear()
        clock.now += 1
        alice.asks("whoami")
        assert dynamodb_calls == ["UpdateItem"]

    def test_an_unregistered_connection_is_refused_and_closed(self, connect: Connect, peal: Peal, clock: Clock) -> None:
        alice, bob = connect("alice"), connect("bob", "u_2")
        peal.departures.forget("alice=")
        alice.sends({"action": "ping", "id": 1})
        alice.gets_error("unauthenticated", "Not signed in.", 1, then_closed=True)
        clock.now += 7_800
        bob.sends({"action": "ping", "id": 1})
        bob.gets_error("unauthenticated", "Not signed in.", 1, then_closed=True)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    limit=st.builds(RateLimit, st.sampled_from([0.5, 1, 4]), st.integers(1, 4)),
    pauses=st.lists(st.sampled_from([0, 0.125, 0.25, 0.5, 1, 2, 9]), max_size=12),
)
def test_the_limit_is_a_token_bucket(dynamodb: Any, limit: RateLimit, pauses: list[float]) -> None:
    clock = Clock(1_795_426_210.0)
    registry = Registry(Table(dynamodb, create_table(dynamodb), clock), clock)
    registry.put(CONNECTION)
    bucket = float(limit.burst)
    for pause in pauses:
        clock.now += pause
        bucket = min(float(limit.burst), bucket + pause * limit.per_second)
        if bucket >= 1:
            bucket -= 1
            assert registry.spend(CONNECTION.connection_id, limit) == CONNECTION
        else:
            with pytest.raises(RateLimited):
                registry.spend(CONNECTION.connection_id, limit)
    assert registry.get(CONNECTION.connection_id) == CONNECTION
