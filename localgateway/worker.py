"""The inside of a worker process: one execution environment of Lambda.

It has its own module state, serves one invocation at a time and is then used again. Its channel carries JSON values,
each behind its length: first how to start, then order after order; one value comes back for each. When the channel
ends, so does the process, whatever its handler is doing.
"""

import json
import logging
import os
import socket
import struct
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, NoReturn

from localgateway.code import Code, load
from localgateway.errors import ProjectError
from localgateway.project import Function, read_config

LENGTH = struct.Struct(">I")


def serve(channel: socket.socket) -> NoReturn:
    """Start as the first order says, then obey the others until the channel ends."""
    orders: SimpleQueue[Any] = SimpleQueue()
    Thread(target=receive_all, args=(channel, orders), daemon=True).start()
    try:
        code = start(**orders.get())
    except ProjectError as error:
        if error.__cause__:
            traceback.print_exception(error.__cause__)
        send(channel, {"failure": str(error)})
    else:
        send(channel, {"pid": os.getpid(), "project": code.project.to_json()})
        while True:
            order = orders.get()
            result = code.run(Function(**order["function"]), order["event"])
            sys.stdout.flush()
            send(channel, asdict(result))
    sys.stderr.flush()
    os._exit(1)


def start(directory: str, stage: str, environment: dict[str, str], management_endpoint: str) -> Code:
    """Become the Lambda of a project: its variables, its directory, its code."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.path.insert(0, directory)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    return load(read_config(Path(directory), stage), management_endpoint)


def receive_all(channel: socket.socket, orders: "SimpleQueue[Any]") -> NoReturn:
    """Put every order in line; at the end of the channel, end the process."""
    stream = channel.makefile("rb")
    while length := stream.read(LENGTH.size):
        orders.put(json.loads(stream.read(*LENGTH.unpack(length))))
    os._exit(0)


def send(channel: socket.socket, value: Any) -> None:
    body = json.dumps(value).encode()
    channel.sendall(LENGTH.pack(len(body)) + body)
