"""What a client of Centrifugo's protocol may ask for: one function per command, and the table that names them.

A command is an action by another name: it reads the command's own fields, does what the action does and answers in
the other protocol's words. docs/PROTOCOL.md, "Official SDKs", describes each.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from chalicelib import telemetry
from chalicelib.channels.recovery import MAX_PAGE
from chalicelib.errors import (
    ClientError,
    Invalid,
    LimitExceeded,
    NotAvailable,
    NotSubscribed,
    Unauthenticated,
    UnknownAction,
)
from chalicelib.handlers.actions import ACTIONS
from chalicelib.handlers.router import Action, Request
from chalicelib.protocol import centrifuge
from chalicelib.protocol import frame as protocol
from chalicelib.protocol.codec import CENTRIFUGE
from chalicelib.protocol.frame import MAX_SAFE_INTEGER, Frame
from chalicelib.protocol.grants import Verb
from chalicelib.protocol.publication import Position

# A position in no epoch: from it nothing can be recovered.
NOWHERE: Final = Position("", 0)
# What an SDK is told that is to come back and recover.
INSUFFICIENT_STATE: Final = ("3010", "insufficient state")
# They answer in a way of their own, and are commands.
NOT_CALLED: Final = ("subscribe", "unsubscribe")


def connect(request: Request) -> Mapping[str, Any] | None:
    """The sender reads and writes this protocol from now on, and is signed in if it brought a token.

    It is a member of the channels in subs that it may subscribe to.
    """
    token = request.frame.optional_string("token")
    if token:
        sender = request.peal.authenticate(request.sender, token, CENTRIFUGE)
    elif not request.sender.is_signed_in:
        raise Unauthenticated("no token")
    else:
        sender = request.peal.arrivals.speak(request.sender, CENTRIFUGE)
    result = centrifuge.connected(sender.connection_id, request.peal.arrivals.seconds_left(sender))
    subs = request.frame.fields.get("subs") or {}
    if not isinstance(subs, Mapping):
        raise Invalid("subs", "must be an object")
    if not subs:
        return result
    _connect_with(replace(request, sender=sender), result, subs)
    return None


def refresh(request: Request) -> Mapping[str, Any]:
    """The sender stays signed in for longer, with the grants of its new token."""
    sender = request.peal.authenticate(request.sender, request.frame.string("token"))
    return centrifuge.expiry(request.peal.arrivals.seconds_left(sender))


def subscribe(request: Request) -> None:
    """The sender is a member of channel, and has what it missed since epoch and offset, if it asks and may."""
    frame = request.frame
    channel = frame.string("channel")
    recover = _recover(request, channel, frame)
    request.peal.subscribe(request.sender, channel, recover, frame.id, _join_ref(frame))


def unsubscribe(request: Request) -> Mapping[str, Any]:
    """The sender is no member of channel; if it was none before, that is no error here."""
    channel, sender = request.frame.string("channel"), request.sender
    while True:
        try:
            request.peal.unsubscribe(sender, channel, _join_ref(request.frame))
            return {}
        except NotSubscribed:
            # An SDK leaves only where it has asked to be let in: that may be under way still.
            pause_seconds = next(request.pauses, None)
            if pause_seconds is None:
                return {}
            request.peal.sleep(pause_seconds)
            sender = request.peal.connection(sender.connection_id)


def publish(request: Request) -> Mapping[str, Any]:
    """The members of channel are sent data."""
    ACTIONS["publish"](request)
    return {}


def presence(request: Request) -> Mapping[str, Any]:
    """Each connection in channel; of a user that was just cut off its last, for its coming back is no `join`."""
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
    if not is_complete or len(protocol.dump(here).encode()) > listed_bytes:
        raise LimitExceeded("bytes of members", listed_bytes)
    return {"presence": here}


def presence_stats(request: Request) -> Mapping[str, Any]:
    """How many connections and how many users are in channel."""
    channel = request.frame.string("channel")
    request.check(Verb.PRESENCE, channel)
    here = request.peal.presence(channel)
    return {"num_clients": here.connections, "num_users": here.count}


def history(request: Request) -> Mapping[str, Any]:
    """What was published in channel: as many as limit says, all that fit a frame for a negative one, none for 0."""
    frame = request.frame
    channel = frame.string("channel")
    request.check(Verb.HISTORY, channel)
    limit = frame.integer("limit", -1, MAX_SAFE_INTEGER, 0)
    page = request.peal.history(
        channel, _since(frame), MAX_PAGE if limit < 0 else min(limit, MAX_PAGE), frame.boolean("reverse")
    )
    return {
        "epoch": page.epoch,
        "offset": page.offset,
        "publications": [centrifuge.published(publication) for publication in page.publications],
    }


def ping(request: Request) -> Mapping[str, Any]:
    """Nothing happens."""
    return {}


def rpc(request: Request) -> Mapping[str, Any] | None:
    """The action called method was done, with data as its fields; the reply's data is the action's."""
    fields = request.frame.fields
    result = _act(request, request.frame.string("method"), fields.get("data"))
    return {"data": result}


def send(request: Request) -> None:
    """The action frame that is data was acted upon; nothing is replied, nor told if it was wrong."""
    data = request.frame.fields.get("data")
    name = data.get("action") if isinstance(data, Mapping) else None
    if not isinstance(name, str):
        raise Invalid("data", "must be an action frame")
    _act(request, name, data)


def sub_refresh(request: Request) -> Mapping[str, Any]:
    """Raises NotAvailable: subscriptions have no tokens of their own."""
    raise NotAvailable("token", "is of no use: subscriptions have none")


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
    # The reply stands before the first push: it says how far history was read, and who joins is sent what came after.
    peal, sender, subs_told, joins = request.peal, request.sender, {}, {}
    for channel, fields in subs.items():
        with suppress(ClientError):
            recover = _recover(request, channel, Frame(None, fields if isinstance(fields, Mapping) else {}))
            stream, missed = peal.recovery.missed(peal.members.resolve(channel), sender.connection_id, recover)
            first = next(missed.parts(), ())
            subs_told[channel] = centrifuge.subscription(stream, missed, first)
            joins[channel] = centrifuge.position(stream, missed, first)
    command_id = request.frame.id
    peal.delivery.send([sender.receiver], lambda _: {"id": command_id, "connect": {**result, "subs": subs_told}})
    try:
        for channel, since in joins.items():
            peal.subscribe(sender, channel, since, None, _join_ref(request.frame))
    except Exception as failure:
        # It was told that it is a member: it comes back, and recovers.
        telemetry.fail(failure)
        peal.close(sender.connection_id, *INSUFFICIENT_STATE)


def _recover(request: Request, channel: str, frame: Frame) -> Position | None:
    """From where the sender, which may subscribe to the channel, is to be given what it missed."""
    request.check(Verb.SUBSCRIBE, channel)
    if not frame.boolean("recover"):
        return None
    since = Position(frame.optional_string("epoch") or "", frame.integer("offset", 0, MAX_SAFE_INTEGER, 0))
    # SDKs ask by themselves, and would take an error for the end of the subscription.
    return since if request.peal.authorization.allows(request.sender, Verb.HISTORY, channel) else NOWHERE


def _act(request: Request, name: str, fields: object) -> Mapping[str, Any] | None:
    if fields is None:
        fields = {}
    if not isinstance(fields, Mapping):
        raise Invalid("data", "must be an object")
    action = None if name in NOT_CALLED else ACTIONS.get(name)
    if action is None:
        raise UnknownAction(name)
    telemetry.note("action", name)
    return action(replace(request, frame=Frame(request.frame.id, fields)))


def _join_ref(frame: Frame) -> int | None:
    # SDKs number their commands, and do not wait for the answer to one before they send the next.
    return frame.id if isinstance(frame.id, int) else None


def _since(frame: Frame) -> Position | None:
    since = frame.fields.get("since")
    if since is None:
        return None
    if not isinstance(since, Mapping):
        raise Invalid("since", "must be an object")
    position = Frame(None, since)
    return Position(position.optional_string("epoch") or "", position.integer("offset", 0, MAX_SAFE_INTEGER, 0))
