"""The environment at the border: every message names the variable and gives an example."""

import pytest

from chalicelib.errors import ConfigurationError
from chalicelib.settings import Settings


def test_only_the_table_is_required() -> None:
    settings = Settings.from_env({"CONNECTIONS_TABLE": "peal-dev-connections"})
    assert settings == Settings("peal-dev-connections", 7_800, None, False)


@pytest.mark.parametrize("environ", [{}, {"CONNECTIONS_TABLE": ""}, {"CONNECTIONS_TABLE": "  "}])
def test_a_missing_table_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as missing:
        Settings.from_env(environ)
    assert str(missing.value) == (
        "CONNECTIONS_TABLE must name the DynamoDB table of connections, "
        "for example CONNECTIONS_TABLE=peal-dev-connections"
    )


def read(**variables: str) -> Settings:
    return Settings.from_env({"CONNECTIONS_TABLE": "t", **variables})


@pytest.mark.parametrize(("text", "seconds"), [("60", 60), (" 604800 ", 604_800), ("", 7_800)])
def test_the_time_to_live_is_whole_seconds(text: str, seconds: int) -> None:
    assert read(CONNECTION_TTL_SECONDS=text).connection_ttl_seconds == seconds


@pytest.mark.parametrize("text", ["0", "-1", "2h", "1.5", "604801", "9" * 20, "٣"])
def test_any_other_time_to_live_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        read(CONNECTION_TTL_SECONDS=text)
    assert str(wrong.value) == (
        "CONNECTION_TTL_SECONDS must be a whole number of seconds from 1 to 604800, "
        "for example CONNECTION_TTL_SECONDS=7800"
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
