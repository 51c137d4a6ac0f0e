"""Who a client is.

Sign-in by token is not here yet: a client says itself who it is, and only where ALLOW_ANONYMOUS=true permits that.
Default closed: without it everyone is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from chalicelib.errors import Unauthenticated
from chalicelib.names import check_name
from chalicelib.settings import Settings


@dataclass(frozen=True)
class Identity:
    """A connection's owner; both None for someone anonymous."""

    user_id: str | None
    device_id: str | None


def identify(query: Mapping[str, str], settings: Settings) -> Identity:
    """The identity that the query string claims.

    Raises:
        Unauthenticated: the settings do not allow someone who has not signed in.
        Invalid: userId or deviceId is no name.
    """
    if not settings.allow_anonymous:
        raise Unauthenticated
    return Identity(_claim(query, "userId"), _claim(query, "deviceId"))


def _claim(query: Mapping[str, str], field: str) -> str | None:
    return check_name(query[field], field) if field in query else None
