"""Runs MiniStack (DynamoDB and SQS, in memory) on an inherited listening socket until stdin ends.

A script of its own, started with the socket's file descriptor as its argument. It must start fast, so it imports
nothing of this package. It must never outlive its parent, which holds the other end of stdin and writes nothing to
it: when the parent dies, however it dies, the operating system closes that end.
"""

import asyncio
import os
import sys
from threading import Thread


def exit_at_end_of_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    Thread(target=exit_at_end_of_stdin, daemon=True).start()

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app  # type: ignore[import-untyped]

    config = Config()
    config.bind = [f"fd://{sys.argv[1]}"]
    config.errorlog = None
    # A client that keeps its connections must not find them closed; Hypercorn's own choice is five seconds.
    config.keep_alive_timeout = 3600
    asyncio.run(serve(app, config))


if __name__ == "__main__":
    main()
