"""Who is present in a channel, and announcing joins and leaves to its members.

A user with several connections is present once. A disconnected user still counts as present for a while, so that a
client which reconnects was never away: its membership is kept, marked as left, and a job checks later whether it came
back.
"""

import logging
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from chalicelib.delivery.delivery import Delivery
from chalicelib.errors import NotAvailable, ServiceError
from chalicelib.limits import LIMITS, Limits
from chalicelib.protocol.frame import dump
from chalicelib.protocol.namespaces import Channel
from chalicelib.store.connection import Connection
from chalicelib.store.members import Member, Members
from chalicelib.store.registry import Registry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Presence:
    """Who is present in a channel.

    Attributes:
        members: one entry per user, with its number of connections and the attributes of one of them; all anonymous
            connections share one entry without a user. None if the list would be too long for a frame.
        count: how many users; an anonymous connection counts as one.
        connections: how many connections.
        is_complete: False if counting stopped at `Limits.counted` connections.
    """

    members: list[dict[str, Any]] | None
    count: int
    connections: int
    is_complete: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of replies."""
        return {
            "members": self.members,
            "count": self.count,
            "connections": self.connections,
            "complete": self.is_complete,
        }


@dataclass(eq=False, repr=False)
class PresenceManager:
    """Returns who is present, and announces joins and leaves to the members."""

    registry: Registry
    members: Members
    delivery: Delivery
    limits: Limits = LIMITS

    def read(self, channel: Channel) -> Presence:
        """Return who is present in the channel. Raises TableError; NotAvailable: its namespace has no presence."""
        present, is_complete = self.read_members(channel)
        users: dict[str | None, dict[str, Any]] = {}
        for member in present:
            user = users.setdefault(
                member.user_id, {"userId": member.user_id, "connections": 0, "attributes": member.attributes}
            )
            user["connections"] += member.left_at_ms is None
        anonymous = users.get(None, {"connections": 1})["connections"]
        is_short = is_complete and len(dump(list(users.values())).encode()) <= self.limits.listed_bytes
        return Presence(
            members=list(users.values()) if is_short else None,
            count=len(users) + anonymous - 1 if None in users else len(users),
            connections=sum(member.left_at_ms is None for member in present),
            is_complete=is_complete,
        )

    def read_members(self, channel: Channel) -> tuple[list[Member], bool]:
        """Return up to `Limits.counted` members of the channel, and whether that is all of them.

        Raises TableError; NotAvailable: its namespace has no presence.
        """
        if not channel.options.presence:
            raise NotAvailable("channel", "is in a namespace without presence")
        counted = self.limits.counted
        members = self._first(channel, counted + 1)
        return members[:counted], len(members) <= counted

    def announce(self, kind: str, channel: Channel, connection: Connection) -> None:
        """Tell the other members of a `join` or `leave`, unless the user has another connection among them.

        A failure is logged: it must not contradict the reply that the connection has.
        """
        if not channel.options.join_leave or connection.user_id is None:
            return
        try:
            others = [member for member in self._told(channel) if member.connection_id != connection.connection_id]
            if all(member.user_id != connection.user_id for member in others):
                self._tell(kind, channel, connection.user_id, connection.connection_id, others)
        except ServiceError as error:
            log.warning(
                "Members of %s were not sent the %s of %s: %s", channel.name, kind, connection.connection_id, error
            )

    def announce_disconnect(self, channel: Channel, user_id: str, connection_id: str) -> None:
        """Tell the members that a disconnected user has left, unless it came back (it is registered)."""
        members = self._told(channel)
        mine = next((member for member in members if member.connection_id == connection_id), None)
        if mine is None:
            return
        if mine.left_at_ms is None:
            if self.registry.get(connection_id) is not None:
                return
            # Its row is gone, but its membership could not be marked.
            members.remove(mine)
            mine = replace(mine, left_at_ms=0)
            members.append(mine)
        of_user = [member for member in members if member.user_id == user_id]
        ended = [member for member in of_user if not _outlasts(member, mine)]
        # If several of its connections ended together, the last one's job tells, whichever job comes first.
        if len(ended) == len(of_user):
            others = [member for member in members if member not in ended]
            self._tell("leave", channel, user_id, connection_id, others)
        for member in ended:
            self.members.remove(channel, member.connection_id)

    def _tell(self, kind: str, channel: Channel, user_id: str, connection_id: str, members: list[Member]) -> None:
        if len(members) > self.limits.told:
            return
        receivers = [member.receiver for member in members if member.left_at_ms is None]
        self.delivery.send(receivers, lambda codec: codec.presence_change(kind, channel.name, user_id, connection_id))

    def _told(self, channel: Channel) -> list[Member]:
        return self._first(channel, self.limits.told + 2)

    def _first(self, channel: Channel, count: int) -> list[Member]:
        # One page holds them all, so that no more of a crowd is read, and paid for, than is used.
        return list(islice(self.members.members(channel, page_items=count), count))


def _outlasts(member: Member, ended: Member) -> bool:
    if member.left_at_ms is None:
        return True
    return (member.left_at_ms, member.connection_id) > (ended.left_at_ms or 0, ended.connection_id)
