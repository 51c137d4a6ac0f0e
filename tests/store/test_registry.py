"""The connection registry and its table, against a real engine over HTTP: DESIGN's promises 1, 2 and 5."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from chalicelib.errors import Conflict, LimitExceeded, TableError
from chalicelib.protocol.codec import CENTRIFUGE, Receiver
from chalicelib.protocol.frame import timestamp
from chalicelib.protocol.grants import NOTHING, Grants, Rights
from chalicelib.protocol.identity import Identity
from chalicelib.store.connection import Connection
from chalicelib.store.registry import Registry
from chalicelib.store.table import Table
from tests.conftest import Clock, create_table


def batched(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def ids(receivers: Iterator[Receiver]) -> list[str]:
    return [receiver.connection_id for receiver in receivers]


CONNECTION = Connection(
    connection_id="L0SM9cOFvHcCIhw=",
    connected_at="2026-11-23T09:30:00.125Z",
    ttl=1_795_434_000,
    endpoint="https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api",
    user_id="u_1",
    device_id="phone",
    source_ip="192.0.2.7",
    user_agent="tests/1",
    attributes={"room": "a", "n": 1.5, "on": True, "x": None},
)


@pytest.fixture
def registry(rows: Table, clock: Clock) -> Registry:
    return Registry(rows, clock)


class TestChannelsOfAConnection:
    def test_the_row_names_each_channel_once(self, registry: Registry) -> None:
        registry.put(CONNECTION)
        for channel in ("chat:1", "chat:2", "chat:1"):
            assert registry.add_channel(CONNECTION.connection_id, channel, 2)
        registry.remove_channel(CONNECTION.connection_id, frozenset({"chat:2", "chat:3"}))
        assert registry.get(CONNECTION.connection_id) == replace(CONNECTION, channels=frozenset({"chat:1"}))

    def test_only_one_of_two_gets_the_last_place(self, registry: Registry) -> None:
        registry.put(CONNECTION)
        assert registry.add_channel(CONNECTION.connection_id, "chat:1", 1)
        with pytest.raises(LimitExceeded, match=r"^At most 1 channels\.$"):
            registry.add_channel(CONNECTION.connection_id, "chat:2", 1)

    def test_nothing_creates_a_row_for_an_unknown_connection(self, registry: Registry) -> None:
        assert not registry.add_channel("nobody=", "chat:1", 1)
        registry.remove_channel("nobody=", frozenset({"chat:1"}))
        registry.expire("nobody=")
        assert registry.forget("nobody=") is None


class TestRegistering:
    def test_get_returns_what_was_put(self, registry: Registry) -> None:
        registry.put(CONNECTION)
        assert registry.get(CONNECTION.connection_id) == CONNECTION

    def test_an_anonymous_connection_has_no_user_and_no_device(self, registry: Registry) -> None:
        stranger = replace(CONNECTION, user_id=None, device_id=None, source_ip=None, user_agent=None, attributes={})
        registry.put(stranger)
        assert registry.get(CONNECTION.connection_id) == stranger

    def test_an_unknown_connection_is_not_registered(self, registry: Registry) -> None:
        assert registry.get("nobody=") is None

    def test_it_is_one_conditional_write(self, registry: Registry, dynamodb_calls: list[str]) -> None:
        registry.put(CONNECTION)
        assert dynamodb_calls == ["PutItem"]

    def test_a_second_connection_with_the_same_id_is_refused(self, registry: Registry) -> None:
        registry.put(CONNECTION)
        with pytest.raises(Conflict, match="^The connection id is taken.$"):
            registry.put(replace(CONNECTION, user_id="u_2"))
        assert registry.get(CONNECTION.connection_id) == CONNECTION
        assert ids(registry.by_user("u_2")) == []

    def test_the_same_record_may_be_put_again_after_a_lost_answer(self, registry: Registry) -> None:
        registry.put(CONNECTION)
        registry.put(CONNECTION)
        assert registry.get(CONNECTION.connection_id) == CONNECTION

    def test_exactly_one_of_many_racing_for_an_id_wins(self, registry: Registry) -> None:
        start = Barrier(8, timeout=30)

        def put(n: int) -> bool:
            start.wait()
            try:
                registry.put(replace(CONNECTION, user_id=f"u_{n}"))
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            won = list(threads.map(put, range(8)))
        assert won.count(True) == 1
        connection = registry.get(CONNECTION.connection_id)
        assert connection
        assert connection.user_id == f"u_{won.index(True)}"

    def test_a_row_of_another_version_is_read_as_far_as_possible(
        self, registry: Registry, dynamodb: Any, table_name: str
    ) -> None:
        key = {"PK": {"S": "CONN#old="}, "SK": {"S": "CONN"}}
        strange = {"userId": {"L": []}, "attributes": {"S": "{"}, "friends": {"NS": ["1"]}}
        dynamodb.put_item(TableName=table_name, Item=key | strange | {"ttl": {"N": "1999999999.5"}})
        # Its index keys are missing too, so it counts as not signed in and receives no broadcast.
        assert registry.get("old=") == Connection(
            "old=", "", 1_999_999_999, None, None, None, None, None, {}, is_signed_in=False
        )

    @pytest.mark.parametrize("grants", ["{", "[]", "7", '{"users":7}', '{"channels":{"#":[]}}'])
    def test_unreadable_grants_of_another_version_grant_nothing(
        self, registry: Registry, dynamodb: Any, table_name: str, grants: str
    ) -> None:
        registry.put(CONNECTION)
        dynamodb.update_item(
            TableName=table_name,
            Key={"PK": {"S": f"CONN#{CONNECTION.connection_id}"}, "SK": {"S": "CONN"}},
            UpdateExpression="SET grants = :grants",
            ExpressionAttributeValues={":grants": {"S": grants}},
        )
        assert registry.get(CONNECTION.connection_id) == replace(CONNECTION, grants=NOTHING)


class TestSigningIn:
    LATE = replace(CONNECTION, user_id=None, expires_at=1_795_426_220, ttl=1_795_426_220, is_signed_in=False)
    ANN = Identity("u_1", "tablet", 1_795_427_000, Grants(Rights(users=frozenset({"*"}))))
    SIGNED_IN = replace(CONNECTION, device_id="tablet", expires_at=1_795_427_000, ttl=1_795_427_000, grants=ANN.grants)

    def test_expiry_and_grants_are_stored(self, registry: Registry) -> None:
        registry.put(self.SIGNED_IN)
        assert registry.get(CONNECTION.connection_id) == self.SIGNED_IN

    def test_a_connection_that_has_not_signed_in_is_sent_nothing(self, registry: Registry) -> None:
        registry.put(self.LATE)
        assert registry.get(CONNECTION.connection_id) == self.LATE
        assert ids(registry.everyone()) == []

    def test_signing_in_makes_it_the_users_connection(self, registry: Registry, dynamodb_calls: list[str]) -> None:
        registry.put(self.LATE)
        assert registry.renew(CONNECTION.connection_id, self.ANN, 1_795_427_000) == self.SIGNED_IN
        assert dynamodb_calls == ["PutItem", "UpdateItem"]
        assert registry.get(CONNECTION.connection_id) == self.SIGNED_IN
        assert ids(registry.by_user("u_1")) == ids(registry.everyone()) == [CONNECTION.connection_id]

    def test_renewing_keeps_what_the_new_credential_leaves_out(self, registry: Registry) -> None:
        registry.put(CONNECTION)
        renewed = registry.renew(CONNECTION.connection_id, replace(self.ANN, device_id=None), 1_795_427_000)
        assert renewed == replace(self.SIGNED_IN, device_id="phone")

    @pytest.mark.parametrize(("user_id", "channels"), [("u_2", []), ("u_2", ["chat:1"]), (None, ["chat:1"])])
    def test_the_connection_of_another_user_is_not_changed(
        self, registry: Registry, user_id: str | None, channels: list[str]
    ) -> None:
        theirs = replace(CONNECTION, user_id=user_id, channels=frozenset(channels))
        registry.put(theirs)
        for channel in channels:
            registry.add_channel(CONNECTION.connection_id, channel, 100)
        assert registry.renew(CONNECTION.connection_id, self.ANN, 1_795_427_000) is None
        assert registry.get(CONNECTION.connection_id) == theirs

    def test_an_anonymous_connection_without_channels_can_sign_in(self, registry: Registry) -> None:
        registry.put(replace(CONNECTION, user_id=None))
        assert registry.renew(CONNECTION.connection_id, self.ANN, 1_795_427_000)
        assert ids(registry.by_user("u_1")) == ids(registry.everyone()) == [CONNECTION.connection_id]

    def test_a_gone_or_expired_connection_cannot_be_renewed(
        self, registry: Registry, clock: Clock, dynamodb: Any, table_name: str
    ) -> None:
        assert registry.renew("nobody=", self.ANN, 1_795_427_000) is None
        registry.put(self.LATE)
        clock.now = 1_795_426_220
        assert registry.renew(CONNECTION.connection_id, self.ANN, 1_795_427_000) is None
        assert [row["PK"]["S"] for row in dynamodb.scan(TableName=table_name)["Items"]] == ["CONN#L0SM9cOFvHcCIhw="]


class TestForgetting:
    def test_forgetting_touches_only_that_connection(self, registry: Registry) -> None:
        registry.put(CONNECTION)
        registry.put(replace(CONNECTION, connection_id="other="))
        assert registry.forget(CONNECTION.connection_id) == CONNECTION
        assert registry.get(CONNECTION.connection_id) is None
        assert ids(registry.by_user("u_1")) == ["other="]

    def test_forgetting_twice_is_no_error(self, registry: Registry) -> None:
        assert registry.forget(CONNECTION.connection_id) is None

    def test_take_back_removes_only_what_put_wrote(self, registry: Registry) -> None:
        registry.put(CONNECTION)
        registry.take_back(replace(CONNECTION, connected_at="2026-11-23T09:30:07.000Z"))
        assert registry.get(CONNECTION.connection_id) == CONNECTION
        registry.take_back(CONNECTION)
        assert registry.get(CONNECTION.connection_id) is None

    @pytest.mark.parametrize(("age_seconds", "is_pruned"), [(4.9, False), (5, True), (3_600, True)])
    def test_a_connection_that_may_still_be_connecting_is_not_pruned(
        self, registry: Registry, clock: Clock, age_seconds: float, is_pruned: bool
    ) -> None:
        connection = replace(CONNECTION, connected_at=timestamp(clock.now - age_seconds))
        registry.put(connection)
        assert registry.prune(CONNECTION.connection_id) == (connection if is_pruned else None)
        assert (registry.get(CONNECTION.connection_id) is None) is is_pruned

    def test_pruning_an_unknown_connection_is_no_error(self, registry: Registry) -> None:
        assert registry.prune("nobody=") is None


class TestExpiry:
    def test_an_expired_row_does_not_count_even_while_it_is_stored(
        self, registry: Registry, clock: Clock, dynamodb: Any, table_name: str
    ) -> None:
        registry.put(CONNECTION)
        clock.now = CONNECTION.ttl - 1
        assert registry.get(CONNECTION.connection_id)
        assert ids(registry.by_user("u_1")) == ids(registry.everyone()) == [CONNECTION.connection_id]
        clock.now = CONNECTION.ttl
        assert registry.get(CONNECTION.connection_id) is None
        assert ids(registry.by_user("u_1")) == ids(registry.everyone()) == []
        assert dynamodb.scan(TableName=table_name)["Count"] == 1


class TestAudiences:
    def test_a_users_audience_is_exactly_that_users_connections(self, registry: Registry) -> None:
        for user, device in [("u_1", "a"), ("u_1", "b"), ("u_10", "c"), (None, "d")]:
            registry.put(replace(CONNECTION, connection_id=f"{device}=", user_id=user))
        assert sorted(ids(registry.by_user("u_1"))) == ["a=", "b="]
        assert ids(registry.by_user("u_10")) == ["c="]
        assert ids(registry.by_user("nobody")) == []

    def test_everyone_includes_anonymous_connections(self, registry: Registry) -> None:
        names = {f"c{n}=" for n in range(30)}
        for n, connection_id in enumerate(sorted(names)):
            registry.put(replace(CONNECTION, connection_id=connection_id, user_id=None if n % 2 else f"u_{n}"))
        assert sorted(ids(registry.everyone())) == sorted(names)

    def test_each_receiver_has_its_codec(self, registry: Registry) -> None:
        registry.put(CONNECTION)
        registry.put(replace(CONNECTION, connection_id="other="))
        assert registry.speak(CONNECTION, CENTRIFUGE) == replace(CONNECTION, codec=CENTRIFUGE)
        expected = [Receiver("L0SM9cOFvHcCIhw=", CENTRIFUGE), Receiver("other=")]
        assert sorted(registry.everyone()) == sorted(registry.by_user("u_1")) == expected

    def test_everyone_excludes_rows_that_are_not_connections(self, registry: Registry, rows: Table) -> None:
        rows.put({"PK": "ENDPOINT", "SK": "ENDPOINT", "managementEndpoint": "https://x"})
        assert ids(registry.everyone()) == []

    @pytest.mark.slow
    def test_audiences_are_read_page_by_page(
        self, registry: Registry, dynamodb: Any, dynamodb_calls: list[str], table_name: str
    ) -> None:
        # A page ends after 1 MB, so 1,500 connections with very long names make several.
        names = [f"{n:04}" + "x" * 900 for n in range(1_500)]
        filler = {"SK": {"S": "CONN"}, "GSI1PK": {"S": "USER#u_1"}, "ttl": {"N": str(CONNECTION.ttl)}}
        keys = [{"PK": {"S": f"CONN#{name}"}, "GSI1SK": {"S": f"CONN#{name}"}} for name in names]
        for batch in batched(keys, 25):
            requests = [{"PutRequest": {"Item": key | filler}} for key in batch]
            assert not dynamodb.batch_write_item(RequestItems={table_name: requests})["UnprocessedItems"]
        dynamodb_calls.clear()
        assert len(set(ids(registry.by_user("u_1")))) == 1_500
        assert dynamodb_calls.count("Query") > 1
        dynamodb_calls.clear()
        assert len(set(ids(registry.everyone()))) == 1_500
        assert dynamodb_calls.count("Scan") > 1


class TestFailure:
    @pytest.mark.parametrize(
        ("call", "operation"),
        [
            (lambda registry: registry.put(CONNECTION), "PutItem"),
            (lambda registry: registry.get("c="), "GetItem"),
            (lambda registry: registry.forget("c="), "DeleteItem"),
            (lambda registry: registry.prune("c="), "DeleteItem"),
            (lambda registry: list(registry.by_user("u_1")), "Query"),
            (lambda registry: list(registry.everyone()), "Scan"),
        ],
    )
    def test_an_error_names_the_operation_and_the_reason(
        self, dynamodb: Any, clock: Clock, call: Callable[[Registry], object], operation: str
    ) -> None:
        with pytest.raises(TableError) as failed:
            call(Registry(Table(dynamodb, "no-such-table", clock), clock))
        assert str(failed.value) == f"DynamoDB {operation} failed: ResourceNotFoundException"

    def test_a_table_that_does_not_answer_is_an_error(self, clock: Clock) -> None:
        config = Config(connect_timeout=1, retries={"total_max_attempts": 1})
        client = boto3.client("dynamodb", endpoint_url="http://127.0.0.1:9", config=config)
        with pytest.raises(TableError, match="^DynamoDB GetItem failed: EndpointConnectionError$"):
            Registry(Table(client, "table", clock), clock).get("c=")
        client.close()


class RegistryAgainstModel(RuleBasedStateMachine):
    """Any sequence of calls leaves the registry in the state of a plain dict."""

    dynamodb: Any
    names = st.sampled_from(["a=", "b=", "c="])
    users = st.sampled_from(["u_1", "u_2", None])

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(1_795_426_210.0)
        self.registry = Registry(Table(self.dynamodb, create_table(self.dynamodb), self.clock), self.clock)
        self.model: dict[str, Connection] = {}

    @rule(connection_id=names, user_id=users, ttl_seconds=st.sampled_from([10, 100]))
    def put(self, connection_id: str, user_id: str | None, ttl_seconds: int) -> None:
        now = self.clock.now
        connection = replace(
            CONNECTION,
            connection_id=connection_id,
            user_id=user_id,
            connected_at=timestamp(now),
            ttl=int(now) + ttl_seconds,
        )
        try:
            self.registry.put(connection)
        except Conflict:
            assert self.model[connection_id] != connection
            assert self.model[connection_id].ttl > now
        else:
            standing = self.model.get(connection_id)
            assert standing in (None, connection) or standing.ttl <= now
            self.model[connection_id] = connection

    @rule(connection_id=names)
    def forget(self, connection_id: str) -> None:
        assert self.registry.forget(connection_id) == self.model.pop(connection_id, None)

    @precondition(lambda self: self.model)
    @rule(connection_id=names)
    def prune(self, connection_id: str) -> None:
        connection = self.model.get(connection_id)
        is_old = connection is not None and connection.connected_at <= timestamp(self.clock.now - 5)
        assert self.registry.prune(connection_id) == (connection if is_old else None)
        if is_old:
            del self.model[connection_id]

    @rule(seconds=st.sampled_from([1, 5, 60]))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def audiences_agree(self) -> None:
        alive = {c.connection_id: c.user_id for c in self.model.values() if c.ttl > self.clock.now}
        assert sorted(ids(self.registry.everyone())) == sorted(alive)
        for user_id in ("u_1", "u_2"):
            expected = sorted(c for c, owner in alive.items() if owner == user_id)
            assert sorted(ids(self.registry.by_user(user_id))) == expected
        for connection_id in ("a=", "b=", "c="):
            connection = self.registry.get(connection_id)
            assert connection == (self.model[connection_id] if connection_id in alive else None)


@pytest.mark.slow
def test_the_registry_behaves_like_a_dict_with_expiry(dynamodb: Any) -> None:
    RegistryAgainstModel.dynamodb = dynamodb
    run_state_machine_as_test(
        RegistryAgainstModel,
        settings=settings(
            max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
