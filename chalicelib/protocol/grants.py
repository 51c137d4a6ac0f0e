"""What a connection may do: its grants and whom they reach. Pure.

Rules: nothing granted means nothing allowed; a deny entry wins over whatever grants; no wildcard reaches the
personal channel of another user.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from chalicelib.errors import Invalid
from chalicelib.protocol.frame import dump
from chalicelib.protocol.names import check_name

# They stand on the connection's row, and a row is billed by the kilobyte.
MAX_GRANTS_BYTES: Final = 2_048
PERSONAL: Final = "user:"


class Verb(Enum):
    """What can be granted: the first four for a channel, SEND for a user, BROADCAST as it is."""

    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    PRESENCE = "presence"
    HISTORY = "history"
    SEND = "send"
    BROADCAST = "broadcast"


_CHANNEL_VERBS: Final = {verb.value: verb for verb in (Verb.SUBSCRIBE, Verb.PUBLISH, Verb.PRESENCE, Verb.HISTORY)}
_OWNER_VERBS: Final = frozenset({Verb.SUBSCRIBE, Verb.HISTORY})


@dataclass(frozen=True)
class Rights:
    """One side of the grants, as the claims say it.

    Attributes:
        channels: pattern -> verbs. A pattern is a name, `namespace:*` or `*`.
        users: patterns of users to whom messages may be sent.
        broadcast: whether everyone may be addressed.
    """

    channels: Mapping[str, frozenset[Verb]] = field(default_factory=dict)
    users: frozenset[str] = frozenset()
    broadcast: bool = False

    def as_claims(self) -> dict[str, Any]:
        """The claims that say the same, in their shortest form."""
        claims: dict[str, Any] = {}
        if self.channels:
            claims["channels"] = {
                pattern: [name for name, verb in _CHANNEL_VERBS.items() if verb in verbs]
                for pattern, verbs in self.channels.items()
            }
        if self.users:
            claims["users"] = sorted(self.users)
        if self.broadcast:
            claims["broadcast"] = True
        return claims


@dataclass(frozen=True)
class Grants:
    """What is granted, and what is denied all the same."""

    granted: Rights = field(default_factory=Rights)
    denied: Rights = field(default_factory=Rights)

    def allow(self, user_id: str | None, verb: Verb, target: str | None = None) -> bool:
        """Whether these grants give `verb` on `target` to the user who holds them; see also `deny`, which wins.

        Args:
            user_id: who holds them; None is someone anonymous.
            verb: what is asked for.
            target: the channel, the user (None: someone anonymous), or None for BROADCAST.
        """
        if verb is Verb.BROADCAST:
            return self.granted.broadcast
        if verb is Verb.SEND:
            return any(_matches(pattern, target) for pattern in self.granted.users)
        channel = target or ""
        owner = channel.removeprefix(PERSONAL) if channel.startswith(PERSONAL) else None
        if owner is not None and owner == user_id and verb in _OWNER_VERBS:
            return True
        is_open = owner is None or owner == user_id
        return any(
            verb in verbs and (pattern == channel or (is_open and _matches(pattern, channel)))
            for pattern, verbs in self.granted.channels.items()
        )

    def deny(self, verb: Verb, target: str | None = None) -> bool:
        """Whether `verb` on `target` is denied, whoever holds these grants and whatever allows it."""
        if verb is Verb.BROADCAST:
            return self.denied.broadcast
        if verb is Verb.SEND:
            return any(_matches(pattern, target) for pattern in self.denied.users)
        return any(verb in verbs and _matches(pattern, target) for pattern, verbs in self.denied.channels.items())

    def as_claims(self) -> dict[str, Any]:
        """The claims that say the same: `parse_grants(grants.as_claims()) == grants`."""
        denied = self.denied.as_claims()
        return self.granted.as_claims() | ({"deny": denied} if denied else {})


NOTHING: Final = Grants()
EVERYTHING: Final = Grants(Rights({"*": frozenset(_CHANNEL_VERBS.values())}, frozenset({"*"}), True))


def parse_grants(claims: Mapping[str, Any]) -> Grants:
    """The grants that the claims `channels`, `users`, `broadcast` and `deny` give; other claims are not looked at.

    Raises:
        Invalid: one of them is not what docs/PROTOCOL.md says, or all together have more than MAX_GRANTS_BYTES.
    """
    denied = claims.get("deny", {})
    if not isinstance(denied, Mapping) or not denied.keys() <= {"channels", "users", "broadcast"}:
        raise Invalid("deny", "must be an object of channels, users and broadcast")
    grants = Grants(_rights(claims, ""), _rights(denied, "deny."))
    if len(dump(grants.as_claims()).encode()) > MAX_GRANTS_BYTES:
        raise Invalid("channels", f"and the other grants must have at most {MAX_GRANTS_BYTES} bytes together")
    return grants


def _rights(claims: Mapping[str, Any], prefix: str) -> Rights:
    broadcast = claims.get("broadcast", False)
    if not isinstance(broadcast, bool):
        raise Invalid(f"{prefix}broadcast", "must be true or false")
    users = claims.get("users", [])
    if not isinstance(users, list):
        raise Invalid(f"{prefix}users", "must be an array of patterns")
    channels = claims.get("channels", {})
    if not isinstance(channels, Mapping):
        raise Invalid(f"{prefix}channels", "must be an object of patterns and their verbs")
    return Rights(
        {_pattern(pattern, f"{prefix}channels"): _verbs(verbs, prefix) for pattern, verbs in channels.items()},
        frozenset(_pattern(pattern, f"{prefix}users") for pattern in users),
        broadcast,
    )


def _verbs(names: object, prefix: str) -> frozenset[Verb]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name in _CHANNEL_VERBS for name in names):
        raise Invalid(f"{prefix}channels", f"must have arrays of {', '.join(_CHANNEL_VERBS)} as values")
    return frozenset(_CHANNEL_VERBS[name] for name in names)


def _pattern(value: object, claim: str) -> str:
    if value == "*":
        return "*"
    if not isinstance(value, str):
        raise Invalid(claim, "must have strings as patterns")
    namespace, is_wildcard = value.removesuffix(":*"), value.endswith(":*")
    try:
        check_name(namespace, claim)
    except Invalid as error:
        raise Invalid(claim, "must have names, namespace:* or * as patterns") from error
    if is_wildcard and ":" in namespace:
        raise Invalid(claim, "must have names, namespace:* or * as patterns")
    return value


def _matches(pattern: str, name: str | None) -> bool:
    if pattern in ("*", name):
        return True
    return name is not None and pattern.endswith(":*") and name.startswith(pattern[:-1])
