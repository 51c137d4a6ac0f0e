"""Read and validate the environment variables, once, when the Lambda starts."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Self, TypeVar, get_args

from chalicelib.errors import ConfigurationError, Invalid
from chalicelib.protocol.grants import EVERYTHING, NOTHING, Grants, parse_grants

MAX_TTL_SECONDS: Final = 7 * 24 * 3_600
# A connection's row names all its channels, and each write of the row costs by its size.
MAX_MAX_CHANNELS: Final = 1_000
MAX_TICKET_TTL_SECONDS: Final = 3_600
# RFC 7518, section 3.2: a key for HS256 has at least as many bits as the hash.
MIN_SECRET_BYTES: Final = 32
# What one Lambda of 1,024 MB sends in a second.
DEFAULT_FANOUT_SIZE: Final = 5_000
MAX_FANOUT_SIZE: Final = 100_000
SSM, SECRETS_MANAGER = "ssm:", "secretsmanager:"
LogFormat = Literal["json", "text"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
ClientKind = Literal["lean", "boto3"]
_Choice = TypeVar("_Choice", LogFormat, LogLevel, ClientKind)
_HOST: Final = r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)"
_LOOPBACK: Final = r"(127\.0\.0\.1|localhost|\[::1\])"
_PORT_AND_PATH: Final = r"(:\d{1,5})?(/[A-Za-z0-9._~$@/-]*)?"
_HTTP_URL: Final = re.compile(rf"https?://{_HOST}{_PORT_AND_PATH}")
_JWKS_URL: Final = re.compile(rf"https://{_HOST}{_PORT_AND_PATH}|http://{_LOOPBACK}{_PORT_AND_PATH}")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:\d{1,5})?")
_RATE: Final = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)\s*,\s*(\d{1,5})", re.ASCII)
_STAGE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class RateLimit:
    """How fast a connection may send: `per_second` frames on average, `burst` of them at once."""

    per_second: float
    burst: int

    @property
    def interval_us(self) -> int:
        """Return the microseconds between two frames that are sent evenly."""
        return int(1_000_000 / self.per_second)


@dataclass(frozen=True)
class Settings:
    """The app's settings; docs/SETTINGS.md explains each.

    Attributes:
        connections_table, jobs_queue: names of the DynamoDB table and of the SQS queue (both required).
        max_channels: how many channels a connection may subscribe to.
        connection_ttl_seconds: how long a row lives: API Gateway's two hours, and ten minutes for a late $disconnect.
        fanout_size: how many receivers one invocation sends to; a larger audience is split into jobs.
        management_endpoint: the URL of @connections (APIGW_MANAGEMENT_ENDPOINT); None: as learnt from $connect.
        management_client, table_client: what sends to connections, and what talks to DynamoDB.
        allow_anonymous, anonymous_grants: whether clients may connect without signing in, and what they may do then.
        allow_late_authentication: whether a client may connect first and then send `authenticate`.
        jwt_secrets: the secrets that sign HS256 tokens (see `split_secrets`), or where they are kept (see `secrets`).
        jwt_jwks_url: where the public keys for RS256 and ES256 are.
        jwt_audience, jwt_issuer: the `aud` and `iss` that tokens must have.
        ticket_ttl_seconds: how long a ticket can be used.
        allowed_origins: the origins whose pages may connect; empty: any.
        rate_limit: how fast a connection may send; None: as fast as it can.
        stage: the Chalice stage; the dimension of every metric.
        log_format, log_level: the format of log lines, and the lowest level that is logged.
    """

    connections_table: str
    jobs_queue: str = ""
    max_channels: int = 100
    connection_ttl_seconds: int = 7_800
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
    ticket_ttl_seconds: int = 60
    allowed_origins: frozenset[str] = frozenset()
    rate_limit: RateLimit | None = None
    stage: str = "local"
    log_format: LogFormat = "json"
    log_level: LogLevel = "INFO"

    @property
    def has_keys(self) -> bool:
        """Return whether any token can be verified."""
        return bool(self.jwt_secrets or self.jwt_jwks_url)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from `environ`; an empty variable counts as unset. Raises ConfigurationError."""
        return cls(
            connections_table=_name(
                environ, "CONNECTIONS_TABLE", "DynamoDB table of connections", "peal-dev-connections"
            ),
            jobs_queue=_name(environ, "JOBS_QUEUE", "SQS queue of jobs", "peal-dev-jobs"),
            max_channels=_count(environ, "MAX_CHANNELS", cls.max_channels, MAX_MAX_CHANNELS),
            connection_ttl_seconds=_count(
                environ, "CONNECTION_TTL_SECONDS", cls.connection_ttl_seconds, MAX_TTL_SECONDS
            ),
            fanout_size=_count(environ, "FANOUT_SIZE", DEFAULT_FANOUT_SIZE, MAX_FANOUT_SIZE),
            management_endpoint=_endpoint(environ),
            management_client=_choice(environ, "MANAGEMENT_CLIENT", get_args(ClientKind), cls.management_client),
            table_client=_choice(environ, "TABLE_CLIENT", get_args(ClientKind), cls.table_client),
            allow_anonymous=_flag(environ, "ALLOW_ANONYMOUS"),
            anonymous_grants=_grants(environ),
            allow_late_authentication=_flag(environ, "ALLOW_LATE_AUTHENTICATION"),
            jwt_secrets=_jwt_secrets(environ),
            jwt_jwks_url=_jwks_url(environ),
            jwt_audience=_text(environ, "JWT_AUDIENCE") or None,
            jwt_issuer=_text(environ, "JWT_ISSUER") or None,
            ticket_ttl_seconds=_count(environ, "TICKET_TTL_SECONDS", cls.ticket_ttl_seconds, MAX_TICKET_TTL_SECONDS),
            allowed_origins=_origins(environ),
            rate_limit=_rate_limit(environ),
            stage=_stage(environ),
            log_format=_choice(environ, "LOG_FORMAT", get_args(LogFormat), cls.log_format),
            log_level=_choice(environ, "LOG_LEVEL", get_args(LogLevel), cls.log_level),
        )


