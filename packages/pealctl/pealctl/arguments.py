"""The command line's options, and what is read from standard input in their place."""

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from pealctl.deploy.stage import LOCAL

STDIN: Final = "-"
_ID: Final = re.compile(r"-[A-Za-z0-9_-]+=")
# What each command does, as --help lists it.
OPERATE: Final[Mapping[str, str]] = {
    "connections": "list who is connected",
    "connection": "show all that is known of a connection",
    "members": "list who is in a channel",
    "channel": "show a channel's position and options",
    "history": "print what was published in a channel, oldest first",
    "tail": "print what is published in a channel from now on, until Ctrl-C",
    "send": "send to a user, a connection, a channel or everyone",
    "kick": "say goodbye to connections and close them",
    "ticket": "print a ticket with which a client can connect once, as that user",
}
DEPLOY: Final[Mapping[str, str]] = {
    "deploy": "bring the stage on AWS up to date with the project, and try it",
    "destroy": "delete the stage and all its data from AWS",
    "package": "write a CloudFormation template and a zip of the stage to out/",
    "policies": "write the IAM policy files of all stages, as permissions.py declares them",
}
EPILOG: Final = """\
examples:
  pealctl connections                              who is connected to `make dev`
  pealctl --stage prod connections --user u_456    where u_456 is connected
  pealctl send --user u_456 "hi"                   a message to all of u_456's connections
  pealctl tail chat:lobby --json | jq .data        what is published in chat:lobby, as it arrives
  pealctl kick --user u_456 --reason "Signed out elsewhere."
  pealctl deploy --stage dev                       stage dev to AWS

status: 0 done; 1 not done, or not for everyone; 2 the command line is wrong.
docs/OPERATIONS.md and docs/DEPLOY.md list the AWS permissions that commands need.
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; what is wrong with it ends the process with status 2.

    Args:
        arguments: the words after the program's name; None takes those of this process.

    Returns:
        The options. Of `send`, `data` is parsed and `has_data` tells whether it was given.
    """
    stage, api = _stage_options(), _api_options()
    parser = argparse.ArgumentParser(
        prog="pealctl",
        usage="%(prog)s [options] COMMAND ...",
        description="Operate a stage of Peal, or take it to AWS.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[stage, api],
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(
        title="commands",
        prog=parser.prog,
        description=_list_commands(),
        dest="command",
        metavar="COMMAND",
        required=True,
        help=argparse.SUPPRESS,
    )

    def operate(name: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, description=OPERATE[name], parents=[stage, api], allow_abbrev=False)

    def deploy(name: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, description=DEPLOY[name], parents=[stage], allow_abbrev=False)

    connections = operate("connections")
    connections.add_argument("--user", type=name, help="only this user's connections, with all that is known of each")
    operate("connection").add_argument("id", type=name, metavar="ID")
    operate("members").add_argument("channel", type=name, metavar="CHANNEL")
    operate("channel").add_argument("channel", type=name, metavar="CHANNEL")

    history = operate("history")
    history.add_argument("channel", type=name, metavar="CHANNEL")
    how_many = history.add_mutually_exclusive_group()
    how_many.add_argument("-n", "--last", type=count, default=20, metavar="N", help="the last N (default: %(default)s)")
    how_many.add_argument("--all", action="store_true", help="all that the channel keeps")

    tail = operate("tail")
    tail.add_argument("channel", type=name, metavar="CHANNEL")
    tail.add_argument("-n", "--last", type=count, default=0, metavar="N", help="the last N before (default: none)")

    send = operate("send")
    to = send.add_mutually_exclusive_group(required=True)
    to.add_argument("--user", type=name, help="all connections of this user")
    to.add_argument("--connection", type=name, metavar="ID", help="one connection")
    to.add_argument("--channel", type=name, help="publish in this channel")
    to.add_argument("--everyone", action="store_true", help="broadcast to everyone connected")
    send.add_argument("text", nargs="?", metavar="TEXT", help="what to say; - reads it from standard input")
    send.add_argument(
        "--data", metavar="JSON", help="any JSON beside or instead of TEXT; - reads it from standard input"
    )
    send.add_argument(
        "--message-id", metavar="NAME", help="in a channel: publish the same name only once within 5 minutes"
    )

    kick = operate("kick")
    target = kick.add_mutually_exclusive_group(required=True)
    target.add_argument("--user", type=name, help="all connections of this user")
    target.add_argument("--connection", type=name, metavar="ID", help="one connection")
    kick.add_argument("--device", help="of the user, only those of this device")
    kick.add_argument("--code", help="a word for programs (default: closed)")
    kick.add_argument("--reason", help="a sentence for people")

    ticket = operate("ticket")
    ticket.add_argument("user", metavar="USER")
    ticket.add_argument("--device")
    ticket.add_argument("--expires-in", type=count, metavar="SECONDS", help="end the connection after this time")
    ticket.add_argument(
        "--grants",
        type=grants,
        default={},
        metavar="JSON",
        help='what it may do: \'{"channels":{"chat:*":["subscribe"]}}\'',
    )

    for one in ("deploy", "package", "policies"):
        deploy(one)
    deploy("destroy").add_argument(
        "--confirm", default="", metavar="TABLE", help="the stage's table, whose data will be lost"
    )
    return _checked(parser, parser.parse_args(_spare_ids(sys.argv[1:] if arguments is None else arguments)))


def _list_commands() -> str:
    """Return the two groups of commands, as --help prints them."""
    groups = {"operate a stage:": OPERATE, "take one to AWS:": DEPLOY}
    lines = []
    for title, meanings in groups.items():
        lines += [title, *(f"  {name:<12} {meaning}" for name, meaning in meanings.items()), ""]
    return "\n".join(lines).rstrip()


def _spare_ids(arguments: Sequence[str]) -> list[str]:
    """Place connection ids where argparse does not take them for options: one in 64 begins with `-`."""
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


# Options that may stand before the command or after it have no defaults: those of one side would undo the other's.


def _stage_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    group = options.add_argument_group("which stage")
    group.add_argument("--stage", help=f"a stage of .chalice/config.json (default: {LOCAL}, what `make dev` runs)")
    return options


def _api_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    group = options.add_argument_group("to operate a stage")
    group.add_argument("--url", type=http_url, help="the stage's REST API; then AWS is not asked where it is")
    group.add_argument("--socket-url", type=socket_url, metavar="URL", help="where clients connect; `tail` may need it")
    group.add_argument("--json", action="store_true", help="print JSON, one object a line")
    return options


def _checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    """Fill in defaults, and refuse what argparse cannot see to be wrong."""
    for name, default in (("stage", LOCAL), ("url", None), ("socket_url", None), ("json", False)):
        if options.command in DEPLOY and name != "stage" and name in options:
            parser.error(f"--{name.replace('_', '-')} is not an option of {options.command}")
        setattr(options, name, getattr(options, name, default))
    match options.command:
        case "send":
            _check_content(parser, options)
        case "kick" if options.device is not None and options.user is None:
            parser.error("--device needs a --user")
        case "ticket":
            lasts = options.expires_in
            options.expires_at = None if lasts is None else int(time.time()) + lasts
    return options


def _check_content(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    options.has_data = options.data is not None
    if options.text == options.data == STDIN:
        parser.error("TEXT and --data cannot both be read from standard input")
    if options.message_id is not None and options.channel is None:
        parser.error("--message-id needs a --channel")
    if options.channel is not None and (options.text is None) is not options.has_data:
        parser.error("a channel takes either TEXT or --data JSON")
    if options.text is None and not options.has_data and not options.everyone:
        parser.error("nothing to send: give TEXT, --data JSON, or - to read it from standard input")
    try:
        if options.text == STDIN:
            options.text = _read_stdin().removesuffix("\n")
        if options.has_data:
            options.data = parse_json(_read_stdin() if options.data == STDIN else options.data)
    except ValueError:
        # The error's own text would quote what is to be sent.
        parser.error("--data is not JSON" if options.has_data else "standard input is not UTF-8")


def _read_stdin() -> str:
    return sys.stdin.buffer.read().decode()


def parse_json(text: str) -> Any:
    """Return the value. Raises ValueError for text that is not JSON, NaN and Infinity included."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def grants(text: str) -> dict[str, Any]:
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def name(text: str) -> str:
    # These would change the path of the URL. The stage itself checks everything else.
    if text in ("", ".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name")
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
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL ({' or '.join(schemes)})")
    return text
