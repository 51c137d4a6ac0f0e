"""What a client may ask for: one function per action, and the table that names them.

To add one, write a function from Request to the reply's data and give it a row in ACTIONS. Raise a ClientError
for what the client did wrong. docs/PROTOCOL.md describes each.
"""

from collections.abc import Mapping
from typing import Any

from chalicelib.channels.publish import read_message
from chalicelib.channels.recovery import DEFAULT_PAGE, MAX_PAGE, read_position
from chalicelib.delivery.delivery import counts
from chalicelib.errors import Forbidden, Invalid
from chalicelib.handlers.router import AUTHENTICATE, Action, Request
from chalicelib.protocol.grants import Verb


def ping(request: Request) -> Mapping[str, Any]:
    """Do nothing: keeps a connection from idling out and shows the client that we are there."""
    return {}


def whoami(request: Request) -> Mapping[str, Any]:
    """Return what the registry knows of the sender."""
    me = request.sender
    return {
        "connectionId": me.connection_id,
        "userId": me.user_id,
        "deviceId": me.device_id,
        "connectedAt": me.connected_at,
        "expiresAt": me.expires_at,
        "attributes": me.attributes,
        "channels": sorted(me.channels),
    }


def authenticate(request: Request) -> Mapping[str, Any]:
    """Sign the sender in, or keep it signed in for longer, with the grants of its token."""
    renewed = request.peal.authenticate(request.sender, request.frame.string("token"))
    return {"userId": renewed.user_id, "expiresAt": renewed.expires_at}


def send_message(request: Request) -> Mapping[str, Any]:
    """Send text and data to all connections of targetUserId, or to the connection targetConnectionId."""
    frame, peal = request.frame, request.peal
    if frame.has("targetUserId") == frame.has("targetConnectionId"):
        raise Invalid("targetUserId", "or targetConnectionId must be given, and not both")
    text, data = frame.content()
    if frame.has("targetUserId"):
        user_id = frame.name("targetUserId")
        request.check(Verb.SEND, user_id)
        return peal.send_to_user(user_id, text, data, request.sender).as_dict()
    connection_id = frame.name("targetConnectionId")
    receiver = peal.registry.get(connection_id)
    request.check(Verb.SEND, receiver.user_id if receiver else None)
    return peal.send_to_connection(connection_id, text, data, request.sender).as_dict()


def broadcast_all(request: Request) -> Mapping[str, Any]:
    """Send note and data to everyone, including the sender."""
    request.check(Verb.BROADCAST)
    note, data = request.frame.optional_string("note"), request.frame.fields.get("data")
    return counts(request.peal.broadcast(note, data))


def subscribe(request: Request) -> None:
    """Subscribe the sender to channel, and give it what it missed since recover."""
    frame = request.frame
    channel, recover = frame.string("channel"), read_position(frame, "recover")
    request.check(Verb.SUBSCRIBE, channel)
    if recover is not None:
        request.check(Verb.HISTORY, channel)
    request.peal.subscribe(request.sender, channel, recover, frame.id)


def unsubscribe(request: Request) -> Mapping[str, Any]:
    """Unsubscribe the sender from channel."""
    channel = request.frame.string("channel")
    request.peal.unsubscribe(request.sender, channel)
    return {"channel": channel}


def publish(request: Request) -> Mapping[str, Any]:
    """Publish data in channel."""
    frame, peal = request.frame, request.peal
    name = frame.string("channel")
    request.check(Verb.PUBLISH, name)
    channel = peal.members.resolve(name)
    if not channel.options.clients_publish:
        raise Forbidden
    message = read_message(frame)
    (published,) = peal.publisher.publish(channel, [message], request.sender, frame.boolean("exclude"))
    return {"channel": name, **published.as_dict()}


def presence(request: Request) -> Mapping[str, Any]:
    """Return who is present in channel."""
    channel = request.frame.string("channel")
    request.check(Verb.PRESENCE, channel)
    return {"channel": channel, **request.peal.presence(channel).as_dict()}


def history(request: Request) -> Mapping[str, Any]:
    """Return a page of what was published in channel."""
    frame = request.frame
    channel = frame.string("channel")
    request.check(Verb.HISTORY, channel)
    limit = frame.integer("limit", 0, MAX_PAGE, DEFAULT_PAGE)
    since = read_position(frame, "since")
    return request.peal.history(channel, since, limit, frame.boolean("reverse")).as_dict()


ACTIONS: Mapping[str, Action] = {
    "ping": ping,
    "whoami": whoami,
    AUTHENTICATE: authenticate,
    "sendMessage": send_message,
    "broadcastAll": broadcast_all,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
    "publish": publish,
    "presence": presence,
    "history": history,
}
