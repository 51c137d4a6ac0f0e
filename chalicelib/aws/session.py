"""What the environment says about AWS: credentials, Region, endpoints, proxies, trusted authorities.

Invariant: it says what boto3 would find. boto3 itself is imported only where the environment leaves something open, and
for the clients that are boto3's.
"""

import os
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from urllib.parse import urlsplit

import botocore
from botocore.exceptions import NoCredentialsError

from chalicelib.aws.sigv4 import Credentials

if TYPE_CHECKING:
    import boto3

# If these three are set, as they are on Lambda, boto3 looks into no file and asks no host.
_REQUIRED: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
# What changes endpoints in ways that only boto3 knows.
_ONLY_BOTO3: Final = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT")
# Regions whose hosts are under amazonaws.com.
_REGION: Final = re.compile(r"(?!us-iso)(af|ap|ca|eu|il|me|mx|sa|us)-[a-z-]+-\d")


class Session(Protocol):
    """The part of a boto3 session that is used here."""

    @property
    def region_name(self) -> Any: ...

    def get_credentials(self) -> Any: ...

    def client(self, service_name: Any, **options: Any) -> Any: ...


class EnvironmentSession:
    """A session that reads the environment, and asks boto3's session for what is missing there.

    Args:
        environ: the environment's variables, read anew each time.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._lock = threading.Lock()
        self._boto3: boto3.session.Session | None = None

    @property
    def region_name(self) -> str | None:
        """The Region that requests are signed for."""
        return self._environ["AWS_DEFAULT_REGION"] if self._is_complete() else self._session().region_name

    def get_credentials(self) -> Any:
        """Return what has `get_frozen_credentials`, which returns one consistent set; None without credentials."""
        return self if self._is_complete() else self._session().get_credentials()

    def get_frozen_credentials(self) -> Credentials:
        """Return the credentials that the environment has now."""
        key_id, secret, _ = (self._environ[name] for name in _REQUIRED)
        return Credentials(key_id, secret, self._environ.get("AWS_SESSION_TOKEN") or None)

    def client(self, service_name: Any, **options: Any) -> Any:
        """Return boto3's client of a service; `options` as boto3 takes them."""
        return self._session().client(service_name, **options)

    def _is_complete(self) -> bool:
        # boto3 prefers the token's older name.
        return all(self._environ.get(name) for name in _REQUIRED) and "AWS_SECURITY_TOKEN" not in self._environ

    def _session(self) -> "boto3.session.Session":
        with self._lock:
            if self._boto3 is None:
                import boto3

                self._boto3 = boto3.session.Session()
            return self._boto3


def boto3_client(session: Session, service_name: str, config: Mapping[str, Any], **options: Any) -> Any:
    """Return boto3's client of a service; `config` is what botocore's Config takes."""
    from botocore.config import Config

    return session.client(service_name, config=Config(**config), **options)


def credentials_of(session: Session) -> Callable[[], Credentials]:
    """Return a function that returns the session's credentials, renewed before they expire.

    Raises:
        NoCredentialsError: raised by that function, where there are none.
    """
    provider = session.get_credentials()

    def current() -> Credentials:
        if provider is None:
            raise NoCredentialsError
        return cast(Credentials, provider.get_frozen_credentials())

    return current


def find_endpoint(environ: Mapping[str, str], region: str | None, service: str) -> str | None:
    """Return the URL of a service in the Region, as boto3 finds it, or None where only boto3 knows it.

    Args:
        environ: the environment's variables.
        region: the session's, if it has one.
        service: the first part of the host's name on AWS: dynamodb.
    """
    if region is None or any(environ.get(name) for name in _ONLY_BOTO3):
        return None
    if configured := environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environ.get("AWS_ENDPOINT_URL"):
        return None if urlsplit(configured).path.strip("/") else configured
    has_file = Path(environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser().exists()
    return None if has_file or not _REGION.fullmatch(region) else f"https://{service}.{region}.amazonaws.com"


def has_proxy(endpoint: str) -> bool:
    """Return whether a proxy leads to the endpoint."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return False
    from botocore.utils import get_environ_proxies

    return bool(get_environ_proxies(endpoint))


def trust() -> ssl.SSLContext:
    """Return what checks certificates, by the authorities that boto3 trusts."""
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
