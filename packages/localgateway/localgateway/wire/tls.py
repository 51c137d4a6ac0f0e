"""The certificate behind `--tls`, signed by a certificate authority that belongs to this user.

The authority is kept in the user's cache, so a client that trusts it trusts every gateway of that user. The certificate
is made anew at each start and its key stays in this process. Anyone who can read the authority's key can impersonate
any site to clients that trust it, so only its owner may read that file.
"""

import os
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import botocore.session
from botocore.httpsession import get_cert_path

from localgateway.environment import cache_directory
from localgateway.errors import CertificateError

if TYPE_CHECKING:
    from trustme import CA

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
# Browsers and macOS take no certificate that is valid for longer than 398 days.
VALID = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Tls:
    """What a gateway needs to serve TLS, and clients to trust it.

    Attributes:
        context: for the listening socket.
        ca_path: the authority's certificate alone, for programs that add it to those they trust.
        bundle_path: that certificate after all that AWS SDKs trust already, for programs that take one file only.
    """

    context: ssl.SSLContext
    ca_path: Path
    bundle_path: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make boto3 trust the gateway, in addition to everything it trusts already."""
        return {"AWS_CA_BUNDLE": str(self.bundle_path)}


def make_tls(names: Iterable[str]) -> Tls:
    """Make a certificate for the loopback names and these, and the files that make clients trust it.

    Raises:
        CertificateError: if trustme is not installed, or the user's cache cannot be used.
    """
    directory = cache_directory()
    key_path, ca_path, bundle_path = (directory / name for name in ("ca-key.pem", "ca.pem", "bundle.pem"))
    try:
        ca = load_authority(key_path)
        put(ca_path, ca.cert_pem.bytes())
        put(bundle_path, join_trusted(bundle_path, ca.cert_pem.bytes()))
    except (OSError, ValueError) as error:
        raise CertificateError(f"{directory} cannot be used for certificates: {error}") from None
    now = datetime.now(UTC)
    certificate = ca.issue_cert(
        *dict.fromkeys((*LOOPBACK_NAMES, *names)), not_before=now - timedelta(days=1), not_after=now + VALID
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A local client gains nothing from resuming a session, so none is offered.
    context.num_tickets = 0
    certificate.configure_cert(context)
    return Tls(context, ca_path, bundle_path)


def load_authority(path: Path) -> "CA":
    """Return the authority whose key and certificate are in that file; the first time, make both."""
    try:
        from trustme import CA
    except ImportError:
        raise CertificateError("TLS needs trustme, which is not installed: pip install trustme.") from None
    if not path.exists():
        made = CA(organization_name="localgateway", path_length=0)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = write_beside(path, made.private_key_pem.bytes() + made.cert_pem.bytes())
        try:
            # If two gateways start for the first time at once, they agree on one authority: unlike rename, link never
            # replaces.
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink()
    pem = path.read_bytes()
    return CA.from_pem(pem, pem)


def join_trusted(bundle_path: Path, ca: bytes) -> bytes:
    """Return the certificates that AWS SDKs trust on this machine, and the authority's."""
    configured = botocore.session.Session().get_config_variable("ca_bundle")
    # A shell may already have our own bundle configured, which contains all it was made from.
    trusted = Path(str(configured or get_cert_path(True))).read_bytes()
    return trusted if ca in trusted else trusted.rstrip() + b"\n" + ca


def put(path: Path, content: bytes) -> None:
    """Write a file atomically: a concurrent reader gets the old content or the new."""
    if not path.exists() or path.read_bytes() != content:
        write_beside(path, content).replace(path)


def write_beside(path: Path, content: bytes) -> Path:
    """Write a file that only its owner can read, under a new name in the same directory."""
    with NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    return Path(file.name)
