"""The account to deploy to, and where its APIs answer.

AWS_ENDPOINT_URL replaces AWS by an emulator, which must serve APIs below /_aws/execute-api, as MiniStack and LocalStack
do.
"""

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ProfileNotFound

from pealctl.errors import NoAccess


@dataclass(frozen=True)
class Aws:
    """One account in one Region.

    Attributes:
        session: holds the credentials.
        region: `eu-central-1`.
        account: its number.
        endpoint: the URL of an emulator of AWS, or None.
    """

    session: boto3.session.Session
    region: str
    account: str
    endpoint: str | None

    def client(self, service: str) -> Any:
        """Return a boto3 client of that service."""
        return self.session.client(service, region_name=self.region)

    @property
    def credentials(self) -> Any:
        """The credentials to sign requests with."""
        return self.session.get_credentials()

    def url(self, scheme: str, api_id: str, api_stage: str) -> str:
        """Return the URL of an API's stage; an emulator without TLS lowers `https` and `wss` to `http` and `ws`."""
        if self.endpoint:
            emulator = urlsplit(self.endpoint)
            plain = scheme.removesuffix("s") if emulator.scheme == "http" else scheme
            return f"{plain}://{emulator.netloc}/_aws/execute-api/{api_id}/{api_stage}"
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return f"{scheme}://{api_id}.execute-api.{self.region}.{suffix}/{api_stage}"


def open_account() -> Aws:
    """Open the account and Region that the environment and ~/.aws name, and have AWS confirm the credentials.

    Raises:
        NoAccess: there is no Region, or there are no credentials that AWS accepts.
    """
    try:
        session = boto3.session.Session()
    except ProfileNotFound as error:
        raise NoAccess(f"{error}: correct AWS_PROFILE, or make it with `aws configure --profile NAME`.") from None
    # boto3 looks at AWS_DEFAULT_REGION only, other SDKs at AWS_REGION.
    region = session.region_name or os.environ.get("AWS_REGION")
    if not region:
        raise NoAccess(
            "No AWS Region is set: export AWS_DEFAULT_REGION=eu-central-1, for example, or run `aws configure`."
        )
    try:
        account = session.client("sts", region_name=region).get_caller_identity()["Account"]
    except NoCredentialsError:
        raise NoAccess(
            "There are no AWS credentials: run `aws configure` or `aws sso login`, or export AWS_PROFILE."
        ) from None
    except ClientError as error:
        raise NoAccess(
            f"AWS does not accept these credentials ({error.response['Error']['Code']}): sign in again, with "
            "`aws sso login` for example."
        ) from None
    except BotoCoreError as error:
        raise NoAccess(f"AWS could not be asked who you are: {error}") from None
    return Aws(session, region, account, os.environ.get("AWS_ENDPOINT_URL"))
