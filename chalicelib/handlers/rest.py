"""The REST routes: path and body in, (status, body) out. docs/REST.md describes each. Knows nothing of Chalice.

Invariant: the caller's fault is 400 or 404 with a message, ours is 500 without one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal
from urllib.parse import unquote

from chalicelib import telemetry
from chalicelib.channels.publish import read_message
from chalicelib.channels.recovery import DEFAULT_PAGE, MAX_PAGE, read_position
from chalicelib.connections import listing
from chalicelib.connections.closing import CLOSED
from chalicelib.delivery.delivery import counts
from chalicelib.errors import ClientError, Invalid, NotFound
from chalicelib.peal import Peal
from chalicelib.protocol import action_frames
from chalicelib.protocol.frame import Frame, parse
from chalicelib.protocol.names import check_name
from chalicelib.store.connection import Connection

# A batch of this size fits SQS and EventBridge, from which backends usually forward it.
MAX_BATCH_BYTES = 256_000
MAX_BATCH = 100
MAX_REASON_CHARS = 512

Answer = tuple[int, Mapping[str, Any] | None]


def answer(route: Callable[..., Answer], *arguments: Any) -> Answer:
    """Return the route's answer to those arguments, or to the error that it raises."""
    try:
        return route(*arguments)
    except ClientError as refusal:
        telemetry.refuse(refusal.code)
        return (404 if isinstance(refusal, NotFound) else 400), {"error": action_frames.error_body(refusal)}
    except Exception as failure:
        telemetry.fail(failure)
        return 500, {"error": action_frames.error_body(failure)}


def post_to_connection(peal: Peal, connection_id: str, body: bytes) -> Answer:
    """`POST /connections/{id}/messages`: send text and/or data to a connection."""
    text, data = parse(body).content()
    outcome = peal.send_to_connection(_name(connection_id, "connectionId"), text, data)
    if outcome.gone:
        raise NotFound
    return 200, outcome.as_dict()


def post_to_user(peal: Peal, user_id: str, body: bytes) -> Answer:
    """`POST /users/{id}/messages`: send text and/or data to all connections of a user."""
    text, data = parse(body).content()
    return 200, peal.send_to_user(_name(user_id, "userId"), text, data).as_dict()


def post_broadcast(peal: Peal, body: bytes) -> Answer:
    """`POST /broadcast`: send note and/or data, or nothing, to everyone."""
    frame = parse(body or b"{}")
    return 200, counts(peal.broadcast(frame.optional_string("note"), frame.fields.get("data")))


def post_ticket(peal: Peal, body: bytes) -> Answer:
    """`POST /tickets`: issue a ticket for {userId, deviceId?, expiresAt?, grants}."""
    ticket = peal.issue_ticket(parse(body).fields)
    return 201, {"ticket": ticket.ticket, "expiresAt": ticket.expires_at}


def get_roll(peal: Peal, query: Mapping[str, str]) -> Answer:
    """`GET /connections?after=&limit=`: return a page of all connections."""
    limit = Frame(None, _numbers(query, "limit")).integer("limit", 1, listing.MAX_PAGE, listing.DEFAULT_PAGE)
    return 200, peal.connections(query.get("after"), limit).as_dict()


def get_connection(peal: Peal, connection_id: str) -> Answer:
    """`GET /connections/{id}`: return what the registry knows of a connection."""
    return 200, _view(peal.connection(_name(connection_id, "connectionId")))


def delete_connection(peal: Peal, connection_id: str, query: Mapping[str, str]) -> Answer:
    """`DELETE /connections/{id}?code=&reason=`: say goodbye to a connection, close it and forget it."""
    peal.close(_name(connection_id, "connectionId"), *_goodbye(query))
    return 204, None


def get_connections(peal: Peal, user_id: str) -> Answer:
    """`GET /users/{id}/connections`: return what the registry knows of a user's connections."""
    return 200, {"connections": [_view(one) for one in peal.connections_of(_name(user_id, "userId"))]}


