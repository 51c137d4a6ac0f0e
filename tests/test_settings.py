"""The environment at the border: every message names the variable and gives an example."""

import pytest

from chalicelib.errors import ConfigurationError
from chalicelib.protocol.grants import EVERYTHING, NOTHING, Grants, Rights
from chalicelib.settings import RateLimit, Settings, split_secrets

REQUIRED = {"CONNECTIONS_TABLE": "peal-dev-connections", "JOBS_QUEUE": "peal-dev-jobs"}


def read(**variables: str) -> Settings:
    return Settings.from_env(REQUIRED | variables)


def test_only_the_table_and_the_queue_are_required() -> None:
    assert read() == Settings("peal-dev-connections", "peal-dev-jobs")


@pytest.mark.parametrize(
    ("variable", "what"), [("CONNECTIONS_TABLE", "DynamoDB table of connections"), ("JOBS_QUEUE", "SQS queue of jobs")]
)
@pytest.mark.parametrize("text", [None, "", "  "])
def test_a_missing_variable_is_named(variable: str, what: str, text: str | None) -> None:
    environ = {name: value for name, value in REQUIRED.items() if name != variable}
    with pytest.raises(ConfigurationError) as missing:
        Settings.from_env(environ if text is None else environ | {variable: text})
    assert str(missing.value) == f"{variable} must name the {what}, for example {variable}={REQUIRED[variable]}"


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("1000", 1_000), ("", 100)])
def test_the_number_of_channels_is_read(text: str, count: int) -> None:
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


def test_the_endpoint_loses_its_trailing_slash() -> None:
    assert read(APIGW_MANAGEMENT_ENDPOINT="http://127.0.0.1:8001/api/").management_endpoint == (
        "http://127.0.0.1:8001/api"
    )


@pytest.mark.parametrize(
    "url", ["wss://x/api", "x.execute-api.amazonaws.com/api", "https://", "https://x/api?a=1", "http://["]
)
def test_an_endpoint_that_is_not_an_http_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="^APIGW_MANAGEMENT_ENDPOINT must be the http") as wrong:
        read(APIGW_MANAGEMENT_ENDPOINT=url)
    assert "not the wss:// URL that clients dial" in str(wrong.value)


@pytest.mark.parametrize(("text", "allowed"), [("true", True), ("True", True), ("false", False), ("", False)])
def test_anonymous_use_is_off_by_default(text: str, allowed: bool) -> None:
    assert read(ALLOW_ANONYMOUS=text).allow_anonymous is allowed


def test_sign_in_is_off_by_default() -> None:
    settings = read()
    assert not settings.has_keys
    assert (settings.jwt_audience, settings.jwt_issuer, settings.allowed_origins) == (None, None, frozenset())
    assert (settings.allow_late_authentication, settings.ticket_ttl_seconds) == (False, 60)


@pytest.mark.parametrize("text", ["x" * 32, f"{'x' * 32}, {'y' * 40}", "ssm:/peal/dev/jwt", "secretsmanager:peal/jwt"])
def test_secrets_are_long_or_references_and_never_shown(text: str) -> None:
    settings = read(JWT_SECRETS=text)
    assert settings.has_keys
    assert settings.jwt_secrets == text
    assert text not in repr(settings)


def test_secrets_are_oldest_to_newest() -> None:
    assert split_secrets(f" {'x' * 32} ,{'y' * 32}") == ("x" * 32, "y" * 32)


@pytest.mark.parametrize("text", ["s3cret", f"{'x' * 32},s3cret", f"{'x' * 32},", "é" * 15])
def test_a_short_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(JWT_SECRETS=text)
    assert str(refused.value) == (
        "JWT_SECRETS must be secrets of at least 32 bytes, oldest to newest, or say where they are kept, "
        "for example JWT_SECRETS=ssm:/peal/dev/jwt-secrets"
    )


@pytest.mark.parametrize(
    "url", ["https://login.example.com/.well-known/jwks.json", "http://127.0.0.1:9/jwks", "http://localhost/jwks"]
)
def test_keys_come_over_https_or_from_this_machine(url: str) -> None:
    assert read(JWT_JWKS_URL=url).jwt_jwks_url == url
    assert read(JWT_JWKS_URL=url).has_keys


@pytest.mark.parametrize("url", ["http://login.example.com/jwks", "http://127.0.0.1.evil.example/", "file:///etc", "x"])
def test_keys_from_anywhere_else_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(JWT_JWKS_URL=url)
    assert str(refused.value) == (
        "JWT_JWKS_URL must be the https URL of a JSON Web Key Set, "
        "for example JWT_JWKS_URL=https://login.example.com/.well-known/jwks.json"
    )


