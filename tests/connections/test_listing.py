"""Who is connected, page by page: `GET /connections`, against a real engine over HTTP."""

from base64 import urlsafe_b64encode
from dataclasses import replace

import pytest

from chalicelib.connections.listing import read_page
from chalicelib.handlers import rest, websocket
from chalicelib.peal import Peal
from chalicelib.store.registry import Registry
from chalicelib.store.table import Table
from tests.conftest import Clock
from tests.store.test_registry import CONNECTION
from tests.support import raw_events

BAD_PLACE = "after must be the `next` of the page before."


@pytest.fixture
def crowd(rows: Table, clock: Clock) -> set[tuple[str, str | None]]:
    """Ten connections: two of each of three users, four of nobody known; and one whose time has run out."""
    registry = Registry(rows, clock)
    owners = [f"u_{number % 3}" for number in range(6)] + [None] * 4
    for number, user_id in enumerate(owners):
        registry.put(replace(CONNECTION, connection_id=f"c{number}+=", user_id=user_id))
    registry.put(replace(CONNECTION, connection_id="late=", ttl=int(clock.now) - 1))
    return {(f"c{number}+=", user_id) for number, user_id in enumerate(owners)}


def read(registry: Registry, clock: Clock, limit: int) -> list[tuple[str, str | None]]:
    named, after = [], None
    while True:
        page = read_page(registry, clock, after, limit)
        assert len(page.connections) <= limit
        named += page.connections
        after = page.next
        if after is None:
            return named


class TestReading:
    @pytest.mark.parametrize("limit", [1, 3, 10, 11, 1_000])
    def test_the_pages_name_each_connection_once(
        self, rows: Table, clock: Clock, crowd: set[tuple[str, str | None]], limit: int
    ) -> None:
        named = read(Registry(rows, clock), clock, limit)
        assert len(named) == len(crowd)
        assert set(named) == crowd

    def test_the_next_page_follows_though_the_last_entry_has_left(
        self, rows: Table, clock: Clock, crowd: set[tuple[str, str | None]]
    ) -> None:
        registry = Registry(rows, clock)
        first = read_page(registry, clock, None, 4)
        for connection_id, _ in first.connections:
            Registry(rows, clock).forget(connection_id)
        rest_of_it = []
        after = first.next
        while after:
            page = read_page(registry, clock, after, 4)
            rest_of_it += page.connections
            after = page.next
        assert {*first.connections, *rest_of_it} == crowd

    def test_no_connections_make_one_empty_page(self, rows: Table, clock: Clock) -> None:
        assert read_page(Registry(rows, clock), clock, None, 10).as_dict() == {"connections": [], "next": None}


class TestOverRest:
    def test_connections_and_their_users(self, peal: Peal) -> None:
        websocket.connect(peal, raw_events.connect("c1=", {"userId": "u_1"}))
        websocket.connect(peal, raw_events.connect("c2=", {}))
        status, body = rest.answer(rest.get_roll, peal, {})
        assert body is not None
        assert (status, body["next"]) == (200, None)
        assert sorted(body["connections"], key=lambda one: one["connectionId"]) == [
            {"connectionId": "c1=", "userId": "u_1"},
            {"connectionId": "c2=", "userId": None},
        ]

    def test_after_returns_the_next_page(self, peal: Peal) -> None:
        for number in range(3):
            websocket.connect(peal, raw_events.connect(f"c{number}=", {"userId": "u_1"}))
        _, first = rest.answer(rest.get_roll, peal, {"limit": "2"})
        assert first is not None
        _, second = rest.answer(rest.get_roll, peal, {"limit": "2", "after": first["next"]})
        assert second is not None
        named = [one["connectionId"] for one in first["connections"] + second["connections"]]
        assert (len(first["connections"]), sorted(named)) == (2, ["c0=", "c1=", "c2="])

    @pytest.mark.parametrize("limit", ["0", "1001", "-1", "1.5", "ten", ""])
    def test_an_invalid_limit_is_refused(self, peal: Peal, limit: str) -> None:
        status, body = rest.answer(rest.get_roll, peal, {"limit": limit})
        assert body is not None
        assert (status, body["error"]["message"]) == (400, "limit must be a whole number from 1 to 1000.")

    @pytest.mark.parametrize(
        "place", ["", "?", "é", "A", "YQ", "____", urlsafe_b64encode(b"USER#u_1#c1").decode()], ids=repr
    )
    def test_an_unknown_place_is_refused(self, peal: Peal, place: str) -> None:
        status, body = rest.answer(rest.get_roll, peal, {"after": place})
        assert body is not None
        assert (status, body["error"]["message"]) == (400, BAD_PLACE)
