"""What a client of Centrifugo's protocol may ask for: one function per command, and the table that names them.

A command is an action by another name: it reads the command's own fields, does what the action does, and answers in
the words of the other protocol. docs/PROTOCOL.md, "Official SDKs", describes each.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from chalicelib import errors, telemetry
from chalicelib.channels.recovery import MAX_PAGE
from chalicelib.handlers.actions import ACTIONS, ping
from chalicelib.handlers.router import Action, Request
from chalicelib.protocol import centrifuge
from chalicelib.protocol.codec import CENTRIFUGE
from chalicelib.protocol.frame import MAX_SAFE_INTEGER, Frame, dump
from chalicelib.protocol.grants import Verb
from chalicelib.protocol.publication import Position

# A position in no epoch: nothing can be recovered from it.
NOWHERE: Final = Position("", 0)
# Actions that reply in their own way: an SDK calls them as commands only.
NOT_CALLED: Final = ("subscribe", "unsubscribe")


def connect(request: Request) -> Mapping[str, Any] | None:
    """Switch the sender to this protocol, sign it in if it has a token, and subscribe it to the channels in subs.

    Channels that it may not subscribe to are left out of the reply.
    """
    token = request.frame.optional_string("token")
    if token:
        sender = request.peal.authenticate(request.sender, token, CENTRIFUGE)
    elif not request.sender.is_signed_in:
        raise errors.Unauthenticated("no token")
    else:
        sender = request.peal.arrivals.speak(request.sender, CENTRIFUGE)
    result = centrifuge.connected(sender.connection_id, request.peal.arrivals.seconds_left(sender))
    subs = _object(request.frame.fields.get("subs") or {}, "subs")
    if not subs:
        return result
    _connect_with(replace(request, sender=sender), result, subs)
    return None


def refresh(request: Request) -> Mapping[str, Any]:
    """Keep the sender signed in for longer, with the grants of its new token."""
    sender = request.peal.authenticate(request.sender, request.frame.string("token"))
    return centrifuge.expiry(request.peal.arrivals.seconds_left(sender))


def subscribe(request: Request) -> None:
    """Subscribe the sender to channel, and give it what it missed since epoch and offset if it asks and may."""
    frame = request.frame
    channel = frame.string("channel")
    recover = _recover(request, channel, frame)
    request.peal.subscribe(request.sender, channel, recover, frame.id, _join_ref(frame))


def unsubscribe(request: Request) -> Mapping[str, Any]:
    """Unsubscribe the sender from channel; if it was not subscribed, that is no error here."""
    channel, sender = request.frame.string("channel"), request.sender
    while True:
        try:
            request.peal.unsubscribe(sender, channel, _join_ref(request.frame))
            return {}
        except errors.NotSubscribed:
            # An SDK unsubscribes only after it has subscribed: its subscribe may still be running.
            pause_seconds = next(request.pauses, None)
            if pause_seconds is None:
                return {}
            request.peal.sleep(pause_seconds)
            sender = request.peal.connection(sender.connection_id)


def publish(request: Request) -> Mapping[str, Any]:
    """Publish data in channel."""
    ACTIONS["publish"](request)
    return {}


def presence(request: Request) -> Mapping[str, Any]:
    """Return the connections in channel, and the last one of a user that has just disconnected and may reconnect."""
    channel = request.frame.string("channel")
    request.check(Verb.PRESENCE, channel)
    members, is_complete = request.peal.presence_manager.read_members(request.peal.members.resolve(channel))
    connected = {member.user_id for member in members if member.left_at_ms is None}
    here = {
        member.connection_id: centrifuge.client_info(member.user_id, member.connection_id, member.attributes)
        for member in members
        if member.left_at_ms is None or member.user_id not in connected
    }
    listed_bytes = request.peal.limits.listed_bytes
    if not is_complete or len(dump(here).encode()) > listed_bytes:
        raise errors.LimitExceeded("bytes of members", listed_bytes)
    return {"presence": here}


def presence_stats(request: Request) -> Mapping[str, Any]:
    """Return how many connections and how many users are in channel."""
    channel = request.frame.string("channel")
    request.check(Verb.PRESENCE, channel)
    here = request.peal.presence(channel)
    return {"num_clients": here.connections, "num_users": here.count}


def history(request: Request) -> Mapping[str, Any]:
    """Return what was published in channel: at most limit publications, or as many as fit a frame if it is negative."""
    frame = request.frame
    channel = frame.string("channel")
    request.check(Verb.HISTORY, channel)
    limit = frame.integer("limit", -1, MAX_SAFE_INTEGER, 0)
    size = MAX_PAGE if limit < 0 else min(limit, MAX_PAGE)
    page = request.peal.history(channel, _since(frame), size, frame.boolean("reverse"))
    publications = [centrifuge.published(publication) for publication in page.publications]
    return {"epoch": page.epoch, "offset": page.offset, "publications": publications}


def rpc(request: Request) -> Mapping[str, Any] | None:
    """Do the action called method, with data as its fields; return its reply's data."""
    return {"data": _act(request, request.frame.string("method"), request.frame.fields.get("data"))}


