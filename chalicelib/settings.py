"""What the environment says, read and validated once, when the Lambda starts."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Self, TypeVar, get_args

from chalicelib.errors import ConfigurationError, Invalid
from chalicelib.protocol.grants import EVERYTHING, NOTHING, Grants, parse_grants

# API Gateway holds no socket longer than two hours; ten minutes more cover clocks and a slow $disconnect.
DEFAULT_TTL_SECONDS = 7_800
MAX_TTL_SECONDS = 7 * 24 * 3_600
DEFAULT_MAX_CHANNELS = 100
# A connection's row names them all, and every write of it costs by its size.
MAX_MAX_CHANNELS = 1_000
DEFAULT_TICKET_TTL_SECONDS: Final = 60
MAX_TICKET_TTL_SECONDS: Final = 3_600
# RFC 7518, section 3.2: a key for HS256 has at least as many bits as the hash.
MIN_SECRET_BYTES: Final = 32
# One Lambda of 1,024 MB sends so many in a second.
DEFAULT_FANOUT_SIZE: Final = 5_000
MAX_FANOUT_SIZE: Final = 100_000
SSM, SECRETS_MANAGER = "ssm:", "secretsmanager:"
LogFormat = Literal["json", "text"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
ClientKind = Literal["lean", "boto3"]
_Choice = TypeVar("_Choice", LogFormat, LogLevel, ClientKind)
_STAGE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HTTP_URL = re.compile(r"https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?(/[A-Za-z0-9._~$@/-]*)?")
_LOOPBACK_URL = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])([:/].*)?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:\d{1,5})?")
_RATE = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)\s*,\s*(\d{1,5})", re.ASCII)


@dataclass(frozen=True)
class RateLimit:
    """How fast a connection may send: `per_second` frames in the long run, `burst` of them at once."""

    per_second: float
    burst: int

    @property
    def interval_us(self) -> int:
        """Microseconds between two frames that come evenly."""
        return int(1_000_000 / self.per_second)


@dataclass(frozen=True)
class Settings:
    """The app's settings.

    Attributes:
        connections_table: name of the DynamoDB table (CONNECTIONS_TABLE, required).
        jobs_queue: name of the SQS queue of jobs (JOBS_QUEUE, required).
        max_channels: how many channels one connection may subscribe to (MAX_CHANNELS).
        connection_ttl_seconds: how long after connecting a row may live (CONNECTION_TTL_SECONDS).
        fanout_size: how many receivers one invocation sends to; a larger audience is cut into jobs (FANOUT_SIZE).
        management_endpoint: where to POST to connections, instead of what $connect taught
            (APIGW_MANAGEMENT_ENDPOINT), without a trailing slash.
        management_client: what sends to connections (MANAGEMENT_CLIENT).
        table_client: what asks DynamoDB (TABLE_CLIENT).
        allow_anonymous: whether someone who has not signed in may connect (ALLOW_ANONYMOUS).
        anonymous_grants: what someone who has not signed in may do (ANONYMOUS_GRANTS).
        allow_late_authentication: whether a client may connect first and send `authenticate` then
            (ALLOW_LATE_AUTHENTICATION).
        jwt_secrets: what signs HS256 tokens, oldest to newest, or where that is kept: see `split_secrets`
            and `secrets` (JWT_SECRETS).
        jwt_jwks_url: where the public keys for RS256 and ES256 are (JWT_JWKS_URL).
        jwt_audience, jwt_issuer: the `aud` and `iss` that tokens must have (JWT_AUDIENCE, JWT_ISSUER).
        ticket_ttl_seconds: how long a ticket can be used (TICKET_TTL_SECONDS).
        rate_limit: how fast a connection may send; None is as fast as it can (RATE_LIMIT).
        allowed_origins: the origins whose pages may connect; empty is any (ALLOWED_ORIGINS).
        stage: the Chalice stage this is; metrics carry it as their dimension (STAGE).
        log_format, log_level: how log lines look, and from which level on they are written (LOG_FORMAT, LOG_LEVEL).
    """

    connections_table: str
    jobs_queue: str = ""
    max_channels: int = DEFAULT_MAX_CHANNELS
    connection_ttl_seconds: int = DEFAULT_TTL_SECONDS
    fanout_size: int = DEFAULT_FANOUT_SIZE
    management_endpoint: str | None = None
    management_client: ClientKind = "lean"
    table_client: ClientKind = "lean"
    allow_anonymous: bool = False
    anonymous_grants: Grants = NOTHING
    allow_late_authentication: bool = False
    jwt_secrets: str | None = field(default=None, repr=False)
    jwt_jwks_url: str | None = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    ticket_ttl_seconds: int = DEFAULT_TICKET_TTL_SECONDS
    allowed_origins: frozenset[str] = frozenset()
    rate_limit: RateLimit | None = None
    stage: str = "local"
    log_format: LogFormat = "json"
    log_level: LogLevel = "INFO"

    @property
    def has_keys(self) -> bool:
        """Whether any token could be verified."""
        return bool(self.jwt_secrets or self.jwt_jwks_url)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """The settings that `environ` holds; an empty variable counts as one that is not set.

        Raises:
            ConfigurationError: a required variable is missing, or one does not say what it must.
        """
        table = environ.get("CONNECTIONS_TABLE", "").strip()
        if not table:
            raise ConfigurationError(
                "CONNECTIONS_TABLE", "must name the DynamoDB table of connections", "peal-dev-connections"
            )
        queue = environ.get("JOBS_QUEUE", "").strip()
        if not queue:
            raise ConfigurationError("JOBS_QUEUE", "must name the SQS queue of jobs", "peal-dev-jobs")
        return cls(
            connections_table=table,
            jobs_queue=queue,
            max_channels=_count(environ, "MAX_CHANNELS", DEFAULT_MAX_CHANNELS, MAX_MAX_CHANNELS),
            connection_ttl_seconds=_count(environ, "CONNECTION_TTL_SECONDS", DEFAULT_TTL_SECONDS, MAX_TTL_SECONDS),
            fanout_size=_count(environ, "FANOUT_SIZE", DEFAULT_FANOUT_SIZE, MAX_FANOUT_SIZE),
            management_endpoint=_endpoint(environ),
            management_client=_choice(environ, "MANAGEMENT_CLIENT", get_args(ClientKind), cls.management_client),
            table_client=_choice(environ, "TABLE_CLIENT", get_args(ClientKind), cls.table_client),
            allow_anonymous=_flag(environ, "ALLOW_ANONYMOUS"),
            anonymous_grants=_grants(environ),
            allow_late_authentication=_flag(environ, "ALLOW_LATE_AUTHENTICATION"),
            jwt_secrets=_jwt_secrets(environ),
            jwt_jwks_url=_jwks_url(environ),
            jwt_audience=environ.get("JWT_AUDIENCE", "").strip() or None,
            jwt_issuer=environ.get("JWT_ISSUER", "").strip() or None,
            ticket_ttl_seconds=_count(
                environ, "TICKET_TTL_SECONDS", DEFAULT_TICKET_TTL_SECONDS, MAX_TICKET_TTL_SECONDS
            ),
            allowed_origins=_origins(environ),
            rate_limit=_rate_limit(environ),
            stage=_stage(environ),
            log_format=_choice(environ, "LOG_FORMAT", get_args(LogFormat), cls.log_format),
            log_level=_choice(environ, "LOG_LEVEL", get_args(LogLevel), cls.log_level),
        )


def split_secrets(text: str) -> tuple[str, ...]:
    """The comma-separated secrets of JWT_SECRETS, oldest to newest.

    Raises:
        ConfigurationError: there is none, or one is so short that it could be guessed.
    """
    secrets = tuple(secret.strip() for secret in text.split(","))
    if any(len(secret.encode()) < MIN_SECRET_BYTES for secret in secrets):
        raise ConfigurationError(
            "JWT_SECRETS",
            f"must be secrets of at least {MIN_SECRET_BYTES} bytes, oldest to newest, or say where they are kept",
            "ssm:/peal/dev/jwt-secrets",
        )
    return secrets


def _count(environ: Mapping[str, str], variable: str, default: int, highest: int) -> int:
    text = environ.get(variable, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= highest):
        raise ConfigurationError(variable, f"must be a whole number from 1 to {highest}", str(default))
    return int(text)


def _jwt_secrets(environ: Mapping[str, str]) -> str | None:
    text = environ.get("JWT_SECRETS", "").strip()
    if text and not is_reference(text):
        split_secrets(text)
    return text or None


def _jwks_url(environ: Mapping[str, str]) -> str | None:
    url = environ.get("JWT_JWKS_URL", "").strip()
    if url and not (_HTTP_URL.fullmatch(url) and (url.startswith("https://") or _LOOPBACK_URL.fullmatch(url))):
        raise ConfigurationError(
            "JWT_JWKS_URL",
            "must be the https URL of a JSON Web Key Set",
            "https://login.example.com/.well-known/jwks.json",
        )
    return url or None


def _grants(environ: Mapping[str, str]) -> Grants:
    text = environ.get("ANONYMOUS_GRANTS", "").strip()
    if text in ("", "nothing", "everything"):
        return EVERYTHING if text == "everything" else NOTHING
    try:
        return parse_grants(json.loads(text))
    except (ValueError, AttributeError, Invalid) as error:
        detail = f" ({str(error).rstrip('.')})" if isinstance(error, Invalid) else ""
        raise ConfigurationError(
            "ANONYMOUS_GRANTS",
            f"must be everything, nothing or a JSON object of grants{detail}",
            '{"channels":{"feed:*":["subscribe"]}}',
        ) from error


def _rate_limit(environ: Mapping[str, str]) -> RateLimit | None:
    text = environ.get("RATE_LIMIT", "").strip()
    if not text:
        return None
    found = _RATE.fullmatch(text)
    limit = RateLimit(float(found[1]), int(found[2])) if found else RateLimit(0, 0)
    if not (0.01 <= limit.per_second <= 1_000 and 1 <= limit.burst <= 10_000):
        raise ConfigurationError(
            "RATE_LIMIT", "must be frames a second (0.01 to 1000) and frames at once (1 to 10000), with a comma", "5,20"
        )
    return limit


def _origins(environ: Mapping[str, str]) -> frozenset[str]:
    origins = frozenset(filter(None, (origin.strip() for origin in environ.get("ALLOWED_ORIGINS", "").split(","))))
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ConfigurationError(
            "ALLOWED_ORIGINS",
            "must be origins as browsers send them, scheme://host or scheme://host:port in lower case, with commas",
            "https://app.example.com,http://localhost:3000",
        )
    return origins


def _endpoint(environ: Mapping[str, str]) -> str | None:
    text = environ.get("APIGW_MANAGEMENT_ENDPOINT", "").strip().rstrip("/")
    if not text:
        return None
    if not _HTTP_URL.fullmatch(text):
        raise ConfigurationError(
            "APIGW_MANAGEMENT_ENDPOINT",
            "must be the http(s) URL of the API's stage, not the wss:// URL that clients dial",
            "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api",
        )
    return text


def _flag(environ: Mapping[str, str], variable: str) -> bool:
    text = environ.get(variable, "").strip().lower()
    if text not in ("", "true", "false"):
        raise ConfigurationError(variable, "must be true or false", "true")
    return text == "true"


def _stage(environ: Mapping[str, str]) -> str:
    text = environ.get("STAGE", "").strip() or Settings.stage
    if not _STAGE.fullmatch(text):
        raise ConfigurationError("STAGE", "must be 1 to 64 characters of A-Z a-z 0-9 _ -", "dev")
    return text


def _choice(environ: Mapping[str, str], variable: str, choices: tuple[_Choice, ...], default: _Choice) -> _Choice:
    text = environ.get(variable, "").strip() or default
    for choice in choices:
        if choice.lower() == text.lower():
            return choice
    raise ConfigurationError(variable, f"must be one of {', '.join(choices)}", default)


def is_reference(value: str) -> bool:
    """Whether a variable's value says where the secret is kept, and is not the secret."""
    return value.startswith((SSM, SECRETS_MANAGER))
