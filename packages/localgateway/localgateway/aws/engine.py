"""The engine for tables and queues: a child process that keeps everything in memory and ends when this one does."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterable

from localgateway.aws import installation


class Engine:
    """MiniStack on a free port of 127.0.0.1. Clients may connect before it runs: they wait in the socket's queue.

    Attributes:
        url: the endpoint of all its services.
    """

    def __init__(
        self,
        services: Iterable[str] = ("dynamodb", "sqs"),
        command: Callable[[str], list[str]] = installation.to_command,
    ) -> None:
        """Take a port.

        Args:
            services: what it serves, of `installation.SERVICES`.
            command: returns what to run, given a socket's file descriptor.
        """
        self._services = tuple(services)
        self._command = command
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._port: int = self._socket.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes AWS SDKs use this engine; services that have an endpoint of their own keep it."""
        names = (installation.SERVICES[service] for service in self._services)
        return {f"AWS_ENDPOINT_URL_{name}": self.url for name in names if not has_endpoint(name)}

    def start(self) -> None:
        """Start the child and return at once; the very first time, install the engine before.

        Raises:
            ResourceError: if it cannot be installed.
        """
        descriptor = self._socket.fileno()
        self._process = subprocess.Popen(
            self._command(str(descriptor)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[descriptor],
            env=installation.engine_environment(os.environ, self._services) | {"GATEWAY_PORT": str(self._port)},
            # Out of the terminal's Ctrl-C, so that handlers can still write while the gateway shuts down.
            start_new_session=True,
        )
        # The child's is the only copy from now on: if it ends, clients are refused instead of waiting for ever.
        self._socket.close()

    def stop(self) -> None:
        """End the child; also right after __init__, and twice."""
        self._socket.close()
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def has_endpoint(service: str) -> bool:
    """Tell whether the environment says where an AWS service is; `service` as in its variable, `DYNAMODB` say."""
    return bool(os.environ.get(f"AWS_ENDPOINT_URL_{service}") or os.environ.get("AWS_ENDPOINT_URL"))
