"""The commands that operate a stage: each prints an answer of its API, and returns the exit status."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pealctl import history, live
from pealctl.api import Api, Json
from pealctl.errors import CommandError
from pealctl.output import Output, to_json

# Connections per request.
PAGE: Final = 1_000

Command = Callable[[Api, Output, Namespace], int]


def connections(api: Api, output: Output, options: Namespace) -> int:
    """List all connections page by page, or one user's with all that is known of each."""
    if options.user is not None:
        for one in api.get("users", options.user, "connections")["connections"]:
            device, channels = one["deviceId"], " ".join(one["channels"])
            output.entry(one, one["connectionId"], one["userId"], one["connectedAt"], device, channels)
        return 0
    count, page = 0, api.get("connections", limit=PAGE)
    while True:
        for one in page["connections"]:
            output.entry(one, one["connectionId"], one["userId"])
        count += len(page["connections"])
        output.progress(f"{count:,} connections")
        if page["next"] is None:
            return 0
        page = api.get("connections", limit=PAGE, after=page["next"])


def connection(api: Api, output: Output, options: Namespace) -> int:
    """Show all that is known of one connection."""
    output.record(api.get("connections", options.id))
    return 0


def members(api: Api, output: Output, options: Namespace) -> int:
    """List a channel's members."""
    listing = api.get("channels", options.channel, "members")
    if options.json:
        output.record(listing)
        return 0
    for one in listing["members"] or ():
        output.entry(one, one["userId"], one["connections"], one["attributes"])
    if listing["members"] is None:
        more = "" if listing["complete"] else "more than "
        output.note(f"Too many to list: {more}{listing['count']:,} users with {listing['connections']:,} connections.")
    return 0


def channel(api: Api, output: Output, options: Namespace) -> int:
    """Show a channel's position and options."""
    described = api.get("channels", options.channel)
    if not options.json:
        described |= described.pop("options")
    output.record(described)
    return 0


def read_history(api: Api, output: Output, options: Namespace) -> int:
    """Print what was published in a channel, oldest first."""
    if options.all:
        for count, one in enumerate(history.read_all(api, options.channel), 1):
            _show(output, one)
            output.progress(f"{count:,} publications")
        return 0
    _show_all(output, history.read_last(api, options.channel, options.last)[1])
    return 0


def tail(api: Api, output: Output, options: Namespace) -> int:
    """Print what is published in a channel from now on, until Ctrl-C."""
    history_size = api.get("channels", options.channel)["options"]["historySize"]
    try:
        if not history_size:
            _show_all(output, live.follow(api, options.channel, output.note))
        since, before = history.read_last(api, options.channel, options.last)
        _show_all(output, before)
        _show_all(output, history.follow(api, options.channel, since, output.note))
    except KeyboardInterrupt:
        pass
    return 0


def send(api: Api, output: Output, options: Namespace) -> int:
    """Send to a user, a connection, a channel's members or everyone; return 1 if some sends failed."""
    if options.channel is not None:
        data = options.data if options.has_data else options.text
        body = {"data": data} | ({"messageId": options.message_id} if options.message_id is not None else {})
        answer = api.post("channels", options.channel, "messages", body=body)
    else:
        text = "note" if options.everyone else "text"
        body = {text: options.text} if options.text is not None else {}
        body |= {"data": options.data} if options.has_data else {}
        path = (
            ("broadcast",)
            if options.everyone
            else ("users", options.user, "messages")
            if options.user is not None
            else ("connections", options.connection, "messages")
        )
        answer = api.post(*path, body=body)
    output.answer(answer, _outcome(answer))
    return 1 if answer.get("failed") else 0


def kick(api: Api, output: Output, options: Namespace) -> int:
    """Say goodbye to a user's connections, or to one, and close them; return 1 if that failed for some."""
    if options.connection is not None:
        api.delete("connections", options.connection, code=options.code, reason=options.reason)
        closed: Json = {"closed": 1, "failed": 0}
    else:
        path = ("users", options.user, "connections")
        closed = api.delete(*path, deviceId=options.device, code=options.code, reason=options.reason) or {}
    output.answer(closed, f"closed {closed['closed']}, failed {closed['failed']}")
    if closed["failed"]:
        output.note("The connections that failed are still open: run it again.")
    return 1 if closed["failed"] else 0


def ticket(api: Api, output: Output, options: Namespace) -> int:
    """Print a ticket with which that user can connect once."""
    claims = {"userId": options.user, "deviceId": options.device, "expiresAt": options.expires_at}
    if forbidden := options.grants.keys() & claims.keys():
        raise CommandError(f"--grants has {', '.join(sorted(forbidden))}, which is not a grant: see docs/PROTOCOL.md.")
    body = {name: value for name, value in claims.items() if value is not None} | options.grants
    issued = api.post("tickets", body=body)
    output.answer(issued, issued["ticket"])
    until = datetime.fromtimestamp(issued["expiresAt"], UTC)
    output.note(f"With ?ticket= it lets {options.user} connect once, until {until:%H:%M:%S} UTC.")
    return 0


def _show_all(output: Output, publications: Iterable[Json]) -> None:
    for one in publications:
        _show(output, one)


def _show(output: Output, publication: Json) -> None:
    sender: Mapping[str, Any] = publication["from"] or {"userId": "(server)"}
    name = sender["userId"] or sender["connectionId"]
    output.entry(publication, publication["time"], publication["offset"], name, to_json(publication["data"]))


def _outcome(answer: Json) -> str:
    counts = (
        "queued: another function delivers it"
        if answer.get("queued")
        else f"sent {answer['sent']}, gone {answer['gone']}, failed {answer['failed']}"
    )
    offset = answer.get("offset")
    return counts if offset is None else f"{counts}; offset {offset} of epoch {answer['epoch']}"


COMMANDS: Mapping[str, Command] = {
    "connections": connections,
    "connection": connection,
    "members": members,
    "channel": channel,
    "history": read_history,
    "send": send,
    "tail": tail,
    "kick": kick,
    "ticket": ticket,
}
