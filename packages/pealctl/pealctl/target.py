"""Where a stage is: the local one by default, one on AWS by what is deployed there, any other by its URL."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pealctl.deploy.stage import LOCAL, Stage, read_stage
from pealctl.errors import CommandError

# Where `make dev` serves by default.
LOCAL_URL: Final = "http://127.0.0.1:8000"
LOCAL_SOCKET_URL: Final = "ws://127.0.0.1:8001/api"
_AWS_HOST: Final = re.compile(r"[a-z0-9-]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")


@dataclass(frozen=True)
class Signer:
    """What requests to AWS are signed with.

    Attributes:
        credentials: botocore's, which renew themselves.
        region: the Region that the signature is for.
    """

    credentials: Any
    region: str


class Target:
    """One stage.

    Args:
        name: what people call it.
        url: of its REST API.
        find_socket_url: returns where clients connect; called only when that is needed.
        signer: None where requests need no signature.
    """

    def __init__(self, name: str, url: str, find_socket_url: Callable[[], str], signer: Signer | None) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.signer = signer
        self._find_socket_url = find_socket_url

    @cached_property
    def socket_url(self) -> str:
        """Where clients connect. Raises CommandError if that is unknown."""
        return self._find_socket_url().rstrip("/")


def find(stage: str, url: str | None, socket_url: str | None, directory: Path) -> Target:
    """Find a stage.

    Args:
        stage: its name.
        url: of its REST API; if given, AWS is not asked for it.
        socket_url: where clients connect; if given, AWS is not asked for it.
        directory: the project's.

    Raises:
        CommandError: the stage is not deployed.
        BadProject: there is no such stage.
        NoAccess: AWS cannot be asked.
        ClientError, BotoCoreError: AWS refused, or did not answer.
    """
    if stage == LOCAL and (url is None or is_loopback(url)):
        return Target(stage, url or LOCAL_URL, lambda: socket_url or LOCAL_SOCKET_URL, None)
    # boto3 takes longer to import than the local stage takes to answer.
    from pealctl.deploy.aws import open_account

    if url is None:
        # Read first: a stage that does not exist needs no credentials.
        deployed = read_stage(directory, stage)
        return _deployed(open_account(), deployed, socket_url)
    aws = open_account()
    region = _AWS_HOST.fullmatch(urlsplit(url).hostname or "")
    signer = Signer(aws.credentials, region[1] if region else aws.region)
    return Target(url if stage == LOCAL else stage, url, lambda: socket_url or _unknown_socket(), signer)


def is_loopback(url: str) -> bool:
    """Return whether the URL is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _deployed(aws: Any, stage: Stage, socket_url: str | None) -> Target:
    from pealctl.deploy.apis import find_rest_api, find_websocket_api

    def found(api_id: str | None, scheme: str) -> str:
        if api_id is None:
            raise CommandError(
                f"Stage {stage.name} is not deployed to account {aws.account} in {aws.region}: "
                f"`make deploy STAGE={stage.name}`, "
                "or are these the wrong credentials or Region?"
            )
        return str(aws.url(scheme, api_id, stage.api_stage))

    return Target(
        stage.name,
        found(find_rest_api(aws, stage), "https"),
        lambda: socket_url or found(find_websocket_api(aws, stage), "wss"),
        Signer(aws.credentials, aws.region),
    )


def _unknown_socket() -> str:
    raise CommandError(
        "Where clients connect is not known: pass --socket-url wss://..., or name the --stage instead of its --url."
    )
