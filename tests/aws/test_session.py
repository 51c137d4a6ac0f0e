"""The environment counts as it does for boto3, which is asked only where the environment leaves something open."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore.exceptions import NoCredentialsError
from botocore.httpsession import get_cert_path

from chalicelib.aws import http
from chalicelib.aws.session import EnvironmentSession, boto3_client, credentials_of, find_endpoint, has_proxy

REQUIRED = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-west-1"}


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let boto3 find only these variables, and no file that they do not name."""

    def leave(**variables: str) -> None:
        for name in (*REQUIRED, "AWS_REGION", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, "/dev/null")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return leave


class TestTheEnvironment:
    @pytest.mark.parametrize(
        "variables", [REQUIRED, {**REQUIRED, "AWS_SESSION_TOKEN": "token"}, {**REQUIRED, "AWS_SESSION_TOKEN": ""}]
    )
    def test_it_says_what_boto3_would(self, variables: dict[str, str], only: Any) -> None:
        only(**variables)
        theirs = boto3.session.Session()
        ours = EnvironmentSession(variables)
        assert ours.region_name == theirs.region_name
        assert credentials_of(ours)()[:3] == credentials_of(theirs)()[:3]

    def test_it_is_read_anew_each_time(self) -> None:
        environ = {**REQUIRED}
        current = credentials_of(EnvironmentSession(environ))
        environ["AWS_ACCESS_KEY_ID"] = "B"
        assert current().access_key == "B"

    @pytest.mark.parametrize("missing", REQUIRED)
    def test_boto3_completes_it(self, missing: str, only: Any, monkeypatch: Any, tmp_path: Path) -> None:
        variables = {name: value for name, value in REQUIRED.items() if name != missing}
        only(**variables)
        (tmp_path / "config").write_text("[default]\nregion = eu-south-1\n")
        (tmp_path / "credentials").write_text("[default]\naws_access_key_id = F\naws_secret_access_key = file\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        if missing == "AWS_SECRET_ACCESS_KEY":
            # Half of a pair is an error to boto3.
            monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        ours = EnvironmentSession(variables)
        is_region = missing == "AWS_DEFAULT_REGION"
        assert ours.region_name == ("eu-south-1" if is_region else "eu-west-1")
        assert credentials_of(ours)().access_key == ("A" if is_region else "F")

    def test_the_older_name_of_the_token_is_left_to_boto3(self, only: Any) -> None:
        variables = {**REQUIRED, "AWS_SESSION_TOKEN": "new", "AWS_SECURITY_TOKEN": "old"}
        only(**variables)
        assert credentials_of(EnvironmentSession(variables))().token == "old"

    def test_without_credentials_nothing_is_signed(self, only: Any) -> None:
        only()
        with pytest.raises(NoCredentialsError):
            credentials_of(EnvironmentSession({}))()

    def test_other_clients_are_those_of_boto3(self, only: Any) -> None:
        only(**REQUIRED)
        ours = EnvironmentSession(REQUIRED)
        client = boto3_client(ours, "sqs", 1, connect_seconds=7, endpoint_url="http://127.0.0.1:9")
        assert (client.meta.config.connect_timeout, client.meta.endpoint_url) == (7, "http://127.0.0.1:9")
        assert boto3_client(ours, "sqs", tries=1).meta.region_name == "eu-west-1"


def test_a_proxy_is_found_where_boto3_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_proxy("https://dynamodb.eu-west-1.amazonaws.com")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert has_proxy("https://dynamodb.eu-west-1.amazonaws.com")
    monkeypatch.setenv("no_proxy", "amazonaws.com")
    assert not has_proxy("https://dynamodb.eu-west-1.amazonaws.com")


class TestEndpoints:
    @pytest.mark.parametrize("service", ["dynamodb", "sqs"])
    @pytest.mark.parametrize("region", ["eu-central-1", "us-east-1", "us-gov-west-1", "ap-southeast-5"])
    def test_it_is_the_one_that_boto3_finds(self, region: str, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(f"AWS_ENDPOINT_URL_{service.upper()}", raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
        client: Any = boto3.client(service, region_name=region)  # type: ignore[call-overload]
        assert find_endpoint({"AWS_CONFIG_FILE": "/nowhere"}, region, service) == client.meta.endpoint_url

    @pytest.mark.parametrize(
        ("environ", "endpoint"),
        [
            ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_SQS": "http://b"}, "http://b"),
            ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_DYNAMODB": "http://b"}, "http://a"),
            ({"AWS_ENDPOINT_URL": "http://a"}, "http://a"),
            ({"AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None),
            ({"AWS_ENDPOINT_URL": "http://a", "AWS_USE_FIPS_ENDPOINT": "true"}, None),
            ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, None),
            ({"AWS_ENDPOINT_URL": "http://a/"}, "http://a/"),
            ({"AWS_ENDPOINT_URL": "http://a/b"}, None),
            ({"AWS_ENDPOINT_URL": "localhost:8000"}, None),
            ({"AWS_CONFIG_FILE": "/dev/null"}, None),
        ],
    )
    def test_variables_count(self, environ: dict[str, str], endpoint: str | None) -> None:
        assert find_endpoint(environ, "eu-central-1", "sqs") == endpoint

    def test_each_service_has_its_variable(self) -> None:
        environ = {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_DYNAMODB": "http://b"}
        assert find_endpoint(environ, "eu-central-1", "dynamodb") == "http://b"

    @pytest.mark.parametrize("region", [None, "cn-north-1", "us-iso-east-1", "us-isob-east-1", "eusc-de-east-1"])
    def test_in_other_parts_of_aws_boto3_decides(self, region: str | None) -> None:
        assert find_endpoint({"AWS_CONFIG_FILE": "/nowhere"}, region, "dynamodb") is None


class TestTrust:
    def test_by_default_it_is_that_of_boto3(self) -> None:
        assert http._authorities() == get_cert_path(True)

    def test_with_certifi_it_is_that_as_for_boto3(self, monkeypatch: pytest.MonkeyPatch) -> None:
        certifi: Any = ModuleType("certifi")
        certifi.where = lambda: "/certifi.pem"
        monkeypatch.setitem(sys.modules, "certifi", certifi)
        assert http._authorities() == "/certifi.pem"

    def test_it_is_read_once(self) -> None:
        assert http.trust() is http.trust()


def test_boto3_is_not_imported_where_the_environment_suffices() -> None:
    code = """
import sys
from chalice.app import WebsocketAPI
from chalicelib.peal import build
from chalicelib.settings import Settings
build(Settings("t", "q", allow_anonymous=True), WebsocketAPI())
print(sorted({"boto3", "botocore.session", "urllib3"} & sys.modules.keys()))
"""
    environment = {**REQUIRED, "AWS_CONFIG_FILE": "/nowhere"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout == "[]\n"
