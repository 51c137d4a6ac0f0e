"""The command line: `localgateway [PROJECT_DIR]` runs a project, `localgateway engine` installs what it may need."""

import argparse
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from threading import Event
from types import FrameType

from localgateway.api.routing import Additions
from localgateway.aws import installation
from localgateway.errors import GatewayError
from localgateway.faults import BadFault, Fault, parse_fault
from localgateway.front.lobby import raise_file_limit
from localgateway.gateway import LocalGateway
from localgateway.limits import Limits
from localgateway.log import log_to_stderr
from localgateway.runtime.output import overhear
from localgateway.wire.admission import is_loopback
from localgateway.wire.tls import Tls


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a project until Ctrl-C or SIGTERM, or do what `engine` says, and return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["engine"]:
        return manage_engine(arguments[1:])
    options = parse(arguments)
    overhear()
    log_to_stderr()
    raise_file_limit()
    is_over = Event()

    def stop(number: int, frame: FrameType | None) -> None:
        is_over.set()

    try:
        with make_gateway(options) as gateway:
            signal.signal(signal.SIGINT, stop)
            signal.signal(signal.SIGTERM, stop)
            print(describe(gateway), flush=True)
            if not is_loopback(options.host):
                print(f"Warning: {options.host} is not loopback; others can reach the app.", file=sys.stderr)
            is_over.wait()
    except GatewayError as error:
        if error.__cause__:
            traceback.print_exception(error.__cause__)
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def manage_engine(arguments: Sequence[str]) -> int:
    """Install the engine, or say where it is; return the exit code, which is 1 if it is not there."""
    parser = argparse.ArgumentParser(
        prog="localgateway engine",
        description="The engine for tables and queues, which is otherwise installed when a project first needs it.",
    )
    parser.add_argument("action", choices=("install", "path"), help="install it, or print its directory")
    action = parser.parse_args(arguments).action
    if installation.is_beside():
        print("MiniStack is installed beside the gateway and is used as it is.", file=sys.stderr)
        return 0
    if action == "install":
        try:
            installation.install()
        except GatewayError as error:
            print(error, file=sys.stderr)
            return 1
    directory = installation.engine_directory()
    print(directory)
    return 0 if directory.is_dir() else 1


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; what is wrong with it ends the process with code 2."""
    parser = argparse.ArgumentParser(
        prog="localgateway",
        description="Run a Chalice project with its WebSocket API, REST routes and tables on this machine.",
        epilog="`localgateway engine install` fetches the engine for tables and queues ahead of its first use.",
    )
    add = parser.add_argument
    add("--version", action="version", version=f"%(prog)s {version('chalice-localgateway')}")
    add("project_dir", nargs="?", default=".", metavar="PROJECT_DIR", help="where app.py is (default: here)")
    add("--stage", default="local", help="Chalice stage (default: %(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=port, default=8001, help="WebSocket port, 0 for a free one (default: %(default)s)")
    add("--rest-port", type=port, default=8000, help="REST port, 0 for a free one (default: %(default)s)")
    add("--tls", action="store_true", help="serve wss:// and https:// with a certificate of your own authority")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name that requests may use, besides localhost; repeatable",
    )
    add(
        "--in-process",
        action="store_true",
        help="run the handlers in threads of this process, for a debugger, instead of processes of their own",
    )
    add(
        "--env",
        type=variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override a variable of the stage; repeatable",
    )
    add(
        "--fault",
        type=fault,
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="inject a failure: throttle=3, delay-post=0.5, lose-disconnect=all, ...; repeatable",
    )
    # What Chalice does not make and CloudFormation can add; see Additions.
    add("--authorizer", metavar="FUNCTION", help="the Lambda authorizer of $connect")
    for option, metavar, parse_as, meaning in ADDITIONS:
        add(option, type=parse_as, action="append", default=[], metavar=metavar, help=f"{meaning}; repeatable")
    limits = Limits()
    for option, limit, meaning in CLOCKS:
        default = getattr(limits, limit)
        add(
            option,
            dest=limit,
            type=seconds,
            default=default,
            metavar="SECONDS",
            help=f"{meaning} (default: {default:g})",
        )
    return parser.parse_args(arguments)


CLOCKS = (
    ("--idle-timeout", "idle_seconds", "close a socket without messages after"),
    ("--max-duration", "duration_seconds", "close any socket after"),
    ("--integration-timeout", "integration_seconds", "give up on a function after"),
)


def port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError(text)
    return number


def seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except BadFault as error:
        raise argparse.ArgumentTypeError(str(error)) from None


ADDITIONS = (
    ("--identity-source", "EXPRESSION", str, "what a handshake must have, such as route.request.querystring.token"),
    ("--route", "KEY=FUNCTION", variable, "run a function for messages with this action"),
    ("--route-response", "KEY", str, "send what the route's function returns to the client"),
)


def make_gateway(options: argparse.Namespace) -> LocalGateway:
    clocks = {limit: getattr(options, limit) for _, limit, _ in CLOCKS}
    return LocalGateway(
        options.project_dir,
        stage=options.stage,
        host=options.host,
        port=options.port,
        rest_port=options.rest_port,
        environment=dict(options.env),
        workers=not options.in_process,
        reload=not options.in_process,
        tls=options.tls,
        allow_hosts=options.allow_host,
        limits=replace(Limits(), **clocks),
        additions=Additions(options.authorizer, options.identity_source, dict(options.route), options.route_response),
        faults=options.fault,
    )


def describe(gateway: LocalGateway) -> str:
    """Say where everything is, and what another process needs to push to the same clients."""
    lines = [
        f"WebSocket     {gateway.url}",
        f"@connections  {gateway.management_endpoint}/@connections/{{connectionId}}",
    ]
    if gateway.rest_url:
        lines.append(f"REST          {gateway.rest_url}")
    if gateway.console_url:
        lines.append(f"Console       {gateway.console_url}")
    if gateway.tls:
        lines += ["", *describe_trust(gateway.tls)]
    lines += ["", "For another process that pushes too:"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in gateway.environment.items()]
    return "\n".join([*lines, ""])


def describe_trust(tls: Tls) -> list[str]:
    """Say how clients come to trust the gateway's certificate; once, for it stays the same authority."""
    ca = shlex.quote(str(tls.ca_path))
    return [
        f"Clients must trust {tls.ca_path}:",
        f"Node.js       export NODE_EXTRA_CA_CERTS={ca}",
        f"Python, curl  export SSL_CERT_FILE={shlex.quote(str(tls.bundle_path))}",
        "Browsers      import it as an authority for web sites, in their settings or your system's",
    ]


if __name__ == "__main__":
    sys.exit(main())
