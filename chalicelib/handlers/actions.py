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
    """Nothing happens. Keeps a connection from idling out and tells the client that we are there."""
    return {}


def whoami(request: Request) -> Mapping[str, Any]:
    """What the registry knows of the sender."""
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
    """The sender is signed in, or stays so for longer, with the grants of its token."""
    renewed = request.service.authenticate(request.sender, request.frame.string("token"))
    return {"userId": renewed.user_id, "expiresAt": renewed.expires_at}


def send_message(request: Request) -> Mapping[str, Any]:
    """All connections of targetUserId, or the connection targetConnectionId, are sent text and data."""
    frame = request.frame
    if frame.has("targetUserId") == frame.has("targetConnectionId"):
        raise Invalid("targetUserId", "or targetConnectionId must be given, and not both")
    text, data = frame.content()
    if frame.has("targetUserId"):
        user_id = frame.name("targetUserId")
        request.allow(Verb.SEND, user_id)
        return request.service.send_to_user(user_id, text, data, request.sender).as_dict()
    connection_id = frame.name("targetConnectionId")
    request.allow(Verb.SEND, request.service.owner(connection_id))
    return request.service.send_to_connection(connection_id, text, data, request.sender).as_dict()


def broadcast_all(request: Request) -> Mapping[str, Any]:
    """Everyone, the sender among them, is sent note and data."""
    request.allow(Verb.BROADCAST)
    note, data = request.frame.optional_string("note"), request.frame.fields.get("data")
    return counts(request.service.broadcast(note, data))


def subscribe(request: Request) -> None:
    """The sender is a member of channel, and has what it missed since recover."""
    frame = request.frame
    channel, recover = frame.string("channel"), read_position(frame, "recover")
    request.allow(Verb.SUBSCRIBE, channel)
    if recover is not None:
        request.allow(Verb.HISTORY, channel)
    request.service.subscribe(request.sender, channel, recover, frame.id)


def unsubscribe(request: Request) -> Mapping[str, Any]:
    """The sender is no member of channel."""
    channel = request.frame.string("channel")
    request.service.unsubscribe(request.sender, channel)
    return {"channel": channel}


def publish(request: Request) -> Mapping[str, Any]:
    """The members of channel are sent data."""
    frame = request.frame
    channel = frame.string("channel")
    request.allow(Verb.PUBLISH, channel)
    if not request.service.options(channel).clients_publish:
        raise Forbidden
    message = read_message(frame)
    published = request.service.publish(
        channel, message.data, message.message_id, request.sender, frame.boolean("exclude")
    )
    return {"channel": channel, **published.as_dict()}


def presence(request: Request) -> Mapping[str, Any]:
    """Who is in channel."""
    channel = request.frame.string("channel")
    request.allow(Verb.PRESENCE, channel)
    return {"channel": channel, **request.service.presence(channel).as_dict()}


def history(request: Request) -> Mapping[str, Any]:
    """What was published in channel."""
    frame = request.frame
    channel = frame.string("channel")
    request.allow(Verb.HISTORY, channel)
    limit = frame.integer("limit", 0, MAX_PAGE, DEFAULT_PAGE)
    since = read_position(frame, "since")
    return request.service.history(channel, since, limit, frame.boolean("reverse")).as_dict()


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
