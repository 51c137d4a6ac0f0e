"""JSON Web Tokens (RFC 7519): from a token to the identity it proves, and from claims to a token.

Invariants: the algorithm decides which keys are tried, so a public key never serves as a secret; a token that says
nothing of its end, or whose audience or issuer is not ours, is refused; a refusal tells our log one word, and the
client nothing. PyJWT is imported only where a token is met, for it costs a cold start more than all the rest of
this package: docs/decisions/tokens.md.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from chalicelib.aws.secrets import Secrets
from chalicelib.errors import ConfigurationError, Invalid, TokenExpired, Unauthenticated
from chalicelib.protocol.identity import Identity, read_identity, read_time
from chalicelib.settings import Settings, split_secrets

if TYPE_CHECKING:
    from chalicelib.auth.jwks import Jwks

# API Gateway takes URLs of 4,096 characters and 10,240 bytes of headers: what is longer came another way.
MAX_TOKEN_CHARS: Final = 8_192
# How far the clocks of whoever signs and of this Lambda may be apart, where that lets nobody in for longer.
LEEWAY_SECONDS: Final = 5


class Tokens:
    """Verifies and signs tokens with the keys that the settings name; without any it refuses every token."""

    def __init__(self, settings: Settings, secrets: Secrets, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._jwks = _jwks(settings.jwt_jwks_url, clock) if settings.jwt_jwks_url else None

    def verify(self, token: str) -> Identity:
        """The identity that the token proves, now and until its `expires_at`.

        Raises:
            Unauthenticated: it proves nothing.
            JwksError, SecretError: the keys cannot be had.
            ConfigurationError: a secret that was looked up is too short.
        """
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
        """A token of these claims, signed with the newest secret; with the audience and issuer that we ask for.

        Raises:
            ConfigurationError: JWT_SECRETS is not set.
            SecretError: it cannot be read.
        """
        import jwt

        secrets = self._signing_keys()
        if not secrets:
            raise ConfigurationError("JWT_SECRETS", "must be set to sign tokens", "a-secret-of-at-least-32-bytes")
        ours = {"aud": self._settings.jwt_audience, "iss": self._settings.jwt_issuer}
        needed = {name: value for name, value in ours.items() if value}
        return jwt.encode({**needed, **claims}, secrets[-1], "HS256")

    def _decode(self, token: str) -> Mapping[str, Any]:
        import jwt

        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm == "HS256":
            # The newest first: all but the tokens of the last hours are signed with it.
            for secret in reversed(self._signing_keys()):
                try:
                    return self._decode_with(secret, token, algorithm)
                except jwt.InvalidSignatureError:
                    continue
        elif algorithm in ("RS256", "ES256") and self._jwks and isinstance(header.get("kid"), str):
            key = self._jwks.key(header["kid"])
            if key and key.algorithm_name == algorithm:
                return self._decode_with(key, token, algorithm)
        raise Unauthenticated("no key fits")

    def _decode_with(self, key: Any, token: str, algorithm: str) -> Mapping[str, Any]:
        import jwt

        # Times are checked below, by our own clock.
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


def _jwks(url: str, clock: Callable[[], float]) -> "Jwks":
    # Brings an HTTP client, which whoever verifies by secrets alone would pay for in every cold start.
    from chalicelib.auth.jwks import Jwks

    return Jwks(url, clock)
