"""The three WebSocket routes: docs/PROTOCOL.md, "Connecting", and DESIGN's promises 1 and 2."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from chalice.app import LambdaFunctionEvent

from chalicelib import telemetry
from chalicelib.handlers import websocket
from chalicelib.peal import Peal, build
from chalicelib.settings import Settings
from tests.conftest import Clock
from tests.support import raw_events
from tests.support.fakes import FakeWebsocketApi, gone
from tests.support.lossy import LossyWay, lossy_way
from tests.support.signing import NEW, NOW, OLD, RSA, token

ID = "L0SM9cOFvHcCIhw="


@pytest.fixture
def rows_of_the_table(dynamodb: Any, table_name: str) -> Callable[[], list[dict[str, Any]]]:
    def scan() -> list[dict[str, Any]]:
        items = dynamodb.scan(TableName=table_name)["Items"]
        return [{name: next(iter(typed.values())) for name, typed in item.items()} for item in items]

    return scan


@pytest.fixture
def way(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[LossyWay]:
    with lossy_way(dynamodb.meta.endpoint_url, "PutItem") as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", way.url)
        yield way


class TestConnect:
    def test_one_row_holds_all_about_the_connection(self, peal: Peal, rows_of_the_table: Any) -> None:
        query = {"userId": "u_456", "deviceId": "phone", "attributes": '{"room": "a"}'}
        assert websocket.connect(peal, raw_events.connect(ID, query)) == {"statusCode": 200}
        (row,) = [row for row in rows_of_the_table() if row["SK"] == "CONN"]
        assert row == {
            "PK": f"CONN#{ID}",
            "SK": "CONN",
            "GSI1PK": "USER#u_456",
            "GSI1SK": f"CONN#{ID}",
            "connectionId": ID,
            "userId": "u_456",
            "deviceId": "phone",
            "connectedAt": "2026-11-23T09:30:00.125Z",
            "endpoint": "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api",
            "sourceIp": "192.0.2.7",
            "userAgent": "tests/1",
            "attributes": '{"room":"a"}',
            "ttl": str(1_795_426_200 + 7_800),
        }

    def test_the_endpoint_is_stored_once_for_other_lambdas(self, peal: Peal, rows_of_the_table: Any) -> None:
        websocket.connect(peal, raw_events.connect("a="))
        websocket.connect(peal, raw_events.connect("b="))
        (row,) = [row for row in rows_of_the_table() if row["PK"] == "ENDPOINT"]
        assert row == {
            "PK": "ENDPOINT",
            "SK": "ENDPOINT",
            "managementEndpoint": "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api",
        }

    def test_an_anonymous_connection_has_a_shared_index_partition(self, peal: Peal, rows_of_the_table: Any) -> None:
        websocket.connect(peal, raw_events.connect(ID))
        (row,) = [row for row in rows_of_the_table() if row["SK"] == "CONN"]
        assert row["GSI1PK"] in {f"ANON#{shard}" for shard in range(8)}
        assert not row.keys() & {"userId", "deviceId"}

    def test_the_time_to_live_is_a_setting(
        self, table_name: str, api: FakeWebsocketApi, session: boto3.session.Session, clock: Clock
    ) -> None:
        settings = Settings(table_name, connection_ttl_seconds=60, allow_anonymous=True)
        peal = build(settings, api, session, clock)
        websocket.connect(peal, raw_events.connect(ID))
        assert peal.connection(ID).ttl == 1_795_426_200 + 60

    def test_without_a_connection_time_in_the_event_it_is_now(self, peal: Peal) -> None:
        websocket.connect(peal, raw_events.connect(ID, connectedAt=None))
        assert peal.connection(ID).connected_at == "2026-11-23T09:30:10.000Z"

    def test_an_endless_user_agent_is_truncated(self, peal: Peal) -> None:
        websocket.connect(peal, raw_events.connect(ID, identity={"userAgent": "x" * 9_000}))
        assert peal.connection(ID).user_agent == "x" * 256


class TestSigningIn:
    @pytest.fixture
    def peal(self, table_name: str, api: FakeWebsocketApi, session: boto3.session.Session, clock: Clock) -> Peal:
        """A service that accepts clients with a credential, from one origin."""
        settings = Settings(table_name, jwt_secrets=NEW, allowed_origins=frozenset({"https://app.example.com"}))
        return build(settings, api, session, clock)

    def test_a_token_is_kept_as_what_it_says(self, peal: Peal, rows_of_the_table: Any) -> None:
        text = token(deviceId="phone", exp=NOW + 60, channels={"chat:*": ["publish", "subscribe"]})
        event = raw_events.connect(ID)
        event["headers"]["Authorization"] = f"Bearer {text}"
        assert websocket.connect(peal, event) == {"statusCode": 200}
        (row,) = [row for row in rows_of_the_table() if row["SK"] == "CONN"]
        assert (row["userId"], row["deviceId"], row["GSI1PK"]) == ("u_123", "phone", "USER#u_123")
        assert (row["expiresAt"], row["ttl"]) == (str(NOW + 60), str(NOW + 60))
        assert row["grants"] == '{"channels":{"chat:*":["subscribe","publish"]}}'

    def test_a_token_that_the_service_signed_is_accepted(self, peal: Peal) -> None:
        text = peal.issue_token({"sub": "u_123", "exp": NOW + 60})
        assert websocket.connect(peal, raw_events.connect(ID, {"token": text})) == {"statusCode": 200}
        assert peal.connection(ID).user_id == "u_123"

    def test_the_response_has_the_sub_protocol_without_the_token(self, peal: Peal) -> None:
        event = raw_events.connect(ID)
        event["headers"]["Sec-WebSocket-Protocol"] = f"peal, bearer.{token()}"
        assert websocket.connect(peal, event) == {
            "statusCode": 200,
            "headers": {"Sec-WebSocket-Protocol": "peal"},
        }

    @pytest.mark.parametrize(
        ("query", "headers", "status", "reason"),
        [
            ({"token": token(OLD)}, {}, 401, "no key fits"),
            ({"token": token(exp=NOW)}, {}, 401, "expired"),
            ({"token": "s3cret"}, {}, 401, "DecodeError"),
            ({"ticket": "s3cret"}, {}, 401, "unknown, used or late ticket"),
            ({"userId": "u_123"}, {}, 401, "no credential"),
            ({"token": token()}, {"Origin": "https://evil.example"}, 403, "This is not allowed."),
            (
                {"token": token(), "ticket": "s3cret"},
                {},
                400,
                "token must be given once, by header, sub-protocol or query, and without a ticket.",
            ),
        ],
    )
    def test_a_refusal_is_a_status_and_its_log_line_a_reason(
        self,
        peal: Peal,
        rows_of_the_table: Any,
        caplog: pytest.LogCaptureFixture,
        query: dict[str, str],
        headers: dict[str, str],
        status: int,
        reason: str,
    ) -> None:
        caplog.set_level(logging.DEBUG, logger="chalicelib")
        event = raw_events.connect(ID, query)
        event["headers"] |= headers
        door = telemetry.Observer()
        assert door(LambdaFunctionEvent(event, None), lambda _: websocket.connect(peal, event)) == {
            "statusCode": status
        }
        (record,) = caplog.records
        assert (record.invocation.facts["status"], record.invocation.facts["reason"]) == (status, reason)
        assert "s3cret" not in caplog.text
        assert rows_of_the_table() == []

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "variables", [{"jwt_jwks_url": "http://127.0.0.1:1/jwks.json"}, {"jwt_secrets": "ssm:/nowhere"}]
    )
    def test_keys_that_cannot_be_read_are_our_fault(
        self, table_name: str, api: FakeWebsocketApi, clock: Clock, monkeypatch: Any, caplog: Any, variables: Any
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:1")
        peal = build(Settings(table_name, **variables), api, boto3.session.Session(), clock)
        text = token() if "jwt_secrets" in variables else token(RSA, "RS256", {"kid": "k"})
        assert websocket.connect(peal, raw_events.connect(ID, {"token": text})) == {"statusCode": 500}
        assert text not in caplog.text


class TestRefusals:
    @pytest.mark.parametrize(
        ("event", "status"),
        [
            ({}, 400),
            (raw_events.connect(None), 400),
            (raw_events.connect("a#b"), 400),
            (raw_events.connect(ID, {"userId": "a#b"}), 400),
            (raw_events.connect(ID, {"deviceId": ""}), 400),
            (raw_events.connect(ID, {"attributes": "[]"}), 400),
        ],
    )
    def test_a_bad_connect_is_refused_and_leaves_no_row(
        self, peal: Peal, rows_of_the_table: Any, event: dict[str, Any], status: int
    ) -> None:
        assert websocket.connect(peal, event) == {"statusCode": status}
        assert rows_of_the_table() == []

    def test_without_keys_or_anonymous_access_all_are_refused(
        self,
        table_name: str,
        api: FakeWebsocketApi,
        session: boto3.session.Session,
        rows_of_the_table: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        closed = build(Settings(table_name), api, session)
        assert caplog.messages == [
            "Nobody can connect without a ticket from POST /tickets: "
            "neither JWT_SECRETS nor JWT_JWKS_URL is set, and ALLOW_ANONYMOUS is not true"
        ]
        assert websocket.connect(closed, raw_events.connect(ID, {"userId": "u_1"})) == {"statusCode": 401}
        assert rows_of_the_table() == []

    def test_a_second_connect_of_an_id_is_refused(self, peal: Peal) -> None:
        websocket.connect(peal, raw_events.connect(ID, {"userId": "u_1"}))
        assert websocket.connect(peal, raw_events.connect(ID, {"userId": "u_2"})) == {"statusCode": 409}
        assert peal.connection(ID).user_id == "u_1"

    def test_a_table_that_fails_refuses_the_socket(
        self, api: FakeWebsocketApi, session: boto3.session.Session, caplog: pytest.LogCaptureFixture
    ) -> None:
        peal = build(Settings("no-such-table", allow_anonymous=True), api, session)
        assert websocket.connect(peal, raw_events.connect(ID)) == {"statusCode": 500}
        assert caplog.messages == ["invocation failed"]

    @pytest.mark.parametrize("kind", ["lean", "boto3"])
    @pytest.mark.slow
    def test_a_write_whose_answer_is_lost_is_undone(
        self,
        kind: Any,
        way: LossyWay,
        table_name: str,
        api: FakeWebsocketApi,
        session: boto3.session.Session,
        clock: Clock,
        rows_of_the_table: Any,
    ) -> None:
        peal = build(Settings(table_name, allow_anonymous=True, table_client=kind), api, session, clock)
        websocket.connect(peal, raw_events.connect("first="))
        way.lose = 99
        assert websocket.connect(peal, raw_events.connect(ID)) == {"statusCode": 500}
        assert [row["PK"] for row in rows_of_the_table() if row["SK"] == "CONN"] == ["CONN#first="]

    @pytest.mark.parametrize("kind", ["lean", "boto3"])
    @pytest.mark.slow
    def test_a_write_retried_after_a_lost_answer_succeeds(
        self,
        kind: Any,
        way: LossyWay,
        table_name: str,
        api: FakeWebsocketApi,
        session: boto3.session.Session,
        clock: Clock,
    ) -> None:
        peal = build(Settings(table_name, allow_anonymous=True, table_client=kind), api, session, clock)
        websocket.connect(peal, raw_events.connect("first="))
        way.lose = 1
        assert websocket.connect(peal, raw_events.connect(ID)) == {"statusCode": 200}
        assert peal.connection(ID).connection_id == ID
        assert way.lose == 0


class TestDisconnect:
    def test_the_row_is_gone_and_no_other(self, peal: Peal, rows_of_the_table: Any) -> None:
        websocket.connect(peal, raw_events.connect(ID, {"userId": "u_1"}))
        websocket.connect(peal, raw_events.connect("other=", {"userId": "u_1"}))
        assert websocket.disconnect(peal, raw_events.disconnect(ID)) == {"statusCode": 200}
        assert [row["PK"] for row in rows_of_the_table() if row["SK"] == "CONN"] == ["CONN#other="]

    def test_it_may_arrive_twice_or_for_an_unknown_connection(self, peal: Peal) -> None:
        assert websocket.disconnect(peal, raw_events.disconnect("nobody=")) == {"statusCode": 200}

    @pytest.mark.parametrize("event", [{}, raw_events.disconnect(None)])
    def test_an_event_without_a_connection_is_logged_and_answered(
        self, peal: Peal, event: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert websocket.disconnect(peal, event) == {"statusCode": 200}
        assert caplog.records[-1].levelno == logging.ERROR

    def test_a_table_that_fails_is_logged_and_answered(
        self, api: FakeWebsocketApi, session: boto3.session.Session, caplog: pytest.LogCaptureFixture
    ) -> None:
        peal = build(Settings("no-such-table", allow_anonymous=True), api, session)
        assert websocket.disconnect(peal, raw_events.disconnect(ID)) == {"statusCode": 200}
        assert caplog.messages == ["invocation failed"]


def test_a_disconnect_that_overtakes_its_message_is_no_error(
    peal: Peal, api: FakeWebsocketApi, caplog: pytest.LogCaptureFixture
) -> None:
    websocket.connect(peal, raw_events.connect(ID))
    websocket.disconnect(peal, raw_events.disconnect(ID))
    api.fails = {ID: [gone(), gone(), gone()]}
    websocket.message(peal, raw_events.message('{"action":"ping","id":1}', ID))
    assert (api.frames(ID), api.closed, caplog.messages) == ([], [], [])