def test_origins_are_listed_as_browsers_send_them() -> None:
    assert read(ALLOWED_ORIGINS="https://a.example, http://localhost:3000,").allowed_origins == {
        "https://a.example",
        "http://localhost:3000",
    }


@pytest.mark.parametrize("text", ["a.example", "https://a.example/", "https://A.example", "*", "https://*.a.example"])
def test_an_origin_that_no_browser_sends_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(ALLOWED_ORIGINS=text)
    assert str(refused.value) == (
        "ALLOWED_ORIGINS must be origins as browsers send them, scheme://host or scheme://host:port in lower case, "
        "with commas, for example ALLOWED_ORIGINS=https://app.example.com,http://localhost:3000"
    )


@pytest.mark.parametrize(
    ("text", "grants"),
    [
        ("", NOTHING),
        ("nothing", NOTHING),
        ("everything", EVERYTHING),
        ('{"users":["*"]}', Grants(Rights(users=frozenset({"*"})))),
    ],
)
def test_anonymous_grants_are_a_word_or_an_object(text: str, grants: Grants) -> None:
    assert read(ANONYMOUS_GRANTS=text).anonymous_grants == grants


@pytest.mark.parametrize(
    ("text", "detail"),
    [("all", ""), ("[]", ""), ("{", ""), ('{"users":"*"}', " (users must be an array of patterns)")],
)
def test_malformed_grants_are_refused(text: str, detail: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(ANONYMOUS_GRANTS=text)
    assert str(refused.value) == (
        f"ANONYMOUS_GRANTS must be everything, nothing or a JSON object of grants{detail}, "
        'for example ANONYMOUS_GRANTS={"channels":{"feed:*":["subscribe"]}}'
    )


@pytest.mark.parametrize(
    ("text", "limit"),
    [("", None), ("5,20", RateLimit(5, 20)), (" 0.5 , 1 ", RateLimit(0.5, 1)), ("1000,10000", RateLimit(1000, 10000))],
)
def test_a_rate_limit_is_a_rate_and_a_burst(text: str, limit: RateLimit | None) -> None:
    assert read(RATE_LIMIT=text).rate_limit == limit


@pytest.mark.parametrize("text", ["5", "5,", "0,1", "5,0", "-1,5", "1001,5", "5,10001", "fast", "0.001,1", "٣,٣"])
def test_any_other_rate_limit_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        read(RATE_LIMIT=text)
    assert str(wrong.value) == (
        "RATE_LIMIT must be frames a second (0.01 to 1000) and frames at once (1 to 10000), with a comma, "
        "for example RATE_LIMIT=5,20"
    )


def test_a_ticket_lives_for_an_hour_at_most() -> None:
    assert read(TICKET_TTL_SECONDS="3600").ticket_ttl_seconds == 3_600
    with pytest.raises(ConfigurationError, match="^TICKET_TTL_SECONDS must be a whole number from 1 to 3600,"):
        read(TICKET_TTL_SECONDS="3601")


def test_a_flag_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="^ALLOW_ANONYMOUS must be true or false, for example ALLOW_ANON"):
        read(ALLOW_ANONYMOUS="yes")


def test_the_management_client_is_ours_unless_it_is_boto3() -> None:
    assert read().management_client == "lean"
    assert read(MANAGEMENT_CLIENT="boto3").management_client == "boto3"


def test_the_dynamodb_client_is_ours_unless_it_is_boto3() -> None:
    assert read().table_client == "lean"
    assert read(TABLE_CLIENT="boto3").table_client == "boto3"


def test_the_stage_log_format_and_log_level_are_read() -> None:
    settings = read(STAGE="dev", LOG_FORMAT="Text", LOG_LEVEL=" debug ")
    assert (settings.stage, settings.log_format, settings.log_level) == ("dev", "text", "DEBUG")


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        (
            "MANAGEMENT_CLIENT",
            "curl",
            "MANAGEMENT_CLIENT must be one of lean, boto3, for example MANAGEMENT_CLIENT=lean",
        ),
        ("STAGE", "a b", "STAGE must be 1 to 64 characters of A-Z a-z 0-9 _ -, for example STAGE=dev"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT must be one of json, text, for example LOG_FORMAT=json"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, for example LOG_LEVEL=INFO"),
    ],
)
def test_any_other_choice_is_refused(variable: str, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        read(**{variable: text})
    assert str(wrong.value) == message
