"""The environment at the border: every message names the variable and gives an example."""

import pytest

from chalicelib.errors import ConfigurationError
from chalicelib.settings import Settings

REQUIRED = {"CONNECTIONS_TABLE": "peal-dev-connections", "JOBS_QUEUE": "peal-dev-jobs"}


def read(**variables: str) -> Settings:
    return Settings.from_env(REQUIRED | variables)


def test_only_the_table_and_the_queue_are_required() -> None:
    assert read() == Settings("peal-dev-connections", "peal-dev-jobs")


@pytest.mark.parametrize(
    ("variable", "what"), [("CONNECTIONS_TABLE", "DynamoDB table of connections"), ("JOBS_QUEUE", "SQS queue of jobs")]
)
@pytest.mark.parametrize("text", [None, "", "  "])
def test_what_is_missing_is_named(variable: str, what: str, text: str | None) -> None:
    environ = {name: value for name, value in REQUIRED.items() if name != variable}
    with pytest.raises(ConfigurationError) as missing:
        Settings.from_env(environ if text is None else environ | {variable: text})
    assert str(missing.value) == f"{variable} must name the {what}, for example {variable}={REQUIRED[variable]}"


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("1000", 1_000), ("", 100)])
def test_how_many_channels_a_connection_may_have(text: str, count: int) -> None:
    assert read(MAX_CHANNELS=text).max_channels == count


@pytest.mark.parametrize("text", ["0", "1001", "many"])
def test_any_other_number_of_channels_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^MAX_CHANNELS must be a whole number from 1 to 1000, for example"):
        read(MAX_CHANNELS=text)


@pytest.mark.parametrize(("text", "seconds"), [("60", 60), (" 604800 ", 604_800), ("", 7_800)])
def test_the_time_to_live_is_whole_seconds(text: str, seconds: int) -> None:
    assert read(CONNECTION_TTL_SECONDS=text).connection_ttl_seconds == seconds


@pytest.mark.parametrize("text", ["0", "-1", "2h", "1.5", "604801", "9" * 20, "٣"])
def test_any_other_time_to_live_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        read(CONNECTION_TTL_SECONDS=text)
    assert str(wrong.value) == (
        "CONNECTION_TTL_SECONDS must be a whole number from 1 to 604800, for example CONNECTION_TTL_SECONDS=7800"
    )


def test_the_endpoint_is_taken_without_its_trailing_slash() -> None:
    assert read(APIGW_MANAGEMENT_ENDPOINT="http://127.0.0.1:8001/api/").management_endpoint == (
        "http://127.0.0.1:8001/api"
    )


@pytest.mark.parametrize(
    "url", ["wss://x/api", "x.execute-api.amazonaws.com/api", "https://", "https://x/api?a=1", "http://["]
)
def test_an_endpoint_that_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="^APIGW_MANAGEMENT_ENDPOINT must be the http") as wrong:
        read(APIGW_MANAGEMENT_ENDPOINT=url)
    assert "not the wss:// URL that clients dial" in str(wrong.value)


@pytest.mark.parametrize(("text", "allowed"), [("true", True), ("True", True), ("false", False), ("", False)])
def test_anonymous_use_is_off_unless_said(text: str, allowed: bool) -> None:
    assert read(ALLOW_ANONYMOUS=text).allow_anonymous is allowed


def test_a_flag_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="^ALLOW_ANONYMOUS must be true or false, for example ALLOW_ANON"):
        read(ALLOW_ANONYMOUS="yes")
