"""What can go wrong before the gateway serves.

GatewayError            said in one sentence, with the way out
+-- ProjectError        the directory is not a Chalice project, or does not import
+-- ResourceError       a table or queue cannot be made, or the engine for it does not run
+-- CertificateError    TLS cannot be had
+-- AddressInUse        another process has the port
"""


class GatewayError(Exception):
    """The gateway cannot start; the message is a sentence for the person who started it."""


class ProjectError(GatewayError):
    """The project cannot be loaded. Where its own code failed, `__cause__` is that error."""


class ResourceError(GatewayError):
    """A table, a queue or the engine for them cannot be made."""


class CertificateError(GatewayError):
    """A certificate cannot be made or kept."""


class AddressInUse(GatewayError):
    """The port to serve on is taken."""

    def __init__(self, host: str, port: int, option: str) -> None:
        super().__init__(host, port, option)
        self.host, self.port, self.option = host, port, option

    def __str__(self) -> str:
        return (
            f"Port {self.port} on {self.host} is in use: stop the process that has it, "
            f"or choose another port with {self.option} (0 takes a free one)."
        )
