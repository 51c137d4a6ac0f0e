"""Whether a connection may do something: its grants, and what the app itself says.

Invariant: whoever denies wins. The app's hook and the grants may each deny and each allow; silence allows nothing.
"""

from collections.abc import Callable

from chalicelib.errors import Forbidden
from chalicelib.protocol.grants import Grants, Verb
from chalicelib.store.registry import Connection

# The app's own say: True allows, False denies, None leaves it to the grants. The target is the channel, the user
# (None: someone anonymous), or None for BROADCAST.
Hook = Callable[[Connection, Verb, str | None], bool | None]


class Authorization:
    """Decides; `anonymous` is what connections may do that no credential speaks for."""

    def __init__(self, anonymous: Grants, hook: Hook) -> None:
        self._anonymous = anonymous
        self._hook = hook

    def allows(self, connection: Connection, verb: Verb, target: str | None = None) -> bool:
        """Whether the connection may do `verb` to `target`; see `Grants.allow`."""
        grants = self._anonymous if connection.grants is None else connection.grants
        if grants.deny(verb, target):
            return False
        said = self._hook(connection, verb, target)
        return grants.allow(connection.user_id, verb, target) if said is None else said

    def check(self, connection: Connection, verb: Verb, target: str | None = None) -> None:
        """Raises Forbidden where the connection may not."""
        if not self.allows(connection, verb, target):
            raise Forbidden


def no_opinion(connection: Connection, verb: Verb, target: str | None) -> bool | None:
    """The hook of an app that leaves all to the grants."""
    return None
