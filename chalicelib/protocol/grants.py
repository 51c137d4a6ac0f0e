"""What a connection may do: its grants, and which channels and users they reach. Pure.

Rules: what is not granted is not allowed; a deny entry beats every grant; no wildcard reaches another user's personal
channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from chalicelib.errors import Invalid
from chalicelib.protocol.frame import dump
from chalicelib.protocol.names import is_name

# They are stored in the connection's row, and a row is billed by the kilobyte.
MAX_GRANTS_BYTES: Final = 2_048
PERSONAL: Final = "user:"


class Verb(Enum):
    """What can be granted: the first four for a channel, SEND for a user, BROADCAST for everyone."""

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
    """One side of the grants, as the claims give it.

    Attributes:
        channels: pattern -> verbs. A pattern is a name, `namespace:*` or `*`.
        users: patterns of the users to whom messages may be sent.
        broadcast: whether everyone may be addressed.
    """

    channels: Mapping[str, frozenset[Verb]] = field(default_factory=dict)
    users: frozenset[str] = frozenset()
    broadcast: bool = False

    def reach(self, verb: Verb, target: str | None) -> bool:
        """Return whether `verb` on `target` is among these rights, whoever holds them."""
        if verb is Verb.BROADCAST:
            return self.broadcast
        if verb is Verb.SEND:
            return any(_matches(pattern, target) for pattern in self.users)
        return any(verb in verbs and _matches(pattern, target) for pattern, verbs in self.channels.items())

    def as_claims(self) -> dict[str, Any]:
        """Return the shortest claims that give these rights."""
        channels = {
            pattern: [name for name, verb in _CHANNEL_VERBS.items() if verb in verbs]
            for pattern, verbs in self.channels.items()
        }
        claims = {"channels": channels, "users": sorted(self.users), "broadcast": self.broadcast}
        return {name: value for name, value in claims.items() if value}


@dataclass(frozen=True)
class Grants:
    """What is granted, and what is denied even so."""

    granted: Rights = field(default_factory=Rights)
    denied: Rights = field(default_factory=Rights)

    def allow(self, user_id: str | None, verb: Verb, target: str | None = None) -> bool:
        """Return whether these grants give `verb` on `target` to their holder, unless `deny` returns True.

        Args:
            user_id: the holder; None if anonymous.
            target: the channel, the user (None if anonymous), or None for BROADCAST.
        """
        if verb in _CHANNEL_VERBS.values() and target and target.startswith(PERSONAL):
            if user_id is None or target != PERSONAL + user_id:
                return verb in self.granted.channels.get(target, ())
            if verb in _OWNER_VERBS:
                return True
        return self.granted.reach(verb, target)

    def deny(self, verb: Verb, target: str | None = None) -> bool:
        """Return whether `verb` on `target` is denied, whatever allows it."""
        return self.denied.reach(verb, target)

    def as_claims(self) -> dict[str, Any]:
        """Return the claims that give these grants: `parse_grants(grants.as_claims()) == grants`."""
        denied = self.denied.as_claims()
        return self.granted.as_claims() | ({"deny": denied} if denied else {})


NOTHING: Final = Grants()
EVERYTHING: Final = Grants(Rights({"*": frozenset(_CHANNEL_VERBS.values())}, frozenset({"*"}), True))


def parse_grants(claims: Mapping[str, Any]) -> Grants:
    """Return the grants in the claims `channels`, `users`, `broadcast` and `deny`; ignore others. Raises Invalid."""
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
    if not isinstance(value, str):
        raise Invalid(claim, "must have strings as patterns")
    name = value.removesuffix(":*")
    is_wildcard = name != value
    if value != "*" and (not is_name(name) or (is_wildcard and ":" in name)):
        raise Invalid(claim, "must have names, namespace:* or * as patterns")
    return value


def _matches(pattern: str, name: str | None) -> bool:
    if pattern in ("*", name):
        return True
    return name is not None and pattern.endswith(":*") and name.startswith(pattern[:-1])
