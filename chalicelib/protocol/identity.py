"""Who a client is, and until when, as tokens and tickets say it in their claims. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chalicelib.errors import Invalid
from chalicelib.protocol.grants import Grants, parse_grants
from chalicelib.protocol.names import check_name

# The year 5138: what lies beyond is a slip (milliseconds, say), and no number that a row should hold.
MAX_TIME: Final = 10**11


@dataclass(frozen=True)
class Identity:
    """A connection's owner.

    Attributes:
        user_id, device_id: None for someone anonymous.
        expires_at: epoch seconds from which on the connection does not count; None where nothing but API Gateway
            ends it.
        grants: what the credential grants; None for someone anonymous, who may do what the settings say.
        is_signed_in: False for a client that must send `authenticate` before `expires_at` and can do nothing else.
    """

    user_id: str | None
    device_id: str | None
    expires_at: int | None = None
    grants: Grants | None = None
    is_signed_in: bool = True


def read_identity(claims: Mapping[str, Any], user: str, expires: str) -> Identity:
    """The identity that these claims give; `deviceId` and the grants are optional and their names always the same.

    Args:
        claims: a token's or a ticket's, of any origin.
        user, expires: the names of the claims that hold the user id and the end; only `user` must be there.

    Raises:
        Invalid: one of them is not what docs/PROTOCOL.md says.
    """
    device_id = claims.get("deviceId")
    return Identity(
        user_id=check_name(claims.get(user), user),
        device_id=None if device_id is None else check_name(device_id, "deviceId"),
        expires_at=None if claims.get(expires) is None else int(read_time(claims, expires)),
        grants=parse_grants(claims),
    )


def read_time(claims: Mapping[str, Any], name: str) -> float:
    """The claim `name` is a time in epoch seconds. Raises Invalid where it is missing or anything else."""
    value = claims.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= MAX_TIME:  # type: ignore[arg-type, operator]
        raise Invalid(name, "must be a time in epoch seconds")
    return float(value)  # type: ignore[arg-type]
