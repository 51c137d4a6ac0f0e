"""Secret settings: a variable may name the place where its value is kept, instead of the value.

    JWT_SECRETS=ssm:/peal/dev/jwt-secrets          a parameter of Systems Manager
    JWT_SECRETS=secretsmanager:peal/dev/jwt        a secret of Secrets Manager

Invariant: a value is fetched at first use and kept for minutes, so it can be replaced without a deployment; it reaches
no log and no error.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.session import Session, boto3_client
from chalicelib.errors import SecretError
from chalicelib.settings import SSM, is_reference

REFRESH_AFTER_SECONDS: Final = 300

log = logging.getLogger(__name__)


class Secrets:
    """Reads the secrets that variables hold or refer to; `clock` returns epoch seconds."""

    def __init__(self, session: Session, clock: Callable[[], float]) -> None:
        self._session = session
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, str]] = {}

    def read(self, variable: str, value: str) -> str:
        """Return the secret that the variable's value is or refers to.

        If a secret cannot be fetched again, its last value stays in force.

        Raises:
            SecretError: the secret was never fetched, and cannot be fetched now.
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
            # Two tries of at most 1 s + 3 s: a handshake that waits for the secret is still answered in time.
            client = boto3_client(self._session, service, tries=2)
            if reference.startswith(SSM):
                secret = client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
            else:
                secret = client.get_secret_value(SecretId=name)["SecretString"]
            client.close()
        except ClientError as error:
            raise SecretError(variable, service, error.response["Error"].get("Code", "unknown")) from error
        except (BotoCoreError, KeyError) as error:
            raise SecretError(variable, service, type(error).__name__) from error
        return str(secret)
