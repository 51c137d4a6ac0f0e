"""What the environment says about AWS: credentials, Region, endpoints, proxies.

Invariant: it says what boto3 would find. boto3 itself is imported only where the environment leaves something open, and
for the clients that are boto3's.
"""

import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

from botocore.exceptions import NoCredentialsError

from chalicelib.aws.sigv4 import Credentials

# If these three are set, as they are on Lambda, boto3 looks into no file and asks no host.
_REQUIRED: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
# What changes endpoints in ways that only boto3 knows.
_ONLY_BOTO3: Final = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT")
# At least as many as threads that send (`management.WORKERS`), else a client opens and drops connections.
_POOL_CONNECTIONS: Final = 96
# Regions whose hosts are under amazonaws.com.
_REGION: Final = re.compile(r"(?!us-iso)(af|ap|ca|eu|il|me|mx|sa|us)-[a-z-]+-\d")


class Session(Protocol):
    """The part of a boto3 session that is used here."""

    @property
    def region_name(self) -> Any: ...
    def get_credentials(self) -> Any: ...
    def client(self, service_name: Any, **options: Any) -> Any: ...


class EnvironmentSession:
    """A session that reads `environ` anew each time, and asks boto3's session for what is missing there."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._lock = threading.Lock()
        self._boto3: Any = None

    @property
    def region_name(self) -> Any:
        """The Region that requests are signed for, or None."""
        return self._environ["AWS_DEFAULT_REGION"] if self._is_complete() else self._session().region_name

    def get_credentials(self) -> Any:
        """Return an object that has `get_frozen_credentials`, or None without credentials."""
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

    def _session(self) -> Any:
        with self._lock:
            if self._boto3 is None:
                import boto3

                self._boto3 = boto3.session.Session()
            return self._boto3


def boto3_client(
    session: Session, service: str, tries: int, connect_seconds: float = 1, answer_seconds: float = 3, **options: Any
) -> Any:
    """Return boto3's client of a service; `tries` includes the first, `options` are those of `session.client`."""
    from botocore.config import Config

    config = Config(
        connect_timeout=connect_seconds,
        read_timeout=answer_seconds,
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=_POOL_CONNECTIONS,
    )
    return session.client(service, config=config, **options)


def credentials_of(session: Session) -> Callable[[], Credentials]:
    """Return a function that returns the session's credentials, renewed in time, or raises NoCredentialsError."""
    provider = session.get_credentials()

    def current() -> Credentials:
        if provider is None:
            raise NoCredentialsError
        return cast(Credentials, provider.get_frozen_credentials())

    return current


def find_endpoint(environ: Mapping[str, str], region: str | None, service: str) -> str | None:
    """Return the URL of a service (dynamodb) in the Region, as boto3 finds it, or None where only boto3 knows it."""
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