def split_secrets(text: str) -> tuple[str, ...]:
    """Return the comma-separated secrets of JWT_SECRETS, oldest to newest.

    Raises ConfigurationError if one is empty or short enough to be guessed.
    """
    secrets = tuple(secret.strip() for secret in text.split(","))
    if any(len(secret.encode()) < MIN_SECRET_BYTES for secret in secrets):
        problem = f"must be secrets of at least {MIN_SECRET_BYTES} bytes, oldest to newest, or say where they are kept"
        raise ConfigurationError("JWT_SECRETS", problem, "ssm:/peal/dev/jwt-secrets")
    return secrets


def is_reference(value: str) -> bool:
    """Return whether a variable's value says where the secret is kept, and is not the secret itself."""
    return value.startswith((SSM, SECRETS_MANAGER))


def _text(environ: Mapping[str, str], variable: str) -> str:
    return environ.get(variable, "").strip()


def _name(environ: Mapping[str, str], variable: str, what: str, example: str) -> str:
    name = _text(environ, variable)
    if not name:
        raise ConfigurationError(variable, f"must name the {what}", example)
    return name


def _count(environ: Mapping[str, str], variable: str, default: int, highest: int) -> int:
    text = _text(environ, variable)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= highest):
        raise ConfigurationError(variable, f"must be a whole number from 1 to {highest}", str(default))
    return int(text)


def _flag(environ: Mapping[str, str], variable: str) -> bool:
    text = _text(environ, variable).lower()
    if text not in ("", "true", "false"):
        raise ConfigurationError(variable, "must be true or false", "true")
    return text == "true"


def _choice(environ: Mapping[str, str], variable: str, choices: tuple[_Choice, ...], default: _Choice) -> _Choice:
    text = _text(environ, variable) or default
    for choice in choices:
        if choice.lower() == text.lower():
            return choice
    raise ConfigurationError(variable, f"must be one of {', '.join(choices)}", default)


def _stage(environ: Mapping[str, str]) -> str:
    text = _text(environ, "STAGE") or Settings.stage
    if not _STAGE.fullmatch(text):
        raise ConfigurationError("STAGE", "must be 1 to 64 characters of A-Z a-z 0-9 _ -", "dev")
    return text


def _jwt_secrets(environ: Mapping[str, str]) -> str | None:
    text = _text(environ, "JWT_SECRETS")
    if text and not is_reference(text):
        split_secrets(text)
    return text or None


def _jwks_url(environ: Mapping[str, str]) -> str | None:
    url = _text(environ, "JWT_JWKS_URL")
    if url and not _JWKS_URL.fullmatch(url):
        example = "https://login.example.com/.well-known/jwks.json"
        raise ConfigurationError("JWT_JWKS_URL", "must be the https URL of a JSON Web Key Set", example)
    return url or None


def _grants(environ: Mapping[str, str]) -> Grants:
    text = _text(environ, "ANONYMOUS_GRANTS")
    if text in ("", "nothing", "everything"):
        return EVERYTHING if text == "everything" else NOTHING
    try:
        return parse_grants(json.loads(text))
    except (ValueError, AttributeError, Invalid) as error:
        detail = f" ({str(error).rstrip('.')})" if isinstance(error, Invalid) else ""
        problem = f"must be everything, nothing or a JSON object of grants{detail}"
        raise ConfigurationError("ANONYMOUS_GRANTS", problem, '{"channels":{"feed:*":["subscribe"]}}') from error


def _rate_limit(environ: Mapping[str, str]) -> RateLimit | None:
    text = _text(environ, "RATE_LIMIT")
    if not text:
        return None
    found = _RATE.fullmatch(text)
    limit = RateLimit(float(found[1]), int(found[2])) if found else RateLimit(0, 0)
    if not (0.01 <= limit.per_second <= 1_000 and 1 <= limit.burst <= 10_000):
        problem = "must be frames a second (0.01 to 1000) and frames at once (1 to 10000), with a comma"
        raise ConfigurationError("RATE_LIMIT", problem, "5,20")
    return limit


def _origins(environ: Mapping[str, str]) -> frozenset[str]:
    origins = frozenset(filter(None, (origin.strip() for origin in _text(environ, "ALLOWED_ORIGINS").split(","))))
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        problem = (
            "must be origins as browsers send them, scheme://host or scheme://host:port in lower case, with commas"
        )
        raise ConfigurationError("ALLOWED_ORIGINS", problem, "https://app.example.com,http://localhost:3000")
    return origins


def _endpoint(environ: Mapping[str, str]) -> str | None:
    text = _text(environ, "APIGW_MANAGEMENT_ENDPOINT").rstrip("/")
    if text and not _HTTP_URL.fullmatch(text):
        problem = "must be the http(s) URL of the API's stage, not the wss:// URL that clients dial"
        example = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api"
        raise ConfigurationError("APIGW_MANAGEMENT_ENDPOINT", problem, example)
    return text or None
