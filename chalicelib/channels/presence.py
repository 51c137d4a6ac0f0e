"""Who is in a channel, and telling its members who comes and goes.

A user with several connections is there once. Someone who was cut off counts as here for a while, so that a client
which reconnects was never away: its membership stands on, marked as left, and a job looks later whether it came back.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from chalicelib.delivery.delivery import Delivery
from chalicelib.errors import NotAvailable, ServiceError
from chalicelib.protocol import frame
from chalicelib.protocol.namespaces import Channel
from chalicelib.store.members import Channels, Member
from chalicelib.store.registry import Connection, Registry

log = logging.getLogger(__name__)

# A list of more bytes is left out: it would not fit one frame.
MAX_LISTED_BYTES: Final = 30_000
# Above it counting stops: some 170 read units.
MAX_COUNTED: Final = 10_000
# Above it nobody is told who comes and goes: each such push would cost as much as a publication.
MAX_TOLD: Final = 1_000


@dataclass(frozen=True)
class Presence:
    """Who is in a channel.

    Attributes:
        members: one entry per user, with how many connections and the attributes of one of them; all anonymous
            connections share one entry without a user. None where the list would be too long for a frame.
        count: how many users; an anonymous connection counts as one.
        connections: how many connections.
        is_complete: False where counting stopped at MAX_COUNTED connections.
    """

    members: list[dict[str, Any]] | None
    count: int
    connections: int
    is_complete: bool

    def as_dict(self) -> dict[str, Any]:
        """What stands in replies."""
        return {
            "members": self.members,
            "count": self.count,
            "connections": self.connections,
            "complete": self.is_complete,
        }


class Attendance:
    """Answers who is here and tells of it."""

    def __init__(self, registry: Registry, channels: Channels, delivery: Delivery) -> None:
        self._registry = registry
        self._channels = channels
        self._delivery = delivery

    def who(self, channel: Channel) -> Presence:
        """Who is in the channel now.

        Raises:
            NotAvailable: its namespace has no presence.
            TableError: DynamoDB failed.
        """
        here, is_complete = self.members(channel)
        users: dict[str | None, dict[str, Any]] = {}
        for member in here:
            known = users.setdefault(
                member.user_id, {"userId": member.user_id, "connections": 0, "attributes": member.attributes}
            )
            known["connections"] += member.left_at_ms is None
        anonymous = users.get(None, {"connections": 1})["connections"]
        is_short = is_complete and len(frame.dump(list(users.values())).encode()) <= MAX_LISTED_BYTES
        return Presence(
            members=list(users.values()) if is_short else None,
            count=len(users) + anonymous - 1 if None in users else len(users),
            connections=sum(member.left_at_ms is None for member in here),
            is_complete=is_complete,
        )

    def members(self, channel: Channel) -> tuple[list[Member], bool]:
        """Who is in the channel now, at most MAX_COUNTED, and whether that is all. Errors as `who`."""
        if not channel.options.presence:
            raise NotAvailable("channel", "is in a namespace without presence")
        members = self._some(channel, MAX_COUNTED + 1)
        return members[:MAX_COUNTED], len(members) <= MAX_COUNTED

    def came(self, channel: Channel, connection: Connection) -> None:
        """The other members know that the user is here, unless they know already. Raises ConfigurationError.

        Whoever came knows already that it is in, which a failure to tell the others must not contradict: it is logged.
        """
        if not channel.options.join_leave or connection.user_id is None:
            return
        with _logged("join", channel, connection):
            members = self._told(channel)
            others = [member for member in members if member.connection_id != connection.connection_id]
            if all(member.user_id != connection.user_id for member in others):
                self._tell("join", channel, connection.user_id, connection.connection_id, others)

    def quit(self, channel: Channel, connection: Connection) -> None:
        """The other members know that the user has left, unless another connection of it stays; errors as `came`."""
        if not channel.options.join_leave or connection.user_id is None:
            return
        with _logged("leave", channel, connection):
            others = self._told(channel)
            if all(member.user_id != connection.user_id for member in others):
                self._tell("leave", channel, connection.user_id, connection.connection_id, others)

    def announce_leave(self, channel: Channel, user_id: str, connection_id: str) -> None:
        """The members know that the user has left, if it did not come back; whose row still stands has not left.

        Errors as `Delivery.send`.
        """
        members = self._told(channel)
        mine = next((member for member in members if member.connection_id == connection_id), None)
        if mine is None:
            return
        if mine.left_at_ms is None:
            if self._registry.get(connection_id) is not None:
                return
            # Its row went, and its membership could not be marked.
            members.remove(mine)
            mine = replace(mine, left_at_ms=0)
            members.append(mine)
        of_user = [member for member in members if member.user_id == user_id]
        over = [member for member in of_user if not _outlasts(member, mine)]
        # Of connections that were cut off together, the job of the last one tells, whichever comes first.
        if len(over) == len(of_user):
            self._tell("leave", channel, user_id, connection_id, [member for member in members if member not in over])
        for member in over:
            self._channels.remove(channel, member.connection_id)

    def _tell(self, kind: str, channel: Channel, user_id: str, connection_id: str, members: list[Member]) -> None:
        if len(members) > MAX_TOLD:
            return
        receivers = [member.receiver for member in members if member.left_at_ms is None]
        self._delivery.send(receivers, lambda codec: codec.presence_change(kind, channel.name, user_id, connection_id))

    def _told(self, channel: Channel) -> list[Member]:
        return self._some(channel, MAX_TOLD + 2)

    def _some(self, channel: Channel, count: int) -> list[Member]:
        # A page holds all of them and no more: of a crowd nothing is read, and paid for, that is left out here.
        return list(islice(self._channels.members(channel, page_items=count), count))


@contextmanager
def _logged(kind: str, channel: Channel, connection: Connection) -> Iterator[None]:
    try:
        yield
    except ServiceError as error:
        log.warning("Nobody in %s is told of the %s of %s: %s", channel.name, kind, connection.connection_id, error)


def _outlasts(member: Member, gone: Member) -> bool:
    if member.left_at_ms is None:
        return True
    return (member.left_at_ms, member.connection_id) > (gone.left_at_ms or 0, gone.connection_id)
