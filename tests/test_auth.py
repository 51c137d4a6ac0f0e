"""Who a client is: docs/PROTOCOL.md, "Connecting"."""

import pytest

from chalicelib.auth import Identity, identify
from chalicelib.errors import Invalid, Unauthenticated
from chalicelib.settings import Settings

OPEN, CLOSED = Settings("t", allow_anonymous=True), Settings("t")


def test_where_anonymous_use_is_allowed_the_query_says_who_someone_is() -> None:
    assert identify({"userId": "u_1", "deviceId": "phone"}, OPEN) == Identity("u_1", "phone")
    assert identify({"userId": "ann@example.com"}, OPEN) == Identity("ann@example.com", None)
    assert identify({}, OPEN) == Identity(None, None)


@pytest.mark.parametrize("query", [{}, {"userId": "u_1"}])
def test_elsewhere_everyone_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated, match="^Not signed in: connect again.$"):
        identify(query, CLOSED)


@pytest.mark.parametrize("field", ["userId", "deviceId"])
@pytest.mark.parametrize("value", ["", "a#b", "CONN#1", "a/b", "a b", "é", "x" * 129])
def test_a_name_that_could_not_stand_in_a_key_is_invalid(field: str, value: str) -> None:
    with pytest.raises(Invalid) as refused:
        identify({field: value}, OPEN)
    assert str(refused.value) == f"{field} must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ @ : | = + -."
