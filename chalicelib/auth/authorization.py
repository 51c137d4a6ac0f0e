"""Whether a connection may do something: its grants, and what the app itself says.

Invariant: a denial wins. The app's hook and the grants may each deny and each allow; silence allows nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.errors import Forbidden
from chalicelib.protocol.grants import Grants, Verb
from chalicelib.store.connection import Connection

# The app's own decision: True allows, False denies, None leaves it to the grants. The target is the channel, the user
# (None if anonymous), or None for BROADCAST.
Hook = Callable[[Connection, Verb, str | None], bool | None]


@dataclass(eq=False, repr=False)
class Authorization:
    """Decides. `anonymous` is what connections without a credential may do."""

    anonymous: Grants
    hook: Hook

    def allows(self, connection: Connection, verb: Verb, target: str | None = None) -> bool:
        """Return whether the connection may do `verb` to `target`; see `Grants.allow`."""
        grants = self.anonymous if connection.grants is None else connection.grants
        if grants.deny(verb, target):
            return False
        decision = self.hook(connection, verb, target)
        return grants.allow(connection.user_id, verb, target) if decision is None else decision

    def check(self, connection: Connection, verb: Verb, target: str | None = None) -> None:
        """Raise Forbidden if the connection may not do `verb` to `target`."""
        if not self.allows(connection, verb, target):
            raise Forbidden


def no_opinion(connection: Connection, verb: Verb, target: str | None) -> bool | None:
    """Leave every decision to the grants: the hook of an app that has none."""
    return None