def send(request: Request) -> None:
    """Do what data, an action frame, asks for; do not reply, even if it is wrong."""
    data = request.frame.fields.get("data")
    name = data.get("action") if isinstance(data, Mapping) else None
    if not isinstance(name, str):
        raise errors.Invalid("data", "must be an action frame")
    _act(request, name, data)


def sub_refresh(request: Request) -> Mapping[str, Any]:
    """Raise NotAvailable: subscriptions have no tokens of their own."""
    raise errors.NotAvailable("token", "is of no use: subscriptions have none")


COMMANDS: Final[Mapping[str, Action]] = {
    "connect": connect,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
    "publish": publish,
    "presence": presence,
    "presence_stats": presence_stats,
    "history": history,
    "ping": ping,
    "send": send,
    "rpc": rpc,
    "refresh": refresh,
    "sub_refresh": sub_refresh,
}


def _connect_with(request: Request, result: Mapping[str, Any], subs: Mapping[str, Any]) -> None:
    # The reply is sent before the first push. It says how far history was read; a push brings what came after.
    peal, sender, replies, positions = request.peal, request.sender, {}, {}
    for channel, fields in subs.items():
        with suppress(errors.ClientError):
            recover = _recover(request, channel, Frame(None, fields if isinstance(fields, Mapping) else {}))
            here, missed = peal.recovery.missed(peal.members.resolve(channel), sender.connection_id, recover)
            first = next(missed.parts(), ())
            replies[channel] = centrifuge.subscription(here, missed, first)
            positions[channel] = centrifuge.position(here, missed, first)
    reply = {"id": request.frame.id, "connect": {**result, "subs": replies}}
    peal.delivery.reply(sender.receiver, reply)
    try:
        for channel, since in positions.items():
            peal.subscribe(sender, channel, since, None, _join_ref(request.frame))
    except Exception as failure:
        # The client takes itself for a member: it must reconnect and recover.
        telemetry.fail(failure)
        peal.close(sender.connection_id, str(centrifuge.INSUFFICIENT_STATE), "insufficient state")


def _recover(request: Request, channel: str, frame: Frame) -> Position | None:
    """Return where the sender's recovery begins, or None. Raises Forbidden if it may not subscribe."""
    request.check(Verb.SUBSCRIBE, channel)
    if not frame.boolean("recover"):
        return None
    since = _position(frame)
    # SDKs recover unasked, and would take an error for the end of the subscription.
    return since if request.peal.authorization.allows(request.sender, Verb.HISTORY, channel) else NOWHERE


def _act(request: Request, name: str, fields: object) -> Mapping[str, Any] | None:
    frame = Frame(request.frame.id, _object({} if fields is None else fields, "data"))
    action = None if name in NOT_CALLED else ACTIONS.get(name)
    if action is None:
        raise errors.UnknownAction(name)
    telemetry.note("action", name)
    return action(replace(request, frame=frame))


def _join_ref(frame: Frame) -> int | None:
    # SDKs number their commands, and send the next one before they have the reply to the last.
    return frame.id if isinstance(frame.id, int) else None


def _since(frame: Frame) -> Position | None:
    since = frame.fields.get("since")
    return None if since is None else _position(Frame(None, _object(since, "since")))


def _position(frame: Frame) -> Position:
    return Position(frame.optional_string("epoch") or "", frame.integer("offset", 0, MAX_SAFE_INTEGER, 0))


def _object(value: object, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise errors.Invalid(field, "must be an object")
    return value
