"""What the environment says of AWS: who calls, from which Region, whom to trust, through what.

Invariant: it is as boto3 has it. boto3 itself is imported only where the environment leaves something open, and for the
clients that are boto3's: importing it takes longer than all that a Lambda does until its first frame.
"""

import os
import ssl
import threading
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import botocore
from botocore.exceptions import NoCredentialsError

from chalicelib.aws.sigv4 import Credentials

if TYPE_CHECKING:
    import boto3

# The three of which boto3 asks no file and no other host, if they are set: so they are on Lambda.
_TOLD: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


class Session(Protocol):
    """What is asked of a boto3 session."""

    @property
    def region_name(self) -> Any: ...

    def get_credentials(self) -> Any: ...

    def client(self, service_name: Any, **options: Any) -> Any: ...


class EnvironmentSession:
    """A session that answers from the environment, and lets boto3's answer what that does not say.

    Args:
        environ: the environment's variables, as they are whenever it is asked.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._lock = threading.Lock()
        self._boto3: boto3.session.Session | None = None

    @property
    def region_name(self) -> str | None:
        """The Region that requests are signed for."""
        return self._environ["AWS_DEFAULT_REGION"] if self._is_told() else self._session().region_name

    def get_credentials(self) -> Any:
        """Who signs, or None: `get_frozen_credentials` gives a consistent set of what holds then."""
        return self if self._is_told() else self._session().get_credentials()

    def get_frozen_credentials(self) -> Credentials:
        """The credentials that the environment has now."""
        key_id, secret, _ = (self._environ[name] for name in _TOLD)
        return Credentials(key_id, secret, self._environ.get("AWS_SESSION_TOKEN") or None)

    def client(self, service_name: Any, **options: Any) -> Any:
        """A client of boto3's; `options` as boto3 takes them."""
        return self._session().client(service_name, **options)

    def _is_told(self) -> bool:
        # The older name of the token comes first for boto3.
        return all(self._environ.get(name) for name in _TOLD) and "AWS_SECURITY_TOKEN" not in self._environ

    def _session(self) -> "boto3.session.Session":
        with self._lock:
            if self._boto3 is None:
                import boto3

                self._boto3 = boto3.session.Session()
            return self._boto3


def boto3_client(session: Session, service_name: str, config: Mapping[str, Any], **options: Any) -> Any:
    """boto3's client of a service; `config` is what botocore's Config takes."""
    from botocore.config import Config

    return session.client(service_name, config=Config(**config), **options)


def credentials_of(session: Session) -> Callable[[], Credentials]:
    """What gives the session's credentials, renewed when they are about to expire, or raises NoCredentialsError."""
    found = session.get_credentials()

    def current() -> Credentials:
        if found is None:
            raise NoCredentialsError
        return cast(Credentials, found.get_frozen_credentials())

    return current


def has_proxy(endpoint: str) -> bool:
    """Whether a proxy leads to the endpoint."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return False
    from botocore.utils import get_environ_proxies

    return bool(get_environ_proxies(endpoint))


def trust() -> ssl.SSLContext:
    """How certificates are checked: by the authorities that boto3 trusts."""
    return _trust(os.environ.get("AWS_CA_BUNDLE") or _authorities())


# Reading all the authorities takes longer than a handshake.
@cache
def _trust(path: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)


def _authorities() -> str:
    try:
        found: str = import_module("certifi").where()
    except ImportError:
        return str(Path(botocore.__file__).with_name("cacert.pem"))
    return found