def delete_connections(peal: Peal, user_id: str, query: Mapping[str, str]) -> Answer:
    """`DELETE /users/{id}/connections?deviceId=&code=&reason=`: close a user's connections, or those of one device."""
    device_id = check_name(query["deviceId"], "deviceId") if "deviceId" in query else None
    return 200, peal.close_user(_name(user_id, "userId"), device_id, *_goodbye(query)).as_dict()


def post_to_channel(peal: Peal, channel: str, body: bytes) -> Answer:
    """`POST /channels/{channel}/messages`: publish {data, messageId?}, or {messages: [...]} in order.

    If one message of a batch fails, those before it have been published.
    """
    name = _name(channel, "channel")
    frame = parse(body, MAX_BATCH_BYTES)
    if not frame.has("messages"):
        (published,) = peal.publish_all(name, [read_message(frame)])
        return 200, {"channel": name, **published.as_dict()}
    entries = frame.fields["messages"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_BATCH:
        raise Invalid("messages", f"must be a list of 1 to {MAX_BATCH} messages")
    if not all(isinstance(entry, dict) for entry in entries):
        raise Invalid("messages", "must be objects with data and maybe a messageId")
    messages = [read_message(Frame(None, entry)) for entry in entries]
    return 200, {"channel": name, "messages": [each.as_dict() for each in peal.publish_all(name, messages)]}


def get_channel(peal: Peal, channel: str) -> Answer:
    """`GET /channels/{channel}`: return what a channel can do, its position and how many are in it."""
    return 200, peal.describe(_name(channel, "channel"))


def get_members(peal: Peal, channel: str) -> Answer:
    """`GET /channels/{channel}/members`: return who is in a channel."""
    name = _name(channel, "channel")
    return 200, {"channel": name, **peal.presence(name).as_dict()}


def delete_member(peal: Peal, channel: str, user_id: str) -> Answer:
    """`DELETE /channels/{channel}/members/{userId}`: unsubscribe all connections of a user."""
    name, user = _name(channel, "channel"), _name(user_id, "userId")
    return 200, {"channel": name, "userId": user, "connections": peal.unsubscribe_user(name, user)}


def get_history(peal: Peal, channel: str, query: Mapping[str, str]) -> Answer:
    """`GET /channels/{channel}/history?epoch=&offset=&limit=&reverse=`: return a page of publications."""
    fields: dict[str, Any] = _numbers(query, "limit", "offset")
    fields["reverse"] = {"true": True, "false": False}.get(query.get("reverse", "false"), "")
    if "offset" in fields or "epoch" in query:
        fields["since"] = {"epoch": query.get("epoch"), "offset": fields.get("offset")}
    frame = Frame(None, fields)
    limit = frame.integer("limit", 0, MAX_PAGE, DEFAULT_PAGE)
    since, reverse = read_position(frame, "since"), frame.boolean("reverse")
    return 200, peal.history(_name(channel, "channel"), since, limit, reverse).as_dict()


def _numbers(query: Mapping[str, str], *names: str) -> dict[str, Any]:
    """Return the given parameters as numbers; anything else stays text, which the frame's reader refuses."""
    given = {name: query[name] for name in names if name in query}
    return {name: int(text) if re.fullmatch(r"[0-9]{1,15}", text) else text for name, text in given.items()}


def _goodbye(query: Mapping[str, str]) -> tuple[str, str | None]:
    reason = query.get("reason")
    if reason is not None and len(reason) > MAX_REASON_CHARS:
        raise Invalid("reason", f"must have at most {MAX_REASON_CHARS} characters")
    return check_name(query.get("code", CLOSED), "code"), reason


def _view(connection: Connection) -> dict[str, Any]:
    known = {_camel(name): value for name, value in asdict(connection).items() if name != "join_refs"}
    grants = connection.grants.as_claims() if connection.grants else None
    return known | {"channels": sorted(connection.channels), "grants": grants}


def _name(segment: str, field: Literal["connectionId", "userId", "channel"]) -> str:
    # API Gateway passes path segments on as the caller encoded them. No name has a `%`, so decoding twice is safe.
    name = check_name(unquote(segment), field)
    telemetry.note(field, name)
    return name


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)
