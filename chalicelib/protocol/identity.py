"""Who a client is, and until when, as the claims of its token or ticket say. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chalicelib.errors import Invalid
from chalicelib.protocol.grants import Grants, parse_grants
from chalicelib.protocol.names import check_name

# The year 5138. Larger values are mistakes (milliseconds, usually) and must not reach a row.
MAX_TIME: Final = 10**11


@dataclass(frozen=True)
class Identity:
    """A connection's owner.

    Attributes:
        user_id, device_id: None for an anonymous client.
        expires_at: when the connection expires, in epoch seconds; None if only API Gateway ends it.
        grants: what the credential grants; None for an anonymous client, which may do what the settings say.
        is_signed_in: False for a client that can do nothing but send `authenticate` before `expires_at`.
    """

    user_id: str | None
    device_id: str | None
    expires_at: int | None = None
    grants: Grants | None = None
    is_signed_in: bool = True


def read_identity(claims: Mapping[str, Any], user: str, expires: str) -> Identity:
    """Return the identity that these claims of a token or ticket give. Raises Invalid.

    Args:
        user, expires: the names of the claims with the user id and the expiry; only `user` is required. `deviceId`
            and the grants are optional, and have the same names in tokens and tickets.
    """
    device_id = claims.get("deviceId")
    return Identity(
        user_id=check_name(claims.get(user), user),
        device_id=None if device_id is None else check_name(device_id, "deviceId"),
        expires_at=None if claims.get(expires) is None else int(read_time(claims, expires)),
        grants=parse_grants(claims),
    )


def read_time(claims: Mapping[str, Any], name: str) -> float:
    """Return the claim `name`, a time in epoch seconds. Raises Invalid if it is missing or anything else."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TIME:
        raise Invalid(name, "must be a time in epoch seconds")
    return float(value)
