"""What the environment says, read and validated once, when the Lambda starts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from chalicelib.errors import ConfigurationError

# API Gateway holds no socket longer than two hours; ten minutes more cover clocks and a slow $disconnect.
DEFAULT_TTL_SECONDS = 7_800
MAX_TTL_SECONDS = 7 * 24 * 3_600
DEFAULT_MAX_CHANNELS = 100
# A connection's row names them all, and every write of it costs by its size.
MAX_MAX_CHANNELS = 1_000
_HTTP_URL = re.compile(r"https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?(/[A-Za-z0-9._~$@/-]*)?")


@dataclass(frozen=True)
class Settings:
    """The app's settings.

    Attributes:
        connections_table: name of the DynamoDB table (CONNECTIONS_TABLE, required).
        jobs_queue: name of the SQS queue of jobs (JOBS_QUEUE, required).
        max_channels: how many channels one connection may subscribe to (MAX_CHANNELS).
        connection_ttl_seconds: how long after connecting a row may live (CONNECTION_TTL_SECONDS).
        management_endpoint: where to POST to connections, instead of what $connect taught
            (APIGW_MANAGEMENT_ENDPOINT), without a trailing slash.
        allow_anonymous: whether someone who has not signed in may connect (ALLOW_ANONYMOUS).
    """

    connections_table: str
    jobs_queue: str = ""
    max_channels: int = DEFAULT_MAX_CHANNELS
    connection_ttl_seconds: int = DEFAULT_TTL_SECONDS
    management_endpoint: str | None = None
    allow_anonymous: bool = False

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
            management_endpoint=_endpoint(environ),
            allow_anonymous=_flag(environ, "ALLOW_ANONYMOUS"),
        )


def _count(environ: Mapping[str, str], variable: str, default: int, highest: int) -> int:
    text = environ.get(variable, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= highest):
        raise ConfigurationError(variable, f"must be a whole number from 1 to {highest}", str(default))
    return int(text)


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
