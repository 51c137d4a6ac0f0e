"""Single-use tickets: docs/PROTOCOL.md, "Tickets"."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chalicelib.errors import Unauthenticated
from chalicelib.protocol.grants import NOTHING, Grants, Rights
from chalicelib.protocol.identity import Identity
from chalicelib.store.table import Table
from chalicelib.store.tickets import Tickets
from tests.conftest import Clock

ANN = Identity("u_123", "phone", 1_795_430_000, Grants(Rights(users=frozenset({"*"}))))


@pytest.fixture
def tickets(rows: Table, clock: Clock) -> Tickets:
    return Tickets(rows, 60, clock)


def refusal(tickets: Tickets, ticket: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        tickets.redeem(ticket)
    return refused.value.reason


def test_a_ticket_returns_the_identity_it_was_issued_for(tickets: Tickets) -> None:
    assert tickets.redeem(tickets.issue(ANN).ticket) == ANN


def test_what_an_identity_leaves_out_stays_unknown(tickets: Tickets) -> None:
    bare = Identity("u_123", None, None, NOTHING)
    assert tickets.redeem(tickets.issue(bare).ticket) == bare


def test_a_ticket_can_be_used_once(tickets: Tickets) -> None:
    ticket = tickets.issue(ANN).ticket
    tickets.redeem(ticket)
    assert refusal(tickets, ticket) == "unknown, used or late ticket"


def test_only_one_of_many_redeems_it(tickets: Tickets) -> None:
    ticket = tickets.issue(ANN).ticket

    def race(_: int) -> bool:
        try:
            return tickets.redeem(ticket) == ANN
        except Unauthenticated:
            return False

    with ThreadPoolExecutor(8) as racers:
        assert sum(racers.map(race, range(24))) == 1


def test_a_ticket_expires_after_its_time_to_live(tickets: Tickets, clock: Clock) -> None:
    first, second = tickets.issue(ANN), tickets.issue(ANN)
    assert first.expires_at == clock.now + 60
    clock.now += 59
    assert tickets.redeem(first.ticket) == ANN
    clock.now += 1
    assert refusal(tickets, second.ticket) == "unknown, used or late ticket"


def test_a_ticket_is_useless_after_its_identity_expired(tickets: Tickets, clock: Clock) -> None:
    ticket = tickets.issue(Identity("u_123", None, int(clock.now) + 30, NOTHING)).ticket
    clock.now += 30
    assert refusal(tickets, ticket) == "expired"


@pytest.mark.parametrize("ticket", ["", "x", "x" * 129, "é", "\ud800", "a#b"])
def test_an_unknown_ticket_is_refused(tickets: Tickets, ticket: str) -> None:
    refusal(tickets, ticket)


def test_the_table_does_not_reveal_tickets(tickets: Tickets, dynamodb: Any, table_name: str) -> None:
    ticket = tickets.issue(ANN).ticket
    assert len(ticket) == 43
    (row,) = dynamodb.scan(TableName=table_name)["Items"]
    assert ticket not in str(row)
    assert refusal(tickets, row["PK"]["S"].removeprefix("TICKET#")) == "unknown, used or late ticket"


@pytest.mark.parametrize("claims", ["", "[]", "{}", '{"userId":"a#b"}', '{"userId":"u_1","users":7}'])
def test_an_unreadable_ticket_of_another_version_is_refused(
    tickets: Tickets, dynamodb: Any, table_name: str, claims: str
) -> None:
    ticket = tickets.issue(ANN).ticket
    (row,) = dynamodb.scan(TableName=table_name)["Items"]
    dynamodb.put_item(TableName=table_name, Item=row | {"claims": {"S": claims}})
    assert refusal(tickets, ticket) == "unreadable ticket"
