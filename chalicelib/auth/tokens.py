"""JSON Web Tokens (RFC 7519): from a token to the identity it proves, and from claims to a token.

Invariants: the algorithm decides which keys are tried, so a public key is never used as a secret. A token without an
end, or with another audience or issuer, is refused. A refusal puts one word into our log and tells the client nothing.
PyJWT is imported when the first token is met: it costs a cold start more than the rest of this package together
(docs/decisions/tokens.md).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from chalicelib.aws.secrets import Secrets
from chalicelib.errors import ConfigurationError, Invalid, TokenExpired, Unauthenticated
from chalicelib.protocol.identity import Identity, read_identity, read_time
from chalicelib.settings import Settings, split_secrets

# API Gateway takes URLs of 4,096 characters and 10,240 bytes of headers: anything longer was sent another way.
MAX_TOKEN_CHARS: Final = 8_192
# How far the issuer's clock may be ahead of this Lambda's. It applies to `nbf` and `iat`: no token lives longer for it.
LEEWAY_SECONDS: Final = 5


class Tokens:
    """Verify and sign tokens with the keys that the settings name; without any, refuse every token."""

    def __init__(self, settings: Settings, secrets: Secrets, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._jwks = None
        if settings.jwt_jwks_url:
            # It brings an HTTP client: with secrets alone no cold start should pay for that.
            from chalicelib.auth.jwks import Jwks

            self._jwks = Jwks(settings.jwt_jwks_url, clock)

    def verify(self, token: str) -> Identity:
        """Return the identity that it proves. Raises Unauthenticated, JwksError, SecretError, ConfigurationError."""
        import jwt

        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise Unauthenticated("no token")
        try:
            claims = self._decode(token)
            self._check_times(claims)
            return read_identity(claims, user="sub", expires="exp")
        except jwt.PyJWTError as error:
            raise Unauthenticated(type(error).__name__) from error
        except Invalid as error:
            raise Unauthenticated(f"claim {error.field}") from error

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token of these claims, signed with the newest secret. Raises SecretError, ConfigurationError."""
        import jwt

        secrets = self._signing_keys()
        if not secrets:
            raise ConfigurationError("JWT_SECRETS", "must be set to sign tokens", "a-secret-of-at-least-32-bytes")
        ours = {"aud": self._settings.jwt_audience, "iss": self._settings.jwt_issuer}
        required = {name: value for name, value in ours.items() if value}
        return jwt.encode({**required, **claims}, secrets[-1], "HS256")

    def _decode(self, token: str) -> Mapping[str, Any]:
        import jwt

        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm == "HS256":
            # The newest first: it has signed almost every token that is still valid.
            for secret in reversed(self._signing_keys()):
                with suppress(jwt.InvalidSignatureError):
                    return self._decode_with(secret, token, algorithm)
        elif algorithm in ("RS256", "ES256") and self._jwks and isinstance(header.get("kid"), str):
            key = self._jwks.key(header["kid"])
            if key and key.algorithm_name == algorithm:
                return self._decode_with(key, token, algorithm)
        raise Unauthenticated("no key fits")

    def _decode_with(self, key: Any, token: str, algorithm: str) -> Mapping[str, Any]:
        import jwt

        # `_check_times` checks the times by our own clock.
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self._settings.jwt_audience,
            issuer=self._settings.jwt_issuer,
            options={"require": ["exp", "sub"], "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock()
        if int(read_time(claims, "exp")) <= now:
            raise TokenExpired("expired")
        for name in ("nbf", "iat"):
            if name in claims and read_time(claims, name) > now + LEEWAY_SECONDS:
                raise Unauthenticated(f"claim {name}")

    def _signing_keys(self) -> tuple[str, ...]:
        value = self._settings.jwt_secrets
        return split_secrets(self._secrets.read("JWT_SECRETS", value)) if value else ()
