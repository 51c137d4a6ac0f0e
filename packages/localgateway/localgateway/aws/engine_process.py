"""The engine's process: MiniStack, in memory, on an inherited listening socket, until stdin ends.

A script of its own: `engine_process.py DIRECTORY [DESCRIPTOR]`. DIRECTORY is where MiniStack is installed, empty if
this Python has it; DESCRIPTOR is the socket's. Without a socket it serves itself a call of each service and ends: that
proves an installation whole, and leaves its bytecode behind for the next start.

It must start fast, so it imports nothing of this package. It must never outlive its parent, which holds the other end
of stdin and writes nothing to it: when the parent dies, however it dies, the operating system closes that end.
"""

import asyncio
import os
import socket
import sys
from http.client import HTTPConnection
from threading import Thread

# A call that reads, of each service.
CALLS = {
    "dynamodb": "DynamoDB_20120810.ListTables",
    "sqs": "AmazonSQS.ListQueues",
    "ssm": "AmazonSSM.DescribeParameters",
    "secretsmanager": "secretsmanager.ListSecrets",
}
SECONDS = 30


def exit_at_end_of_stdin() -> None:
    """End this process when its parent does."""
    # Not by sys.stdin, whose lock would hold up the end of the process if the main thread fails.
    while os.read(0, 4096):
        pass
    os._exit(0)


def try_out(port: int) -> None:
    """Call each service once and end this process: with 0 if all of them answer."""
    for service in os.environ["SERVICES"].split(","):
        connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        headers = {
            "X-Amz-Target": CALLS[service],
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/{service}/aws4_request",
        }
        connection.request("POST", "/", b"{}", headers)
        response = connection.getresponse()
        if response.status != 200:
            print(f"{service} answers {response.status}: {response.read()!r}", file=sys.stderr, flush=True)
            os._exit(1)
    os._exit(0)


def main(directory: str, descriptor: str = "") -> None:
    if descriptor:
        Thread(target=exit_at_end_of_stdin, daemon=True).start()
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        descriptor, port = str(listener.fileno()), listener.getsockname()[1]
        os.environ["GATEWAY_PORT"] = str(port)
        Thread(target=try_out, args=(port,), daemon=True).start()
    if directory:
        sys.path.append(directory)

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.errorlog = None
    # Clients keep their connections open; Hypercorn would close them after five seconds.
    config.keep_alive_timeout = 3600
    asyncio.run(serve(app, config))


if __name__ == "__main__":
    main(*sys.argv[1:])
