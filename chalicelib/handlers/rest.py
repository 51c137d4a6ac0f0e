"""The REST doors: path and body in, (status, body) out. Knows nothing of Chalice.

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
from chalicelib.protocol import frame as protocol
from chalicelib.protocol.names import check_name
from chalicelib.store.connection import Connection

# A batch fits SQS and EventBridge, which is where backends tend to have it from.
MAX_BATCH_BYTES = 256_000
MAX_BATCH = 100
MAX_REASON_CHARS = 512

Answer = tuple[int, Mapping[str, Any] | None]


def answer(door: Callable[..., Answer], *arguments: Any) -> Answer:
    """The door's answer to those arguments, or what its error means over HTTP."""
    try:
        return door(*arguments)
    except ClientError as refusal:
        telemetry.refuse(refusal.code)
        return (404 if isinstance(refusal, NotFound) else 400), {"error": action_frames.error_body(refusal)}
    except Exception as failure:
        telemetry.fail(failure)
        return 500, {"error": action_frames.error_body(failure)}


def post_to_connection(peal: Peal, connection_id: str, body: bytes) -> Answer:
    """`POST /connections/{id}/messages` {text and/or data}: 200 with the outcome, 404 if it is gone."""
    text, data = protocol.parse(body).content()
    outcome = peal.send_to_connection(_name(connection_id, "connectionId"), text, data)
    if outcome.gone:
        raise NotFound
    return 200, outcome.as_dict()


def post_to_user(peal: Peal, user_id: str, body: bytes) -> Answer:
    """`POST /users/{id}/messages` {text and/or data}: 200 with the outcome, all zero if the user is not here."""
    text, data = protocol.parse(body).content()
    return 200, peal.send_to_user(_name(user_id, "userId"), text, data).as_dict()


def post_broadcast(peal: Peal, body: bytes) -> Answer:
    """`POST /broadcast` {note and/or data, or nothing}: 200 with the outcome."""
    frame = protocol.parse(body or b"{}")
    return 200, counts(peal.broadcast(frame.optional_string("note"), frame.fields.get("data")))


def post_ticket(peal: Peal, body: bytes) -> Answer:
    """`POST /tickets` {userId, deviceId?, expiresAt?, grants}: 201 with the ticket and when it runs out."""
    ticket = peal.issue_ticket(protocol.parse(body).fields)
    return 201, {"ticket": ticket.ticket, "expiresAt": ticket.expires_at}


def get_roll(peal: Peal, query: Mapping[str, str]) -> Answer:
    """`GET /connections?after=&limit=`: 200 with some of those who are connected, and where the next page begins."""
    frame = protocol.Frame(None, _numbers(query, "limit"))
    limit = frame.integer("limit", 1, listing.MAX_PAGE, listing.DEFAULT_PAGE)
    return 200, peal.connections(query.get("after"), limit).as_dict()


def get_connection(peal: Peal, connection_id: str) -> Answer:
    """`GET /connections/{id}`: 200 with what the registry knows, or 404."""
    return 200, _view(peal.connection(_name(connection_id, "connectionId")))


def delete_connection(peal: Peal, connection_id: str, query: Mapping[str, str]) -> Answer:
    """`DELETE /connections/{id}?code=&reason=`: 204 once it is closed and forgotten, or 404."""
    peal.close(_name(connection_id, "connectionId"), *_goodbye(query))
    return 204, None


def get_connections(peal: Peal, user_id: str) -> Answer:
    """`GET /users/{id}/connections`: 200 with what the registry knows of each; none if the user is not here."""
    return 200, {"connections": [_view(one) for one in peal.connections_of(_name(user_id, "userId"))]}


def delete_connections(peal: Peal, user_id: str, query: Mapping[str, str]) -> Answer:
    """`DELETE /users/{id}/connections?deviceId=&code=&reason=`: 200 with how many were closed, or could not be."""
    device_id = check_name(query["deviceId"], "deviceId") if "deviceId" in query else None
    return 200, peal.close_user(_name(user_id, "userId"), device_id, *_goodbye(query)).as_dict()


def post_to_channel(peal: Peal, channel: str, body: bytes) -> Answer:
    """`POST /channels/{channel}/messages` {data, messageId?} or {messages: [of those]}: 200 with where each stands.

    The messages of a batch are published in their order; where one fails, those before it have been published.
    """
    name = _name(channel, "channel")
    frame = protocol.parse(body, MAX_BATCH_BYTES)
    if not frame.has("messages"):
        published = peal.publish_all(name, [read_message(frame)])[0]
        return 200, {"channel": name, **published.as_dict()}
    entries = frame.fields["messages"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_BATCH:
        raise Invalid("messages", f"must be a list of 1 to {MAX_BATCH} messages")
    if not all(isinstance(entry, dict) for entry in entries):
        raise Invalid("messages", "must be objects with data and maybe a messageId")
    messages = [read_message(protocol.Frame(None, entry)) for entry in entries]
    return 200, {"channel": name, "messages": [each.as_dict() for each in peal.publish_all(name, messages)]}


def get_channel(peal: Peal, channel: str) -> Answer:
    """`GET /channels/{channel}`: 200 with what it can do, where it stands and how many are here."""
    return 200, peal.describe(_name(channel, "channel"))


def get_members(peal: Peal, channel: str) -> Answer:
    """`GET /channels/{channel}/members`: 200 with who is here."""
    name = _name(channel, "channel")
    return 200, {"channel": name, **peal.presence(name).as_dict()}


def delete_member(peal: Peal, channel: str, user_id: str) -> Answer:
    """`DELETE /channels/{channel}/members/{userId}`: 200 with how many of its connections were unsubscribed."""
    name, user = _name(channel, "channel"), _name(user_id, "userId")
    return 200, {"channel": name, "userId": user, "connections": peal.unsubscribe_user(name, user)}


def get_history(peal: Peal, channel: str, query: Mapping[str, str]) -> Answer:
    """`GET /channels/{channel}/history?epoch=&offset=&limit=&reverse=`: 200 with a page, as the action gives it."""
    fields: dict[str, Any] = _numbers(query, "limit", "offset")
    fields["reverse"] = {"true": True, "false": False}.get(query.get("reverse", "false"), "")
    if "offset" in fields or "epoch" in query:
        fields["since"] = {"epoch": query.get("epoch"), "offset": fields.get("offset")}
    frame = protocol.Frame(None, fields)
    limit = frame.integer("limit", 0, MAX_PAGE, DEFAULT_PAGE)
    since, reverse = read_position(frame, "since"), frame.boolean("reverse")
    return 200, peal.history(_name(channel, "channel"), since, limit, reverse).as_dict()


def _numbers(query: Mapping[str, str], *names: str) -> dict[str, Any]:
    """Those of the query's parameters that are given, as whole numbers; what is none stays text, and is refused."""
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
    # API Gateway hands path segments on as the caller encoded them; no name has a `%`, so this is safe to repeat.
    name = check_name(unquote(segment), field)
    telemetry.note(field, name)
    return name


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
