"""Forks worker processes with Chalice and boto3 imported already: a cold start costs the project's import alone.

A script of its own. Its standard input is a Unix socket on which each byte carries a file descriptor: the channel of a
worker to fork. It has no threads and never imports the project, so its children start clean. It ends with the socket;
workers end with their channels.
"""

import os
import signal
import socket
import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    # Used by every worker, which then shares it.
    import boto3  # noqa: F401
    import botocore.httpsession
    import botocore.signers  # noqa: F401

    from localgateway.runtime import worker

    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Children are reaped by the kernel; how they ended shows in their channel.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        order, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not order:
            return
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            worker.serve(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


if __name__ == "__main__":
    main()
