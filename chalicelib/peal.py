"""Peal: what an app can do with its connections and channels, and `build`, where the parts meet.

    from chalicelib.peal import build
    peal = build(Settings.from_env(os.environ), app.websocket_api)
    peal.send_to_user("u_456", text="hi")

Any Lambda of the project can do that (REST, queue, schedule); no WebSocket event is needed.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from chalicelib import telemetry
from chalicelib.auth.authentication import Authentication
from chalicelib.auth.authorization import Authorization, Hook, no_opinion
from chalicelib.auth.tokens import Tokens
from chalicelib.aws.client import connect
from chalicelib.aws.dynamodb import DynamoDBClient
from chalicelib.aws.management import WORKERS, ManagementSession, WebsocketApi
from chalicelib.aws.queue import Jobs, SQSClient, SqsQueue
from chalicelib.aws.secrets import Secrets
from chalicelib.aws.session import EnvironmentSession, Session
from chalicelib.channels.admission import Admission
from chalicelib.channels.presence import Presence, PresenceManager
from chalicelib.channels.publish import Message, Published, Publisher
from chalicelib.channels.recovery import HistoryPage, Recovery
from chalicelib.channels.sequencer import Sequencer
from chalicelib.channels.subscribe import Subscriptions
from chalicelib.connections import broadcast
from chalicelib.connections.arrivals import Arrivals
from chalicelib.connections.closing import CLOSED, Closed, Closing, Departures
from chalicelib.connections.listing import DEFAULT_PAGE, ConnectionPage, read_page
from chalicelib.connections.reaper import Reaper
from chalicelib.delivery.delivery import Delivery, Outcome
from chalicelib.delivery.slices import Slices
from chalicelib.errors import Invalid, NotFound, NotSubscribed
from chalicelib.limits import LIMITS, Limits
from chalicelib.protocol.codec import Said, codec_of
from chalicelib.protocol.frame import FrameId
from chalicelib.protocol.grants import Verb
from chalicelib.protocol.identity import read_identity, read_time
from chalicelib.protocol.jobs import dump_job
from chalicelib.protocol.namespaces import NAMESPACES, Namespace
from chalicelib.protocol.publication import Position
from chalicelib.settings import Settings
from chalicelib.store.connection import Connection
from chalicelib.store.members import Members
from chalicelib.store.registry import Registry
from chalicelib.store.store import open_store
from chalicelib.store.tickets import Ticket, Tickets
from chalicelib.telemetry import Metric

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class Peal:
    """One API's connections and channels. Built by `build`; safe to share between threads.

    Its methods are those that combine several parts; handlers use the parts themselves for the rest.
    """

    registry: Registry
    members: Members
    delivery: Delivery
    slices: Slices
    authorization: Authorization
    tokens: Tokens
    tickets: Tickets
    arrivals: Arrivals
    departures: Departures
    closing: Closing
    reaper: Reaper
    recovery: Recovery
    presence_manager: PresenceManager
    sequencer: Sequencer
    publisher: Publisher
    subscriptions: Subscriptions
    clock: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep
    limits: Limits = LIMITS

    def send_to_user(
        self, user_id: str, text: str | None = None, data: Any = None, sender: Connection | None = None
    ) -> Outcome:
        """Send a `message` frame to each of the user's connections. Raises ConfigurationError, TableError.

        Args:
            user_id: the receiver.
            text, data: what to say; data is any JSON.
            sender: whose message it is; None for the server's own.

        Returns counts that add up to the user's connections; all zero if it has none.
        """
        return self.delivery.send(self.registry.by_user(user_id), self._message(sender, text, data))

    def send_to_connection(
        self, connection_id: str, text: str | None = None, data: Any = None, sender: Connection | None = None
    ) -> Outcome:
        """Send a `message` frame to one connection, as `send_to_user`. One that is not registered counts as gone."""
        connection = self.registry.get(connection_id)
        if connection is None or not connection.is_signed_in:
            return Outcome(gone=1)
        receiver = connection.receiver
        return self.delivery.reply(receiver, self._message(sender, text, data)(codec_of(receiver)))

    def broadcast(self, note: str | None = None, data: Any = None) -> Outcome | None:
        """Send a `broadcast` frame to every connection, or have jobs do so.

        Returns counts that add up to everyone who is connected; None if the audience is so large that jobs send.
        Raises ConfigurationError, TableError, JobsError.
        """
        jobs = broadcast.divide(note, data, self.clock())
        send = broadcast.sender(self.delivery, jobs[0])
        return self.slices.send_or_cut(self.registry.everyone(), send, map(dump_job, jobs))

    def publish(
        self,
        channel: str,
        data: Any,
        message_id: str | None = None,
        sender: Connection | None = None,
        excludes_sender: bool = False,
    ) -> Published:
        """Publish `data` in the channel: its members are sent it, in order and recoverable if the channel has history.

        Args:
            channel: its full name.
            data: any JSON.
            message_id: repeated within five minutes, it is published once, and answered with the first one's offset.
            sender: the connection that publishes; None for the server itself.
            excludes_sender: whether that connection is not sent it.

        Raises UnknownChannel, ConfigurationError, ServiceError: it may be published; try again with a message_id.
        """
        return self.publish_all(channel, [Message(data, message_id)], sender, excludes_sender)[0]

    def publish_all(
        self, channel: str, messages: Sequence[Message], sender: Connection | None = None, excludes_sender: bool = False
    ) -> list[Published]:
        """Publish the messages in their order; otherwise as `publish`."""
        return self.publisher.publish(self.members.resolve(channel), messages, sender, excludes_sender)

    def subscribe(
        self,
        connection: Connection,
        channel: str,
        recover: Position | None,
        reply_to: FrameId,
        join_ref: int | None = None,
    ) -> None:
        """Make the connection a member of the channel, reply to the frame `reply_to`, and tell the other members.

        Arguments and errors are those of `Subscriptions.subscribe`, and UnknownChannel.
        """
        resolved = self.members.resolve(channel)
        if self.subscriptions.subscribe(resolved, connection, recover, reply_to, join_ref):
            self.presence_manager.announce("join", resolved, connection)

    def unsubscribe(self, connection: Connection, channel: str, join_ref: int | None = None) -> None:
        """End the connection's membership in the channel and tell the other members.

        Raises UnknownChannel, NotSubscribed, TableError.
        """
        resolved = self.members.resolve(channel)
        if self.subscriptions.unsubscribe(resolved, connection, join_ref):
            self.presence_manager.announce("leave", resolved, connection)

    def unsubscribe_user(self, channel: str, user_id: str) -> int:
        """End the memberships of all of the user's connections in the channel, tell each, and return their number.

        Raises UnknownChannel, ConfigurationError, TableError.
        """
        resolved, count = self.members.resolve(channel), 0
        for receiver in self.registry.by_user(user_id):
            connection = self.registry.get(receiver.connection_id)
            if connection and channel in connection.channels:
                self.subscriptions.unsubscribe(resolved, connection)
                self.delivery.reply(receiver, codec_of(receiver).unsubscribed(channel))
                self.presence_manager.announce("leave", resolved, connection)
                count += 1
        return count

    def presence(self, channel: str) -> Presence:
        """Return who is present in the channel. Raises UnknownChannel, NotAvailable, TableError."""
        return self.presence_manager.read(self.members.resolve(channel))

    def history(
        self, channel: str, since: Position | None = None, limit: int = 100, reverse: bool = False
    ) -> HistoryPage:
        """Return a page of the channel's publications; see `Recovery.page`. Raises also UnknownChannel."""
        return self.recovery.page(self.members.resolve(channel), since, limit, reverse)

    def describe(self, channel: str) -> dict[str, Any]:
        """Return what the channel can do, its position (null without history) and how many are present.

        Raises UnknownChannel, TableError.
        """
        resolved = self.members.resolve(channel)
        options = resolved.options
        page = self.recovery.page(resolved, None, 0, False) if options.history_size else None
        presence = self.presence_manager.read(resolved) if options.presence else None
        return {
            "channel": channel,
            "epoch": page.epoch if page else None,
            "offset": page.offset if page else None,
            "count": presence.count if presence else None,
            "connections": presence.connections if presence else None,
            "options": {
                "historySize": options.history_size,
                "historyTtlSeconds": options.history_ttl_seconds,
                "presence": options.presence,
                "joinLeave": options.join_leave,
                "clientsPublish": options.clients_publish,
                "echo": options.echo,
            },
        }

    def connection(self, connection_id: str) -> Connection:
        """Return the registered connection. Raises NotFound, TableError."""
        connection = self.registry.get(connection_id)
        if connection is None:
            raise NotFound
        return connection

    def connections(self, after: str | None = None, limit: int = DEFAULT_PAGE) -> ConnectionPage:
        """Return a page of the connections that are signed in; see `listing.read_page`."""
        return read_page(self.registry, self.clock, after, limit)

    def connections_of(self, user_id: str, device_id: str | None = None) -> list[Connection]:
        """Return the user's connections, or those of one device; one that is moments old may be missing."""
        connections = (self.registry.get(receiver.connection_id) for receiver in self.registry.by_user(user_id))
        return [one for one in connections if one and device_id in (None, one.device_id)]

    def close(self, connection_id: str, code: str = CLOSED, reason: str | None = None) -> None:
        """Send `goodbye` to the connection, close it and forget it.

        Args:
            connection_id: a registered one.
            code: a word for programs, one of docs/PROTOCOL.md's or the app's own.
            reason: a sentence for people.

        Raises NotFound, ConfigurationError; ServiceError: API Gateway or DynamoDB failed and it stays registered.
        """
        self.closing.close(self.connection(connection_id).receiver, code, reason)

    def close_user(
        self, user_id: str, device_id: str | None = None, code: str = CLOSED, reason: str | None = None
    ) -> Closed:
        """Close the user's connections, or those of one device, as `close` does.

        One that connected within the last moments may stay. Revoke the user's token first, or it can reconnect.

        Raises ConfigurationError, TableError.
        """
        connections = self.connections_of(user_id, device_id)
        return self.closing.close_all((connection.receiver for connection in connections), code, reason)

    def reap(self) -> dict[str, int]:
        """Check the next connections and mend what has gone wrong with them; see `Reaper.reap`."""
        counts = self.reaper.reap()
        telemetry.count(Metric.PRUNES, counts["pruned"])
        log.info("Reaped: %s", counts)
        return counts

    def authenticate(self, connection: Connection, token: str, codec: str | None = None) -> Connection:
        """Give the connection, also in its channels, the token's user, grants and expiry.

        It leaves channels that it may not subscribe to any more. Repeating it is no error. Arguments and errors are
        those of `Arrivals.authenticate`; after a ServiceError some of its memberships may end sooner.
        """
        renewed = self.arrivals.authenticate(connection, token, codec)
        for name in sorted(renewed.channels):
            if self.authorization.allows(renewed, Verb.SUBSCRIBE, name):
                self.members.extend(name, renewed)
            else:
                with suppress(NotSubscribed):
                    self.unsubscribe(renewed, name)
        return renewed

    def issue_ticket(self, claims: Mapping[str, Any]) -> Ticket:
        """Return a ticket with which one client can connect once, soon.

        Args:
            claims: `userId`, and optionally `deviceId`, `expiresAt` and grants: docs/PROTOCOL.md, "Tickets".

        Raises Invalid, TableError.
        """
        identity = read_identity(claims, user="userId", expires="expiresAt")
        if identity.expires_at is not None and identity.expires_at <= self.clock():
            raise Invalid("expiresAt", "must be in the future")
        return self.tickets.issue(identity)

    def issue_token(self, claims: Mapping[str, Any]) -> str:
        """Return a token with these claims, signed with the newest of JWT_SECRETS: docs/PROTOCOL.md, "Tokens".

        Raises Invalid, SecretError; ConfigurationError: JWT_SECRETS is not set.
        """
        read_identity(claims, user="sub", expires="exp")
        read_time(claims, "exp")
        return self.tokens.sign(claims)

    def _message(self, sender: Connection | None, text: str | None, data: Any) -> Said:
        origin, now = sender.origin if sender else None, self.clock()
        return lambda codec: codec.message(origin, text, data, now)


