"""Secret settings, against a real SSM and Secrets Manager over HTTP."""

import logging
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from chalicelib.aws.secrets import Secrets
from chalicelib.errors import SecretError
from localgateway.aws.engine import Engine
from tests.conftest import Clock


@pytest.fixture(scope="module")
def engine(aws: None) -> Iterator[str]:
    """The URL of an engine with SSM and Secrets Manager, which the one that all tests share does not serve."""
    engine = Engine(("ssm", "secretsmanager"))
    engine.start()
    yield engine.url
    engine.stop()


@pytest.fixture
def session(engine: str, monkeypatch: pytest.MonkeyPatch) -> boto3.session.Session:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", engine)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", engine)
    return boto3.session.Session()


@pytest.fixture
def secrets(session: boto3.session.Session, clock: Clock) -> Secrets:
    return Secrets(session, clock)


def keep(session: Any, reference: str, value: str) -> None:
    service, _, name = reference.partition(":")
    client = session.client(service)
    if service == "ssm":
        client.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
    else:
        try:
            client.create_secret(Name=name, SecretString=value)
        except client.exceptions.ResourceExistsException:
            client.put_secret_value(SecretId=name, SecretString=value)
    client.close()


REFERENCES = ["ssm:/peal/test/jwt-secrets", "secretsmanager:peal/test/jwt"]


def test_a_value_that_refers_to_nothing_is_the_secret(secrets: Secrets) -> None:
    assert secrets.read("JWT_SECRETS", "plain:text") == "plain:text"


@pytest.mark.slow
@pytest.mark.parametrize("reference", REFERENCES)
def test_a_reference_is_fetched_and_kept_for_five_minutes(
    session: Any, secrets: Secrets, clock: Clock, reference: str
) -> None:
    keep(session, reference, "first")
    assert secrets.read("JWT_SECRETS", reference) == "first"
    keep(session, reference, "second")
    clock.now += 299
    assert secrets.read("JWT_SECRETS", reference) == "first"
    clock.now += 1
    assert secrets.read("JWT_SECRETS", reference) == "second"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "service", "reason"),
    [
        ("ssm:/peal/test/nowhere", "ssm", "ParameterNotFound"),
        ("secretsmanager:peal/test/nowhere", "secretsmanager", "ResourceNotFoundException"),
        ("ssm:", "ssm", "ParamValidationError"),
    ],
)
def test_the_error_names_the_variable_and_not_the_value(
    secrets: Secrets, reference: str, service: str, reason: str
) -> None:
    with pytest.raises(SecretError) as failed:
        secrets.read("JWT_SECRETS", reference)
    assert str(failed.value) == f"The secret that JWT_SECRETS refers to cannot be read from {service}: {reason}"


@pytest.mark.slow
def test_a_secret_that_holds_bytes_is_refused(session: Any, secrets: Secrets) -> None:
    client = session.client("secretsmanager")
    client.create_secret(Name="peal/test/bytes", SecretBinary=b"x")
    client.close()
    with pytest.raises(SecretError, match="from secretsmanager: KeyError$"):
        secrets.read("JWT_SECRETS", "secretsmanager:peal/test/bytes")


@pytest.mark.slow
def test_the_last_value_stays_where_fetching_again_fails(
    session: Any, secrets: Secrets, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="chalicelib")
    reference = "ssm:/peal/test/short-lived"
    keep(session, reference, "s3cret")
    assert secrets.read("JWT_SECRETS", reference) == "s3cret"
    client = session.client("ssm")
    client.delete_parameter(Name="/peal/test/short-lived")
    client.close()
    clock.now += 300
    assert secrets.read("JWT_SECRETS", reference) == "s3cret"
    assert caplog.messages == [
        "The secret that JWT_SECRETS refers to cannot be read from ssm: ParameterNotFound; "
        "the last value stays in force"
    ]
