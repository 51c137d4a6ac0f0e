"""A connection as the registry knows it: the record, and the table row it is stored in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import Invalid
from chalicelib.protocol.codec import ACTION_FRAMES, Receiver
from chalicelib.protocol.frame import dump
from chalicelib.protocol.grants import NOTHING, Grants, parse_grants
from chalicelib.store import keys
from chalicelib.store.table import Item, Value


@dataclass(frozen=True)
class Connection:
    """One connection.

    Attributes:
        connection_id: API Gateway's id, never reused for another connection.
        connected_at: RFC 3339 in UTC with milliseconds.
        ttl: epoch seconds after which the row no longer counts.
        endpoint: the management endpoint it connected through; None if unknown.
        user_id, device_id: its owner; None if anonymous.
        attributes: what the client said of itself when it connected.
        channels: full names of the channels it has subscribed to.
        join_refs: its subscriptions that have a join_ref, as `keys.subscription` writes them.
        expires_at: epoch seconds at which its credential expires, never before `ttl`; None if it does not expire.
        grants: what its credential grants; None if anonymous: then the settings say what it may do.
        is_signed_in: False until a client that connected without a credential has sent one. Until then it belongs
            neither to its user's connections nor to everyone.
        codec: the name of the codec it reads and writes.
    """

    connection_id: str
    connected_at: str
    ttl: int
    endpoint: str | None
    user_id: str | None
    device_id: str | None
    source_ip: str | None
    user_agent: str | None
    attributes: Mapping[str, Any]
    channels: frozenset[str] = frozenset()
    expires_at: int | None = None
    grants: Grants | None = None
    is_signed_in: bool = True
    codec: str = ACTION_FRAMES
    join_refs: frozenset[str] = frozenset()

    def has(self, channel: str, join_ref: int | None) -> bool:
        """Return whether it has subscribed to the channel, with that join_ref if one is given."""
        return channel in self.channels if join_ref is None else keys.subscription(channel, join_ref) in self.join_refs

    def subscriptions(self, channel: str, until: int | None) -> frozenset[str]:
        """Return what its row may say of subscriptions to the channel, except those with a later join_ref."""
        ours = (name for name in self.join_refs if name.startswith(f"{channel}#"))
        return frozenset({channel, *(name for name in ours if until is None or int(name.split("#")[1]) <= until)})

    @property
    def receiver(self) -> Receiver:
        """The connection as a receiver of frames."""
        return Receiver(self.connection_id, self.codec)

    @property
    def origin(self) -> dict[str, str | None]:
        """What receivers see of the sender of a frame: `{"userId", "connectionId"}`."""
        return {"userId": self.user_id, "connectionId": self.connection_id}


def as_row(connection: Connection) -> Item:
    """Return the connection's row."""
    # An unauthenticated connection is in no index, so nothing sent to a user or to everyone reaches it.
    index = keys.owner_keys(connection.connection_id, connection.user_id, connection.codec)
    return {
        **keys.connection_key(connection.connection_id),
        **(index if connection.is_signed_in else {}),
        "codec": codec_value(connection.codec),
        "connectionId": connection.connection_id,
        "userId": connection.user_id,
        "deviceId": connection.device_id,
        "connectedAt": connection.connected_at,
        "endpoint": connection.endpoint,
        "sourceIp": connection.source_ip,
        "userAgent": connection.user_agent,
        "attributes": dump(connection.attributes),
        "channels": connection.channels or None,
        "expiresAt": connection.expires_at,
        "grants": None if connection.grants is None else grants_value(connection.grants),
        "ttl": connection.ttl,
    }


def from_row(connection_id: str, row: Mapping[str, Value]) -> Connection:
    """Return the connection that the row holds.

    Another version of the app may have written it: what is missing or malformed reads as unknown.
    """

    def text(name: str) -> str | None:
        value = row.get(name)
        return value if isinstance(value, str) else None

    ttl, expires_at, grants, names = row.get("ttl"), row.get("expiresAt"), text("grants"), row.get("channels")
    subscriptions = names if isinstance(names, frozenset) else frozenset()
    attributes = load_row_json(row.get("attributes"))
    return Connection(
        connection_id=connection_id,
        connected_at=text("connectedAt") or "",
        ttl=ttl if isinstance(ttl, int) else 0,
        endpoint=text("endpoint"),
        user_id=text("userId"),
        device_id=text("deviceId"),
        source_ip=text("sourceIp"),
        user_agent=text("userAgent"),
        attributes=attributes if isinstance(attributes, dict) else {},
        channels=frozenset(name.split("#")[0] for name in subscriptions),
        join_refs=frozenset(name for name in subscriptions if name.partition("#")[2].isdecimal()),
        expires_at=expires_at if isinstance(expires_at, int) else None,
        grants=None if grants is None else _grants(grants),
        is_signed_in="GSI1PK" in row,
        codec=text("codec") or ACTION_FRAMES,
    )


def codec_value(codec: str) -> str | None:
    """Return the row's value for a codec; rows of connections that read action frames, most of them, have none."""
    return None if codec == ACTION_FRAMES else codec


def grants_value(grants: Grants) -> str:
    """Return the row's value for grants."""
    return dump(grants.as_claims())


def load_row_json(text: object) -> Any:
    """Return the JSON value in an attribute of a row, or None."""
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _grants(text: str) -> Grants:
    try:
        return parse_grants(json.loads(text))
    except (ValueError, AttributeError, Invalid):
        return NOTHING