def build(
    settings: Settings,
    websocket_api: WebsocketApi,
    session: Session | None = None,
    clock: Callable[[], float] = time.time,
    namespaces: Mapping[str, Namespace] = NAMESPACES,
    jobs: Jobs | None = None,
    authorize: Hook = no_opinion,
    sleep: Callable[[float], None] = time.sleep,
    limits: Limits = LIMITS,
) -> Peal:
    """Build Peal over the table that the settings name, sending through `websocket_api`.

    Args:
        settings: see `Settings.from_env`.
        websocket_api: `app.websocket_api`; its session is set.
        session: the boto3 session for all clients; None for the environment's credentials, and boto3 only if needed.
        clock: returns epoch seconds.
        namespaces: what channels there can be.
        authorize: the app's own decision on what a connection wants to do.
        jobs: takes jobs; None for the SQS queue that the settings name.
        sleep: waits that many seconds.
        limits: how much is done at once, and for how long.
    """
    if not settings.has_keys and not settings.allow_anonymous:
        log.warning(
            "Nobody can connect without a ticket from POST /tickets: "
            "neither JWT_SECRETS nor JWT_JWKS_URL is set, and ALLOW_ANONYMOUS is not true"
        )
    session = session or EnvironmentSession(os.environ)
    kind = settings.table_client
    client = connect(DynamoDBClient, session, kind)
    queue = jobs or SqsQueue(lambda: connect(SQSClient, session, kind), settings.jobs_queue)
    store = open_store(client, settings, session.region_name, namespaces, clock)
    registry, members, publications, leases, tickets, endpoint = store
    websocket_api.session = ManagementSession(session, endpoint.resolve, settings.management_client)
    tokens = Tokens(settings, Secrets(session, clock), clock)
    authentication = Authentication(settings, tokens, tickets, clock)
    departures = Departures(registry, members, queue, limits)
    delivery = Delivery(websocket_api, endpoint.resolve, departures.prune, WORKERS[settings.management_client], sleep)
    slices = Slices(queue, settings.fanout_size, clock)
    closing = Closing(delivery, departures)
    recovery = Recovery(publications, leases, limits)
    presence = PresenceManager(registry, members, delivery, limits)
    admission = Admission(registry, members, recovery, delivery, presence, queue, limits)
    sequencer = Sequencer(publications, leases, members, admission, delivery, queue, clock, sleep, limits)
    return Peal(
        registry,
        members,
        delivery,
        slices,
        Authorization(settings.anonymous_grants, authorize),
        tokens,
        tickets,
        Arrivals(registry, endpoint, authentication, settings.connection_ttl_seconds, settings.rate_limit, clock),
        departures,
        closing,
        Reaper(registry, members, leases, delivery, closing, queue, clock, limits),
        recovery,
        presence,
        sequencer,
        Publisher(publications, leases, members, sequencer, delivery, slices, queue, clock),
        Subscriptions(registry, publications, leases, admission, sequencer, settings.max_channels),
        clock,
        sleep,
        limits,
    )
