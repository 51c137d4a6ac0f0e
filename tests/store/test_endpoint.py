"""The management endpoint: learnt on connect, kept in memory, stored for Lambdas that never see a socket."""

import pytest

from chalicelib.errors import ConfigurationError
from chalicelib.protocol.events import parse_connect
from chalicelib.store.endpoint import Endpoint, management_endpoint
from chalicelib.store.table import Table
from tests.support import raw_events

AWS = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api"
EVENT = parse_connect(raw_events.connect())


def told(region: str | None = "eu-central-1", proto: str = "https", **context: object) -> str:
    event = raw_events.connect(**context)
    event["headers"]["X-Forwarded-Proto"] = proto
    return management_endpoint(parse_connect(event), region)


class TestLearningFromAnEvent:
    def test_the_apis_own_name_is_used_unchanged(self) -> None:
        assert told() == AWS
        assert told(region=None) == AWS

    def test_behind_a_custom_domain_the_apis_own_name_is_used(self) -> None:
        assert told(domainName="ws.example.com") == AWS

    def test_in_china_the_domain_is_amazonaws_com_cn(self) -> None:
        assert told(domainName="ws.example.com", region="cn-north-1") == (
            "https://a1b2c3d4e5.execute-api.cn-north-1.amazonaws.com.cn/api"
        )

    @pytest.mark.parametrize("proto", ["http", "https"])
    def test_a_local_gateway_is_reached_as_the_client_reached_it(self, proto: str) -> None:
        assert told(proto=proto, domainName="127.0.0.1:8001") == f"{proto}://127.0.0.1:8001/api"
        assert told(proto=proto, domainName="[::1]:8001") == f"{proto}://[::1]:8001/api"

    def test_no_client_header_turns_aws_into_plain_http(self) -> None:
        assert told(proto="http") == AWS
        assert told(proto="http", domainName="ws.example.com") == AWS
        assert told(proto="evil://", domainName="127.0.0.1:8001") == "https://127.0.0.1:8001/api"


class TestResolving:
    def test_what_one_lambda_learns_another_reads_from_the_table(self, rows: Table) -> None:
        assert Endpoint(rows, None, "eu-central-1").learn(EVENT) == AWS
        assert Endpoint(rows, None, None).resolve() == AWS

    def test_the_override_wins_over_everything(self, rows: Table) -> None:
        endpoint = Endpoint(rows, "http://127.0.0.1:1/x", "eu-central-1")
        assert endpoint.resolve() == "http://127.0.0.1:1/x"
        assert endpoint.learn(EVENT) == "http://127.0.0.1:1/x"

    def test_memory_wins_over_the_table(self, rows: Table) -> None:
        ours, theirs = Endpoint(rows, None, None), Endpoint(rows, None, None)
        ours.learn(EVENT)
        theirs.learn(parse_connect(raw_events.connect(stage="other")))
        assert ours.resolve() == AWS
        assert Endpoint(rows, None, None).resolve() == AWS.replace("/api", "/other")

    def test_an_instance_writes_it_once(self, rows: Table, dynamodb_calls: list[str]) -> None:
        endpoint = Endpoint(rows, None, None)
        for _ in range(3):
            endpoint.learn(EVENT)
        assert dynamodb_calls == ["PutItem"]

    def test_an_instance_reads_it_once(self, rows: Table, dynamodb_calls: list[str]) -> None:
        Endpoint(rows, None, None).learn(EVENT)
        endpoint = Endpoint(rows, None, None)
        assert {endpoint.resolve() for _ in range(3)} == {AWS}
        assert dynamodb_calls == ["PutItem", "GetItem"]

    def test_an_unknown_endpoint_is_an_error_that_says_what_to_do(self, rows: Table) -> None:
        with pytest.raises(ConfigurationError) as unknown:
            Endpoint(rows, None, None).resolve()
        assert str(unknown.value) == (
            "APIGW_MANAGEMENT_ENDPOINT is not set and no client has connected yet, so nobody knows where the "
            "sockets are: connect once or set it, for example APIGW_MANAGEMENT_ENDPOINT="
            "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api"
        )
