"""The inside of a worker process: one execution environment of Lambda.

It has its own module state and serves one invocation at a time. Its channel carries JSON values, each after its length:
first how to start, then one order after another. Each order is answered by one object, after a string for each line
that the handler writes. When the channel ends, so does the process, even in the middle of a handler.
"""

import json
import logging
import os
import socket
import struct
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, NoReturn

from localgateway.contract.project import Function, read_config
from localgateway.errors import ProjectError
from localgateway.runtime.code import Code, load
from localgateway.runtime.output import heard, overhear

log = logging.getLogger(__name__)

LENGTH = struct.Struct(">I")
# Handlers may have threads, and any of them may write a line.
sending = Lock()


def serve(channel: socket.socket) -> NoReturn:
    """Start as the first order says, then obey the others until the channel ends."""
    orders: SimpleQueue[Any] = SimpleQueue()
    Thread(target=receive_all, args=(channel, orders), daemon=True).start()
    first = orders.get()
    overhear()
    log_to_stderr(first["directory"], first["shown_directory"])
    try:
        code = start(first)
    except ProjectError as error:
        if error.__cause__:
            log.error("The project does not import", exc_info=error.__cause__)
        send(channel, {"failure": str(error).replace(first["directory"], first["shown_directory"])})
    else:
        send(channel, {"pid": os.getpid(), "project": code.project.to_json()})
        while True:
            order = orders.get()
            with heard(partial(send, channel)):
                result = code.run(Function(**order["function"]), order["event"])
            sys.stdout.flush()
            send(channel, asdict(result))
    os._exit(1)


def start(order: Mapping[str, Any]) -> Code:
    """Take on a project's variables and directory, and load its code."""
    os.environ.clear()
    os.environ.update(order["environment"])
    # Chalice warns about each route that AWS protects in a way it cannot; here they are open, as on its own server.
    warnings.filterwarnings("ignore", message=".* is not a supported in local mode", category=UserWarning)
    directory = order["directory"]
    os.chdir(directory)
    sys.path.insert(0, directory)
    return load(read_config(Path(directory), order["stage"]), order["management_endpoint"])


class Formatter(logging.Formatter):
    """Shows files under the author's paths instead of the copy's."""

    def __init__(self, directory: str, shown_directory: str) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._directory = directory
        self._shown_directory = shown_directory

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace(self._directory, self._shown_directory)


def log_to_stderr(directory: str, shown_directory: str) -> None:
    """Log from WARNING on, as Lambda's root logger does."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(directory, shown_directory))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def receive_all(channel: socket.socket, orders: "SimpleQueue[Any]") -> NoReturn:
    """Queue every order; at the end of the channel, end the process."""
    stream = channel.makefile("rb")
    try:
        while length := stream.read(LENGTH.size):
            orders.put(json.loads(stream.read(*LENGTH.unpack(length))))
    finally:
        # Also when the channel is reset, as it is if the gateway dies with an answer unread.
        os._exit(0)


def send(channel: socket.socket, value: Any) -> None:
    body = json.dumps(value).encode()
    with sending:
        channel.sendall(LENGTH.pack(len(body)) + body)
