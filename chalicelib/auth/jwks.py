"""The public keys that verify RS256 and ES256 tokens, from the JSON Web Key Set at JWT_JWKS_URL.

Invariants: keys come from that URL only, whatever a token's header says (`jku`, `x5u`, `jwk`). Only signature keys of
ES256, and of RS256 with at least 2,048 bits, are used. A flood of unknown `kid`s causes one fetch a minute.
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

# How long a key that its issuer has revoked may still be used.
MAX_AGE_SECONDS: Final = 3_600
PAUSE_SECONDS: Final = 60
MAX_JWKS_BYTES: Final = 262_144
_MIN_BITS: Final = {"RS256": 2_048, "ES256": 256}
_TIMEOUT_SECONDS: Final = 3

log = logging.getLogger(__name__)


class Jwks:
    """The keys at `url`, fetched when the first is needed; `clock` gives epoch seconds. Raises ConfigurationError."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        if find_spec("cryptography") is None:
            raise ConfigurationError("JWT_JWKS_URL", "needs the line cryptography in requirements.txt", url)
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, PyJWK] | None = None
        self._fetched_at = self._tried_at = float("-inf")

    def key(self, key_id: str) -> "PyJWK | None":
        """Return the key whose `kid` is `key_id`, or None. Raises JwksError if no keys were ever fetched."""
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
    """Refuse redirects: one could lead from https anywhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(url: str) -> bytes:
    try:
        with build_opener(_NoRedirect).open(url, timeout=_TIMEOUT_SECONDS) as response:
            body: bytes = response.read(MAX_JWKS_BYTES + 1)
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
        entries = json.loads(body)["keys"]
        keys = {entry["kid"]: _key(entry) for entry in entries if isinstance(entry, dict) and "kid" in entry}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise JwksError("this is no JSON Web Key Set") from error
    return {key_id: key for key_id, key in keys.items() if key}


def _key(entry: dict[str, Any]) -> "PyJWK | None":
    from jwt import PyJWK, PyJWTError

    # The set may hold keys of any kind, or malformed ones: we skip what we cannot use.
    try:
        key = PyJWK(entry)
        is_ours = key.algorithm_name in _MIN_BITS and key.key.key_size >= _MIN_BITS[key.algorithm_name]
    except (PyJWTError, ValueError, TypeError, AttributeError):
        return None
    return key if is_ours and entry.get("use", "sig") == "sig" else None
