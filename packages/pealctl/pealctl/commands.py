"""What each command does: a function from the options to what it prints, and the status that it ends with."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pealctl import history, live
from pealctl.api import Api, Json
from pealctl.errors import CommandError
from pealctl.output import Output, to_json

# How many connections are read at a time.
PAGE: Final = 1_000

Command = Callable[[Api, Output, Namespace], int]


def connections(api: Api, output: Output, options: Namespace) -> int:
    """Who is connected; all of them page by page, or one user's with what is known of each."""
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
    """What is known of one connection."""
    output.record(api.get("connections", options.id))
    return 0


def members(api: Api, output: Output, options: Namespace) -> int:
    """Who is in a channel."""
    here = api.get("channels", options.channel, "members")
    if options.json:
        output.record(here)
        return 0
    for one in here["members"] or ():
        output.entry(one, one["userId"], one["connections"], one["attributes"])
    if here["members"] is None:
        more = "" if here["complete"] else "more than "
        output.note(f"Too many to list: {more}{here['count']:,} users with {here['connections']:,} connections.")
    return 0


def channel(api: Api, output: Output, options: Namespace) -> int:
    """Where a channel stands and what it can do."""
    described = api.get("channels", options.channel)
    if not options.json:
        described |= described.pop("options")
    output.record(described)
    return 0


def read_history(api: Api, output: Output, options: Namespace) -> int:
    """What was published in a channel, oldest first."""
    if options.all:
        for count, one in enumerate(history.read_all(api, options.channel), 1):
            _show(output, one)
            output.progress(f"{count:,} publications")
        return 0
    _show_all(output, history.read_last(api, options.channel, options.last)[1])
    return 0


def tail(api: Api, output: Output, options: Namespace) -> int:
    """What is published in a channel from now on, until Ctrl-C."""
    keeps = api.get("channels", options.channel)["options"]["historySize"]
    try:
        if not keeps:
            _show_all(output, live.follow(api, options.channel, output.note))
        since, before = history.read_last(api, options.channel, options.last)
        _show_all(output, before)
        _show_all(output, history.follow(api, options.channel, since, output.note))
    except KeyboardInterrupt:
        pass
    return 0


def send(api: Api, output: Output, options: Namespace) -> int:
    """A user, a connection, a channel's members or everyone have been sent something; 1 where it failed for some."""
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
    """A user's connections, or one, are told goodbye and closed; 1 where one could not be."""
    if options.connection is not None:
        api.delete("connections", options.connection, code=options.code, reason=options.reason)
        closed: Json = {"closed": 1, "failed": 0}
    else:
        path = ("users", options.user, "connections")
        closed = api.delete(*path, deviceId=options.device, code=options.code, reason=options.reason) or {}
    output.answer(closed, f"closed {closed['closed']}, failed {closed['failed']}")
    if closed["failed"]:
        output.note("Those that could not be closed are still connected: run it again.")
    return 1 if closed["failed"] else 0


def ticket(api: Api, output: Output, options: Namespace) -> int:
    """A ticket with which that user can connect once."""
    claims = {"userId": options.user, "deviceId": options.device, "expiresAt": options.expires_at}
    if forbidden := options.grants.keys() & claims.keys():
        raise CommandError(f"--grants has {', '.join(sorted(forbidden))}, which is no grant: see docs/PROTOCOL.md.")
    body = {name: value for name, value in claims.items() if value is not None} | options.grants
    issued = api.post("tickets", body=body)
    output.answer(issued, issued["ticket"])
    until = datetime.fromtimestamp(issued["expiresAt"], UTC)
    output.note(f"It lets {options.user} connect once, with ?ticket=, until {until:%H:%M:%S} UTC.")
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
        "queued: somebody else delivers it"
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
