"""Who may connect, and as whom: docs/PROTOCOL.md, "Connecting"."""

from collections.abc import Callable
from typing import Any

import boto3
import pytest

from chalicelib.auth.authentication import Authentication
from chalicelib.auth.tokens import Tokens
from chalicelib.aws.secrets import Secrets
from chalicelib.errors import Forbidden, Invalid, Unauthenticated
from chalicelib.peal import Peal
from chalicelib.protocol.events import ConnectEvent, parse_connect
from chalicelib.protocol.grants import NOTHING
from chalicelib.protocol.identity import Identity
from chalicelib.settings import Settings
from chalicelib.store.table import Table
from chalicelib.store.tickets import Tickets
from tests.conftest import Clock
from tests.support import raw_events
from tests.support.signing import NEW, NOW, claims, token

Make = Callable[..., Authentication]


@pytest.fixture
def authentication(rows: Table, clock: Clock, session: boto3.session.Session) -> Make:
    def make(**variables: Any) -> Authentication:
        settings = Settings("t", **{"jwt_secrets": NEW} | variables)
        tokens = Tokens(settings, Secrets(session, clock), clock)
        return Authentication(settings, tokens, Tickets(rows, 60, clock), clock)

    return make


def handshake(query: dict[str, str] | None = None, **headers: str) -> ConnectEvent:
    event = raw_events.connect(query=query)
    event["headers"] |= headers
    return parse_connect(event)


class TestWithCredential:
    def test_a_token_identifies_its_user(self, authentication: Make) -> None:
        identity = authentication().identify(handshake(Authorization=f"Bearer {token(deviceId='phone')}"))
        assert identity == Identity("u_123", "phone", NOW + 3_600, NOTHING)

    def test_a_ticket_identifies_its_user(self, authentication: Make) -> None:
        auth = authentication(jwt_secrets=None)
        ticket = auth.tickets.issue(Identity("u_123", None, NOW + 60))
        assert auth.identify(handshake({"ticket": ticket.ticket})) == Identity("u_123", None, NOW + 60, NOTHING)

    @pytest.mark.parametrize("allow_anonymous", [True, False])
    def test_the_token_beats_the_user_id_in_the_query(self, authentication: Make, allow_anonymous: bool) -> None:
        auth = authentication(allow_anonymous=allow_anonymous)
        assert auth.identify(handshake({"token": token(), "userId": "u_456"})).user_id == "u_123"

    def test_the_query_names_the_device_only_if_the_token_does_not(self, authentication: Make) -> None:
        auth = authentication()
        assert auth.identify(handshake({"token": token(), "deviceId": "phone"})).device_id == "phone"
        bound = token(deviceId="tablet")
        assert auth.identify(handshake({"token": bound, "deviceId": "phone"})).device_id == "tablet"

    @pytest.mark.parametrize("query", [{"token": "a.b.c"}, {"token": ""}, {"ticket": "x"}, {"ticket": ""}])
    def test_a_bad_credential_is_refused_even_where_none_is_required(
        self, authentication: Make, query: dict[str, str]
    ) -> None:
        with pytest.raises(Unauthenticated):
            authentication(allow_anonymous=True).identify(handshake(query))


class TestWithoutCredential:
    def test_with_anonymous_use_allowed_the_query_names_the_user(self, authentication: Make) -> None:
        auth = authentication(allow_anonymous=True)
        assert auth.identify(handshake({"userId": "u_1", "deviceId": "phone"})) == Identity("u_1", "phone")
        assert auth.identify(handshake({"userId": "ann@example.com"})) == Identity("ann@example.com", None)
        assert auth.identify(handshake()) == Identity(None, None)

    @pytest.mark.parametrize("query", [{}, {"userId": "u_1"}])
    def test_otherwise_every_client_is_refused(self, authentication: Make, query: dict[str, str]) -> None:
        with pytest.raises(Unauthenticated, match="^Not signed in.$"):
            authentication().identify(handshake(query))

    def test_late_authentication_has_ten_seconds(self, authentication: Make) -> None:
        auth = authentication(allow_late_authentication=True)
        identity = auth.identify(handshake({"userId": "u_1", "deviceId": "phone"}))
        assert identity == Identity(None, "phone", NOW + 10, is_signed_in=False)

    @pytest.mark.parametrize("field", ["userId", "deviceId"])
    @pytest.mark.parametrize("value", ["", "a#b", "CONN#1", "a/b", "a b", "é", "x" * 129])
    def test_a_name_that_cannot_be_part_of_a_key_is_invalid(self, authentication: Make, field: str, value: str) -> None:
        with pytest.raises(Invalid) as refused:
            authentication(allow_anonymous=True).identify(handshake({field: value}))
        assert str(refused.value) == f"{field} must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -."


class TestOrigins:
    ALLOWED = frozenset(("https://app.example.com", "http://localhost:3000"))

    @pytest.mark.parametrize("origin", sorted(ALLOWED))
    def test_an_allowed_origin_passes(self, authentication: Make, origin: str) -> None:
        auth = authentication(allow_anonymous=True, allowed_origins=self.ALLOWED)
        assert auth.identify(handshake(Origin=origin))

    @pytest.mark.parametrize(
        "origin",
        [
            "https://app.example.com:443",
            "http://app.example.com",
            "https://app.example.com.evil.example",
            "https://evil.example",
            "null",
            "",
        ],
    )
    def test_another_origin_is_refused_and_keeps_its_ticket(self, authentication: Make, origin: str) -> None:
        auth = authentication(allowed_origins=self.ALLOWED)
        ticket = auth.tickets.issue(Identity("u_123", None)).ticket
        with pytest.raises(Forbidden):
            auth.identify(handshake({"ticket": ticket}, Origin=origin))
        assert auth.identify(handshake({"ticket": ticket})).user_id == "u_123"

    def test_without_a_list_every_origin_passes(self, authentication: Make) -> None:
        assert authentication(allow_anonymous=True).identify(handshake(Origin="https://any.example"))


class TestIssuing:
    def test_a_ticket_needs_a_user_and_an_end_in_the_future(self, peal: Peal) -> None:
        with pytest.raises(Invalid, match="^userId must be a string.$"):
            peal.issue_ticket({})
        with pytest.raises(Invalid, match="^expiresAt must be in the future.$"):
            peal.issue_ticket({"userId": "u_1", "expiresAt": NOW})
        with pytest.raises(Invalid, match="^expiresAt must be a time in epoch seconds.$"):
            peal.issue_ticket({"userId": "u_1", "expiresAt": "soon"})

    def test_a_token_that_we_sign_is_accepted(self, peal: Peal) -> None:
        assert peal.tokens.verify(peal.issue_token(claims(deviceId="phone"))).device_id == "phone"

    def test_claims_that_would_be_refused_are_not_signed(self, peal: Peal) -> None:
        with pytest.raises(Invalid, match="^exp must be a time in epoch seconds.$"):
            peal.issue_token(claims(exp=None))
        with pytest.raises(Invalid, match="^sub must be a string.$"):
            peal.issue_token(claims(sub=None))
