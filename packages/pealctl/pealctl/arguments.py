"""The command line's options, and what is read from standard input in their place."""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from pealctl.target import LOCAL

STDIN: Final = "-"
_ID: Final = re.compile(r"-[A-Za-z0-9_-]+=")
DESCRIPTION: Final = "Who is connected, what is published, and a word to them: on any stage."
EPILOG: Final = """\
examples:
  pealctl connections                              who is connected to `make dev`
  pealctl --stage prod connections --user u_456    where u_456 is connected
  pealctl send --user u_456 "hi"                   a message to all of u_456's connections
  pealctl tail chat:lobby --json | jq .data        what is published in chat:lobby, as it comes
  pealctl kick --user u_456 --reason "Signed out elsewhere."

status: 0 it is done; 1 it could not be, or not for everyone; 2 the command line is wrong.
docs/OPERATIONS.md says what one must be allowed on AWS.
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; `data` is parsed and `has_data` tells whether it was given. What is wrong ends with status 2."""
    everywhere = _everywhere()
    parser = argparse.ArgumentParser(
        prog="pealctl",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[everywhere],
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, meaning: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=meaning, description=meaning, parents=[everywhere], allow_abbrev=False)

    connections = command("connections", "list who is connected")
    connections.add_argument("--user", type=name, help="this user's connections only, with all that is known of them")
    command("connection", "show what is known of a connection").add_argument("id", type=name, metavar="ID")
    command("members", "list who is in a channel").add_argument("channel", type=name, metavar="CHANNEL")
    command("channel", "show where a channel stands and what it can do").add_argument(
        "channel", type=name, metavar="CHANNEL"
    )

    history = command("history", "print what was published in a channel, oldest first")
    history.add_argument("channel", type=name, metavar="CHANNEL")
    how_many = history.add_mutually_exclusive_group()
    how_many.add_argument("-n", "--last", type=count, default=20, metavar="N", help="the last N (default: %(default)s)")
    how_many.add_argument("--all", action="store_true", help="all that the channel keeps")

    tail = command("tail", "print what is published in a channel from now on, until Ctrl-C")
    tail.add_argument("channel", type=name, metavar="CHANNEL")
    tail.add_argument("-n", "--last", type=count, default=0, metavar="N", help="the last N before (default: none)")

    send = command("send", "send to a user, a connection, a channel or everyone")
    to = send.add_mutually_exclusive_group(required=True)
    to.add_argument("--user", type=name, help="all connections of this user")
    to.add_argument("--connection", type=name, metavar="ID", help="one connection")
    to.add_argument("--channel", type=name, help="publish in this channel")
    to.add_argument("--everyone", action="store_true", help="broadcast to all who are connected")
    send.add_argument("text", nargs="?", metavar="TEXT", help="what to say; - reads it from standard input")
    send.add_argument(
        "--data", metavar="JSON", help="any JSON beside or instead of TEXT; - reads it from standard input"
    )
    send.add_argument("--message-id", metavar="NAME", help="in a channel: the same within 5 minutes is published once")

    kick = command("kick", "tell connections goodbye and close them")
    whom = kick.add_mutually_exclusive_group(required=True)
    whom.add_argument("--user", type=name, help="all connections of this user")
    whom.add_argument("--connection", type=name, metavar="ID", help="one connection")
    kick.add_argument("--device", help="of the user, those of this device only")
    kick.add_argument("--code", help="a word for programs (default: closed)")
    kick.add_argument("--reason", help="a sentence for people")

    ticket = command("ticket", "print a ticket with which a client can connect once, as that user")
    ticket.add_argument("user", metavar="USER")
    ticket.add_argument("--device")
    ticket.add_argument("--expires-in", type=count, metavar="SECONDS", help="end the connection after so long")
    ticket.add_argument(
        "--grants",
        type=grants,
        default={},
        metavar="JSON",
        help='what it may do: \'{"channels":{"chat:*":["subscribe"]}}\'',
    )
    return _checked(parser, parser.parse_args(_spare_ids(sys.argv[1:] if arguments is None else arguments)))


def _spare_ids(arguments: Sequence[str]) -> list[str]:
    """The same arguments, with connection ids where argparse takes none for an option: one in 64 begins with `-`."""
    options: list[str] = []
    names: list[str] = []
    for argument in arguments:
        if not _ID.fullmatch(argument):
            options.append(argument)
        elif options and options[-1] == "--connection":
            options[-1] += f"={argument}"
        else:
            names.append(argument)
    return [*options, "--", *names] if names and "--" not in options else [*options, *names]


def _everywhere() -> argparse.ArgumentParser:
    """Options that may stand before the command or after it; without defaults, lest one side undo the other."""
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    group = options.add_argument_group("which stage, and how to print")
    group.add_argument("--stage", help=f"a stage of .chalice/config.json (default: {LOCAL}, what `make dev` runs)")
    group.add_argument("--url", type=http_url, help="of its REST API; then AWS is not asked where it is")
    group.add_argument("--socket-url", type=socket_url, metavar="URL", help="where clients connect; `tail` may need it")
    group.add_argument("--json", action="store_true", help="print JSON, one object a line")
    return options


def _checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    for name, default in (("stage", LOCAL), ("url", None), ("socket_url", None), ("json", False)):
        setattr(options, name, getattr(options, name, default))
    match options.command:
        case "send":
            _check_content(parser, options)
        case "kick" if options.device is not None and options.user is None:
            parser.error("--device is one of a --user's")
        case "ticket":
            lasts = options.expires_in
            options.expires_at = None if lasts is None else int(time.time()) + lasts
    return options


def _check_content(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    options.has_data = options.data is not None
    if options.text == options.data == STDIN:
        parser.error("TEXT and --data cannot both be read from standard input")
    if options.message_id is not None and options.channel is None:
        parser.error("--message-id is for a --channel")
    if options.channel is not None and (options.text is None) is not options.has_data:
        parser.error("a channel takes TEXT or --data JSON, and not both")
    if options.text is None and not options.has_data and not options.everyone:
        parser.error("nothing to send: give TEXT, --data JSON, or - to read it from standard input")
    try:
        if options.text == STDIN:
            options.text = _read_stdin().removesuffix("\n")
        if options.has_data:
            options.data = parse_json(_read_stdin() if options.data == STDIN else options.data)
    except ValueError:
        # What it says would quote what is to be sent.
        parser.error("--data is no JSON" if options.has_data else "standard input is no UTF-8")


def _read_stdin() -> str:
    return sys.stdin.buffer.read().decode()


def parse_json(text: str) -> Any:
    """What the JSON says. Raises ValueError where it is none, or no UTF-8."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def grants(text: str) -> dict[str, Any]:
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def name(text: str) -> str:
    # These would be other paths; what else a name may be the stage knows.
    if text in ("", ".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} is no name")
    return text


def count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def http_url(text: str) -> str:
    return _url(text, "http", "https")


def socket_url(text: str) -> str:
    return _url(text, "ws", "wss")


def _url(text: str, *schemes: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in schemes or not parts.hostname or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text!r} is no {' or '.join(schemes)} URL")
    return text
