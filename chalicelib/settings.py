"""What the environment says, read and validated once, when the Lambda starts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from chalicelib.errors import ConfigurationError

# API Gateway holds no socket longer than two hours; ten minutes more cover clocks and a slow $disconnect.
DEFAULT_TTL_SECONDS = 7_800
MAX_TTL_SECONDS = 7 * 24 * 3_600
_HTTP_URL = re.compile(r"https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?(/[A-Za-z0-9._~$@/-]*)?")


@dataclass(frozen=True)
class Settings:
    """The app's settings.

    Attributes:
        connections_table: name of the DynamoDB table (CONNECTIONS_TABLE, required).
        connection_ttl_seconds: how long after connecting a row may live (CONNECTION_TTL_SECONDS).
        management_endpoint: where to POST to connections, instead of what $connect taught
            (APIGW_MANAGEMENT_ENDPOINT), without a trailing slash.
        allow_anonymous: whether someone who has not signed in may connect (ALLOW_ANONYMOUS).
    """

    connections_table: str
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
        return cls(
            connections_table=table,
            connection_ttl_seconds=_ttl(environ),
            management_endpoint=_endpoint(environ),
            allow_anonymous=_flag(environ, "ALLOW_ANONYMOUS"),
        )


def _ttl(environ: Mapping[str, str]) -> int:
    text = environ.get("CONNECTION_TTL_SECONDS", "").strip()
    if not text:
        return DEFAULT_TTL_SECONDS
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_TTL_SECONDS and len(text) < 9):
        raise ConfigurationError(
            "CONNECTION_TTL_SECONDS",
            f"must be a whole number of seconds from 1 to {MAX_TTL_SECONDS}",
            str(DEFAULT_TTL_SECONDS),
        )
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
