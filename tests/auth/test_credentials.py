"""Where a handshake may carry a token or ticket: docs/PROTOCOL.md, "Tokens" and "Tickets"."""

from itertools import combinations

import pytest

from chalicelib.auth.authentication import Credential, choose_subprotocol, find_credential
from chalicelib.errors import Invalid
from chalicelib.protocol.events import ConnectEvent, parse_connect
from tests.support import raw_events

PLACES = {
    "header": ({"Authorization": "Bearer a.b.c"}, {}),
    "sub-protocol": ({"Sec-WebSocket-Protocol": "peal, bearer.a.b.c"}, {}),
    "query": ({}, {"token": "a.b.c"}),
    "ticket": ({}, {"ticket": "t1"}),
}


def handshake(headers: dict[str, str], query: dict[str, str]) -> ConnectEvent:
    event = raw_events.connect(query=query)
    event["headers"] |= headers
    return parse_connect(event)


@pytest.mark.parametrize("place", ["header", "sub-protocol", "query"])
def test_a_token_is_found_in_each_of_its_places(place: str) -> None:
    assert find_credential(handshake(*PLACES[place])) == Credential("a.b.c")


def test_a_ticket_is_found_in_the_query() -> None:
    assert find_credential(handshake(*PLACES["ticket"])) == Credential("t1", is_ticket=True)


def test_a_user_id_alone_is_no_credential() -> None:
    assert find_credential(handshake({}, {"userId": "u_1"})) is None


@pytest.mark.parametrize("pair", list(combinations(PLACES, 2)), ids="+".join)
def test_any_two_credentials_are_refused(pair: tuple[str, str]) -> None:
    (headers, query), (other_headers, other_query) = PLACES[pair[0]], PLACES[pair[1]]
    with pytest.raises(Invalid) as refused:
        find_credential(handshake(headers | other_headers, query | other_query))
    assert str(refused.value) == ("token must be given once, by header, sub-protocol or query, and without a ticket.")


def test_two_tokens_among_the_sub_protocols_are_refused() -> None:
    with pytest.raises(Invalid, match="^token must be given once"):
        find_credential(handshake({"Sec-WebSocket-Protocol": "peal, bearer.a.b.c, bearer.d.e.f"}, {}))


@pytest.mark.parametrize("value", ["bearer a.b.c", "BEARER  a.b.c", " Bearer a.b.c "])
def test_the_scheme_is_case_insensitive_and_spaces_are_ignored(value: str) -> None:
    assert find_credential(handshake({"authorization": value}, {})) == Credential("a.b.c")


@pytest.mark.parametrize("value", ["Basic dTpw", "AWS4-HMAC-SHA256 Credential=x", ""])
def test_other_schemes_are_ignored(value: str) -> None:
    assert find_credential(handshake({"Authorization": value}, {})) is None


def test_an_empty_credential_still_counts_as_one() -> None:
    assert find_credential(handshake({"Authorization": "Bearer"}, {})) == Credential("")
    assert find_credential(handshake({}, {"token": ""})) == Credential("")


def test_a_token_among_the_sub_protocols_needs_peal_beside_it() -> None:
    with pytest.raises(Invalid) as refused:
        find_credential(handshake({"Sec-WebSocket-Protocol": "bearer.a.b.c"}, {}))
    assert str(refused.value) == "Sec-WebSocket-Protocol must offer peal beside bearer.<token>."


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("peal", "peal"), ("other,peal", "peal"), ("bearer.x, peal", "peal"), ("other", None), ("PEAL", None)],
)
def test_only_the_sub_protocol_peal_is_chosen(offered: str, chosen: str | None) -> None:
    assert choose_subprotocol({"sec-websocket-protocol": offered}) == chosen
    assert choose_subprotocol({}) is None


def test_the_repr_of_a_credential_hides_its_text() -> None:
    assert "a.b.c" not in repr(Credential("a.b.c"))
