"""The public keys of whoever signs tokens with RS256 or ES256, from the JSON Web Key Set at JWT_JWKS_URL.

Invariants: keys come from that URL and nowhere else, whatever a token's header says (`jku`, `x5u`, `jwk`); only
keys for signatures count, of RS256 with 2,048 bits or more or ES256; a flood of unknown `kid`s fetches once a minute.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPException
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, build_opener

from chalicelib.errors import ConfigurationError, JwksError

if TYPE_CHECKING:
    from jwt import PyJWK

# A key that its issuer has taken back counts no longer than this.
MAX_AGE_SECONDS: Final = 3_600
PAUSE_SECONDS: Final = 60
MAX_JWKS_BYTES: Final = 262_144
_MIN_BITS: Final = {"RS256": 2_048, "ES256": 256}
_TIMEOUT_SECONDS: Final = 3

log = logging.getLogger(__name__)


class Jwks:
    """The keys at `url`, fetched when the first is asked for; `clock` gives epoch seconds.

    Raises:
        ConfigurationError: the package has not what verifies RS256 and ES256.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        if find_spec("cryptography") is None:
            raise ConfigurationError("JWT_JWKS_URL", "needs the line cryptography in requirements.txt", url)
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, PyJWK] | None = None
        self._fetched_at = self._tried_at = float("-inf")

    def key(self, key_id: str) -> "PyJWK | None":
        """The key that has the `kid` `key_id`, or None if there is none.

        Keys that cannot be fetched again stay in force.

        Raises:
            JwksError: they were never fetched and cannot be now.
        """
        with self._lock:
            now = self._clock()
            is_stale = now - self._fetched_at >= MAX_AGE_SECONDS or key_id not in (self._keys or {})
            if self._keys is None or (is_stale and now - self._tried_at >= PAUSE_SECONDS):
                self._tried_at = now
                try:
                    self._keys = _read(_fetch(self._url))
                    self._fetched_at = now
                except JwksError as error:
                    if self._keys is None:
                        raise
                    log.warning("%s; the last ones stay in force", error)
            return self._keys.get(key_id)


class _NoRedirect(HTTPRedirectHandler):
    """A redirect could lead from https to anywhere: it is answered as the error that it is here."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(url: str) -> bytes:
    try:
        with build_opener(_NoRedirect).open(url, timeout=_TIMEOUT_SECONDS) as answer:
            body: bytes = answer.read(MAX_JWKS_BYTES + 1)
    except HTTPError as error:
        error.close()
        raise JwksError(f"HTTP {error.code}") from error
    except (OSError, HTTPException) as error:
        raise JwksError(type(error).__name__) from error
    if len(body) > MAX_JWKS_BYTES:
        raise JwksError(f"more than {MAX_JWKS_BYTES} bytes")
    return body


def _read(body: bytes) -> dict[str, "PyJWK"]:
    try:
        found = json.loads(body)["keys"]
        keys = {entry["kid"]: _key(entry) for entry in found if isinstance(entry, dict) and "kid" in entry}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise JwksError("this is no JSON Web Key Set") from error
    return {key_id: key for key_id, key in keys.items() if key}


def _key(entry: dict[str, Any]) -> "PyJWK | None":
    from jwt import PyJWK, PyJWTError

    # The set may hold keys of any kind, and well-formed or not: what we cannot use is passed over.
    try:
        key = PyJWK(entry)
        is_ours = key.algorithm_name in _MIN_BITS and key.key.key_size >= _MIN_BITS[key.algorithm_name]
    except (PyJWTError, ValueError, TypeError, AttributeError):
        return None
    return key if is_ours and entry.get("use", "sig") == "sig" else None
