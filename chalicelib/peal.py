"""What Peal can do, as verbs: the same ones for the WebSocket doors, the REST doors and any other Lambda.

Knows nothing of frames' text, HTTP or events' raw shape.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from chalicelib.auth.authentication import Authentication
from chalicelib.auth.authorization import Authorization
from chalicelib.channels.presence import Attendance, Presence
from chalicelib.channels.publish import Message, Published, Publishing
from chalicelib.channels.recovery import Page, Reader
from chalicelib.channels.subscribe import Subscribing
from chalicelib.connections.arrivals import Arrivals
from chalicelib.connections.broadcast import Broadcasting
from chalicelib.connections.closing import CLOSED, RUN_OUT, Closed, Closing
from chalicelib.connections.departures import Departures
from chalicelib.connections.listing import Page as RollPage
from chalicelib.connections.listing import Roll
from chalicelib.connections.reaper import Reaped, Reaping
from chalicelib.delivery.delivery import Delivery, Outcome
from chalicelib.errors import NotFound, NotSubscribed
from chalicelib.protocol.codec import Receiver, Said
from chalicelib.protocol.events import Connect
from chalicelib.protocol.frame import FrameId
from chalicelib.protocol.grants import Verb
from chalicelib.protocol.missed import Missed
from chalicelib.protocol.namespaces import Namespace
from chalicelib.protocol.publication import Publication, Stream
from chalicelib.store.members import Channels, Member
from chalicelib.store.registry import Connection, Place, Registry
from chalicelib.store.tickets import Ticket


class Service:
    """One API's connections. Built by `wiring.build`; safe to share between threads."""

    def __init__(
        self,
        registry: Registry,
        roll: Roll,
        arrivals: Arrivals,
        delivery: Delivery,
        departures: Departures,
        closing: Closing,
        channels: Channels,
        broadcasting: Broadcasting,
        reaping: Reaping,
        publishing: Publishing,
        subscribing: Subscribing,
        attendance: Attendance,
        reader: Reader,
        authentication: Authentication,
        authorization: Authorization,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._roll = roll
        self._arrivals = arrivals
        self._delivery = self.delivery = delivery
        self._departures = departures
        self._closing = closing
        self._channels = channels
        self._broadcasting = broadcasting
        self._reaping = reaping
        self._publishing = publishing
        self._subscribing = subscribing
        self._attendance = attendance
        self._reader = reader
        self._authentication = authentication
        self._authorization = authorization
        self._clock = clock

    def register(self, event: Connect) -> Connection:
        """The connection is registered; errors as `Arrivals.register`."""
        return self._arrivals.register(event)

    def admit(self, connection_id: str, frames: int = 1) -> Connection:
        """The connection that sent so many frames, which may be acted upon; errors as `Arrivals.admit`."""
        return self._arrivals.admit(connection_id, frames)

    def speak(self, connection: Connection, codec: str) -> Connection:
        """The connection reads and writes that codec from now on; errors as `Arrivals.speak`."""
        return self._arrivals.speak(connection, codec)

    def authenticate(self, connection: Connection, token: str, codec: str | None = None) -> Connection:
        """The connection is its user's, with the token's grants and end, also in its channels.

        It is no member any more of channels that it may not subscribe to now. Doing it again is no error. Errors as
        `Arrivals.authenticate`; after a ServiceError some of its memberships may end sooner.
        """
        renewed = self._arrivals.authenticate(connection, token, codec)
        for name in sorted(renewed.channels):
            if self._authorization.allows(renewed, Verb.SUBSCRIBE, name):
                self._channels.extend(name, renewed)
            else:
                with suppress(NotSubscribed):
                    self.unsubscribe(renewed, name)
        return renewed

    def seconds_left(self, connection: Connection) -> float | None:
        """How long the connection's credential counts; None where it has no end of its own."""
        return None if connection.expires_at is None else connection.expires_at - self._clock()

    def allows(self, connection: Connection, verb: Verb, target: str | None = None) -> bool:
        """Whether the connection may do that: see `Authorization.allows`."""
        return self._authorization.allows(connection, verb, target)

    def allow(self, connection: Connection, verb: Verb, target: str | None = None) -> None:
        """Raises Forbidden where the connection may not do that: see `Authorization.allows`."""
        self._authorization.check(connection, verb, target)

    def owner(self, connection_id: str) -> str | None:
        """The user whose connection it is; None for someone anonymous, and where there is none. Raises TableError."""
        connection = self._registry.get(connection_id)
        return connection.user_id if connection else None

    def issue_ticket(self, claims: Mapping[str, Any]) -> Ticket:
        """A ticket with which one client can connect once, soon.

        Args:
            claims: `userId`, and maybe `deviceId`, `expiresAt` and grants: docs/PROTOCOL.md, "Tickets".

        Raises:
            Invalid: the claims are not what they must be.
            TableError: DynamoDB failed.
        """
        return self._authentication.issue_ticket(claims)

    def issue_token(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims, signed with the newest of JWT_SECRETS: docs/PROTOCOL.md, "Tokens".

        Raises:
            Invalid: the claims are not what they must be.
            ConfigurationError: JWT_SECRETS is not set.
            SecretError: it cannot be read.
        """
        return self._authentication.issue_token(claims)

    def forget(self, connection_id: str) -> bool:
        """The connection is neither registered nor a member of a channel; returns whether it was. Raises TableError."""
        return self._departures.forget(connection_id) is not None

    def connection(self, connection_id: str) -> Connection:
        """The registered connection. Raises NotFound, TableError."""
        connection = self._registry.get(connection_id)
        if connection is None:
            raise NotFound
        return connection

    def connections(self, after: str | None = None, limit: int = 100) -> RollPage:
        """A page of those who are connected and signed in; arguments and errors as `Roll.page`."""
        return self._roll.page(after, limit)

    def send_to_connection(
        self, connection_id: str, text: str | None = None, data: Any = None, sender: Connection | None = None
    ) -> Outcome:
        """The connection was sent a `message` frame. One that is not registered counts as gone.

        Args:
            connection_id: the receiver.
            text, data: what to say; data is any JSON.
            sender: who says it; None is the server itself.

        Returns:
            Counts that add up to one.

        Raises:
            ConfigurationError: nobody knows the management endpoint.
            TableError: DynamoDB failed.
        """
        connection = self._registry.get(connection_id)
        if connection is None or not connection.is_signed_in:
            return Outcome(gone=1)
        return self._delivery.send([connection.receiver], self._message(sender, text, data))

    def send_to_user(
        self, user_id: str, text: str | None = None, data: Any = None, sender: Connection | None = None
    ) -> Outcome:
        """Each of the user's connections was sent a `message` frame; arguments and errors as `send_to_connection`.

        Returns:
            Counts that add up to the user's connections; all zero for someone who is not here.
        """
        return self._delivery.send(self._registry.by_user(user_id), self._message(sender, text, data))

    def broadcast(self, note: str | None = None, data: Any = None) -> Outcome | None:
        """Every connection was sent a `broadcast` frame, or will be; errors as `Broadcasting.broadcast`.

        Returns:
            Counts that add up to everyone who is here; None where they are so many that jobs do it.
        """
        return self._broadcasting.broadcast(note, data)

    def publish(
        self,
        channel: str,
        data: Any,
        message_id: str | None = None,
        sender: Connection | None = None,
        excludes_sender: bool = False,
    ) -> Published:
        """The channel's members are sent `data`; where the channel has history, it is kept and comes in order.

        Args:
            channel: its full name.
            data: any JSON.
            message_id: the same within five minutes is published once, and answered with the first one's offset.
            sender: the connection that publishes; None is the server itself.
            excludes_sender: whether that connection is not sent it.

        Raises:
            Invalid: there can be no such channel, or message_id is no name.
            ConfigurationError, ServiceError: it may have been published all the same: try again with a message_id.
        """
        return self.publish_all(channel, [Message(data, message_id)], sender, excludes_sender)[0]

    def publish_all(
        self,
        channel: str,
        messages: Sequence[Message],
        sender: Connection | None = None,
        excludes_sender: bool = False,
    ) -> list[Published]:
        """The messages are published in their order; as `publish`."""
        return self._publishing.publish(self._channels.resolve(channel), messages, sender, excludes_sender)

    def subscribe(
        self,
        connection: Connection,
        channel: str,
        recover: Stream | None,
        reply_to: FrameId,
        turn: int | None = None,
    ) -> None:
        """The connection is a member of the channel and the frame `reply_to` was answered, or soon will be.

        The other members know that its user is here.

        Errors as `Subscribing.subscribe`; Invalid: there can be no such channel.
        """
        resolved = self._channels.resolve(channel)
        if self._subscribing.subscribe(resolved, connection, recover, reply_to, turn):
            self._attendance.came(resolved, connection)

    def unsubscribe(self, connection: Connection, channel: str, turn: int | None = None) -> None:
        """The connection is no member of the channel, and the others know. Raises NotSubscribed, Invalid."""
        resolved = self._channels.resolve(channel)
        if self._subscribing.unsubscribe(resolved, connection, turn):
            self._attendance.quit(resolved, connection)

    def unsubscribe_user(self, channel: str, user_id: str) -> int:
        """None of the user's connections is a member of the channel; each that was is told so.

        Returns how many there were. Errors as `publish`.
        """
        resolved, count = self._channels.resolve(channel), 0
        for receiver in self._registry.by_user(user_id):
            connection = self._registry.get(receiver.connection_id)
            if connection and channel in connection.channels:
                self._subscribing.unsubscribe(resolved, connection)
                self._delivery.send([connection.receiver], lambda codec: codec.unsubscribed(channel))
                self._attendance.quit(resolved, connection)
                count += 1
        return count

    def describe(self, channel: str) -> dict[str, Any]:
        """What the channel can do, where it stands (epoch and offset, null without history) and how many are here.

        Raises Invalid, TableError.
        """
        options = self.options(channel)
        page = self.history(channel, limit=0) if options.history_size else None
        here = self.presence(channel) if options.presence else None
        return {
            "channel": channel,
            "epoch": page.epoch if page else None,
            "offset": page.offset if page else None,
            "count": here.count if here else None,
            "connections": here.connections if here else None,
            "options": {
                "historySize": options.history_size,
                "historyTtlSeconds": options.history_ttl_seconds,
                "presence": options.presence,
                "joinLeave": options.join_leave,
                "clientsPublish": options.clients_publish,
                "echo": options.echo,
            },
        }

    def options(self, channel: str) -> Namespace:
        """What the channel can do. Raises Invalid where there can be no such channel."""
        return self._channels.resolve(channel).options

    def presence(self, channel: str) -> Presence:
        """Who is in the channel. Raises Invalid where it has no presence, TableError."""
        return self._attendance.who(self._channels.resolve(channel))

    def members(self, channel: str) -> tuple[list[Member], bool]:
        """Each connection in the channel, and whether that is all of them; as `presence`."""
        return self._attendance.members(self._channels.resolve(channel))

    def history(self, channel: str, since: Stream | None = None, limit: int = 100, reverse: bool = False) -> Page:
        """A page of the channel's publications; arguments and errors as `Reader.page`."""
        return self._reader.page(self._channels.resolve(channel), since, limit, reverse)

    def missed(self, connection: Connection, channel: str, recover: Stream | None) -> tuple[Stream | None, Missed]:
        """Where the connection would join the channel, and what it has missed: see `Reader.missed`. Raises Invalid."""
        return self._reader.missed(self._channels.resolve(channel), connection.connection_id, recover)

    def advance(self, channel: str, shard: int) -> None:
        """Whatever was published in the shard is delivered, or somebody is at it. Errors as `publish`."""
        resolved = self._channels.resolve(channel)
        if shard < resolved.options.shards:
            self._publishing.advance(resolved, shard)

    def send_slice(self, channel: str, draft: Publication, shard: int, after: str | None) -> None:
        """A publication in a channel without history goes on its way; as `Publishing.send_slice`. Raises Invalid."""
        resolved = self._channels.resolve(channel)
        if shard < resolved.options.shards:
            self._publishing.send_slice(resolved, draft, shard, after)

    def broadcast_slice(
        self, note: str | None, data: Any, time: float, segment: int, segments: int, after: Place | None
    ) -> None:
        """A broadcast goes on its way; as `Broadcasting.send_slice`."""
        self._broadcasting.send_slice(note, data, time, segment, segments, after)

    def announce_leave(self, channel: str, user_id: str, connection_id: str) -> None:
        """The members know that a user who was cut off has left, if it did not come back. Errors as `publish`."""
        self._attendance.announce_leave(self._channels.resolve(channel), user_id, connection_id)

    def send(self, receiver: Receiver, said: Said) -> Outcome:
        """The connection was told that: a reply or an error. Errors as `send_to_connection`."""
        return self._delivery.send([receiver], said)

    def close(self, connection_id: str, code: str = CLOSED, reason: str | None = None) -> None:
        """The connection is told `goodbye`, closed and forgotten.

        Args:
            connection_id: a registered one.
            code: a word for programs, one of docs/PROTOCOL.md's or the app's own.
            reason: a sentence for people.

        Raises:
            NotFound: it is not registered.
            ServiceError: API Gateway or DynamoDB failed; it stays registered.
            ConfigurationError: nobody knows the management endpoint.
        """
        self._closing.close(self.connection(connection_id).receiver, code, reason)

    def connections_of(self, user_id: str, device_id: str | None = None) -> list[Connection]:
        """The user's connections, or those of one device. One of the last moments may be missing. Raises TableError."""
        found = (self._registry.get(receiver.connection_id) for receiver in self._registry.by_user(user_id))
        return [connection for connection in found if connection and device_id in (None, connection.device_id)]

    def close_user(
        self, user_id: str, device_id: str | None = None, code: str = CLOSED, reason: str | None = None
    ) -> Closed:
        """The user's connections, or those of one device, are told `goodbye`, closed and forgotten.

        One that connected within the last moments may stay, and who has a valid token can connect again: take that
        away before. Arguments as `close`; raises TableError, ConfigurationError.
        """
        connections = self.connections_of(user_id, device_id)
        return self._closing.close_all((connection.receiver for connection in connections), code, reason)

    def reap(self) -> Reaped:
        """The next connections were looked at, and what had gone wrong with them was mended; see `Reaping.reap`."""
        return self._reaping.reap()

    def cut(self, connection_id: str) -> None:
        """The connection is closed without a word and forgotten; errors as `close`."""
        self._closing.cut(connection_id)

    def dismiss(self, receiver: Receiver) -> None:
        """A connection that is not registered, or whose time has run out, is closed; errors as `close`."""
        self._closing.close(receiver, *RUN_OUT)

    def _message(self, sender: Connection | None, text: str | None, data: Any) -> Said:
        origin = {"userId": sender.user_id, "connectionId": sender.connection_id} if sender else None
        now = self._clock()
        return lambda codec: codec.message(origin, text, data, now)
