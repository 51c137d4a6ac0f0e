"""Settings that are secret: a variable may say where its value is kept instead of the value.

    JWT_SECRETS=ssm:/peal/dev/jwt-secrets          a parameter of Systems Manager
    JWT_SECRETS=secretsmanager:peal/dev/jwt        a secret of Secrets Manager

Invariant: a value is fetched at first use and kept for minutes, so that it can be replaced without a deployment;
it reaches no log and no error.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.session import Session, boto3_client
from chalicelib.errors import SecretError
from chalicelib.settings import SSM as _SSM
from chalicelib.settings import is_reference

REFRESH_AFTER_SECONDS: Final = 300
# Two tries of at most 1 s + 3 s: the handshake that waits for it still answers in time.
_CONFIG: Final = {"connect_timeout": 1, "read_timeout": 3, "retries": {"mode": "standard", "total_max_attempts": 2}}

log = logging.getLogger(__name__)


class Secrets:
    """The secrets that variables hold or refer to; `clock` gives epoch seconds."""

    def __init__(self, session: Session, clock: Callable[[], float]) -> None:
        self._session = session
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, str]] = {}

    def read(self, variable: str, value: str) -> str:
        """The secret that the variable's value is or refers to.

        A secret that cannot be fetched again stays what it was.

        Raises:
            SecretError: it was never fetched and cannot be now.
        """
        if not is_reference(value):
            return value
        with self._lock:
            fetched_at, secret = self._kept.get(value, (float("-inf"), ""))
            if self._clock() - fetched_at < REFRESH_AFTER_SECONDS:
                return secret
            try:
                secret = self._fetch(variable, value)
            except SecretError as error:
                if value not in self._kept:
                    raise
                log.warning("%s; the last value stays in force", error)
            self._kept[value] = self._clock(), secret
            return secret

    def _fetch(self, variable: str, reference: str) -> str:
        service, _, name = reference.partition(":")
        try:
            client: Any = boto3_client(self._session, service, _CONFIG)
            if reference.startswith(_SSM):
                answer = client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
            else:
                answer = client.get_secret_value(SecretId=name)["SecretString"]
            client.close()
        except ClientError as error:
            raise SecretError(variable, service, error.response["Error"].get("Code", "unknown")) from error
        except (BotoCoreError, KeyError) as error:
            raise SecretError(variable, service, type(error).__name__) from error
        return str(answer)
