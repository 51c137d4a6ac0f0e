"""The authorizer of $connect: what it is asked, what its answers mean, and what a refused client sees."""

import json
import re

import pytest

from gatewaykit import RECORDING, handshake, read_response
from localgateway import Additions, Limits
from localgateway.api.authorizer import allows, judge
from localgateway.contract.invoke import Result

ARN = "arn:aws:execute-api:eu-central-1:000000000000:dl7ptocha9/prod/$connect"

PRELUDE = """
def policy(effect, resource, **more):
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
    return {"principalId": "u_1", "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}} | more
"""


def authorizing(body: str) -> str:
    return f"""
{RECORDING}
{PRELUDE}
@app.lambda_function(name="authorize")
def authorize(event, context):
    {body}
"""


def policy(*statements, **more):
    return {"principalId": "u_1", "policyDocument": {"Version": "2012-10-17", "Statement": list(statements)}} | more


def statement(effect="Allow", resource=ARN, action="execute-api:Invoke"):
    return {"Effect": effect, "Resource": resource, "Action": action}


class TestTheEvent:
    def test_it_is_all_of_the_handshake(self, serve):
        probe = serve(
            authorizing("events.put(event); return policy('Allow', '*')"), additions=Additions(authorizer="authorize")
        )
        probe.raw(handshake("/api?token=abc&token=def", "Cookie: a=b"))
        event, connected = probe.event(), probe.event()
        assert event["type"] == "REQUEST"
        context = connected["requestContext"]
        arn = f"arn:aws:execute-api:eu-central-1:000000000000:{context['apiId']}/api/$connect"
        assert event["methodArn"] == arn
        assert event["headers"]["Cookie"] == "a=b"
        assert event["headers"]["Connection"] == "Upgrade"
        assert event["headers"]["content-length"] == "0"
        assert event["multiValueHeaders"]["Upgrade"] == ["websocket"]
        assert event["queryStringParameters"] == {"token": "def"}
        assert event["multiValueQueryStringParameters"] == {"token": ["abc", "def"]}
        assert event["stageVariables"] == {}
        assert not {"body", "isBase64Encoded", "pathParameters", "httpMethod"} & set(event)
        asked = event["requestContext"]
        assert "authorizer" not in asked
        for name in ("routeKey", "eventType", "connectionId", "connectedAt", "requestId", "identity"):
            assert asked[name] == context[name]

    def test_a_handshake_without_a_query_has_empty_maps(self, serve):
        probe = serve(
            authorizing("events.put(event); return policy('Allow', '*')"), additions=Additions(authorizer="authorize")
        )
        probe.joins()
        event = probe.event()
        assert event["queryStringParameters"] == event["multiValueQueryStringParameters"] == {}


class TestTheVerdict:
    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            ("return policy('Deny', event['methodArn'])", 403, "Forbidden"),
            ("return policy('Allow', 'arn:aws:execute-api:*:*:elsewhere/*')", 403, "Forbidden"),
            ("raise Exception('Unauthorized')", 401, "Unauthorized"),
            ("raise Exception('unauthorized')", 500, "Internal server error"),
            ("return {'principalId': 'u_1'}", 500, "Internal server error"),
            ("return None", 500, "Internal server error"),
            ("gate.wait(10)", 500, "Internal server error"),
        ],
    )
    def test_a_refusal_asks_no_connect_and_has_no_disconnect(self, serve, body, status, message):
        probe = serve(
            authorizing(body), additions=Additions(authorizer="authorize"), limits=Limits(integration_seconds=0.2)
        )
        answer_status, _, answer = read_response(probe.raw(handshake()))
        probe.app.gate.set()
        assert (answer_status, json.loads(answer)["message"]) == (status, message)
        assert probe.has_no_event_within(0.1)

    def test_connect_may_refuse_a_client_that_the_authorizer_allows(self, serve):
        source = authorizing("return policy('Allow', event['methodArn'])")
        source = re.sub(r"(def connect\(event\):\n    ).*", r"\1return Response('', status_code=418)", source)
        probe = serve(source, additions=Additions(authorizer="authorize"))
        assert read_response(probe.raw(handshake()))[0] == 418

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/api?token=x", ["Cookie: a=b"], 101),
            ("/api?token=x", ["cookie: a=b"], 101),
            ("/api?token=x", [], 401),
            ("/api?token=", ["Cookie: a=b"], 401),
            ("/api", ["Cookie: a=b"], 401),
        ],
    )
    def test_without_what_identifies_a_client_it_is_not_even_asked(self, serve, path, headers, status):
        sources = ["route.request.header.Cookie", "route.request.querystring.token"]
        probe = serve(
            authorizing("events.put(event); return policy('Allow', '*')"),
            additions=Additions(authorizer="authorize", identity_sources=sources),
        )
        assert read_response(probe.raw(handshake(path, *headers)))[0] == status
        if status == 401:
            assert probe.has_no_event_within(0.05)


class TestThePolicy:
    @pytest.mark.parametrize(
        "pattern",
        [ARN, "*", "arn:aws:execute-api:*:*:dl7ptocha9/*", "arn:aws:execute-api:*:*:*/pro?/$connect", [ARN, "x"]],
    )
    def test_a_resource_may_have_wildcards(self, pattern):
        assert allows([statement(resource=pattern)], ARN)

    @pytest.mark.parametrize("pattern", ["", ARN.upper(), ARN + "x", "arn:aws:execute-api:*:*:other/*", "?", []])
    def test_another_resource_is_not_allowed(self, pattern):
        assert not allows([statement(resource=pattern)], ARN)

    @pytest.mark.parametrize("action", ["execute-api:Invoke", "execute-api:*", "*", "Execute-API:invoke", ["x", "*"]])
    def test_the_action_is_to_invoke(self, action):
        assert allows([statement(action=action)], ARN)
        assert not allows([statement(action="execute-api:ManageConnections")], ARN)

    def test_one_denial_outweighs_all_that_allows(self):
        assert not allows([statement(), statement("Deny", "*"), statement()], ARN)
        assert allows([statement(), statement("Deny", "arn:aws:s3:::*")], ARN)

    def test_a_single_statement_need_not_be_in_a_list(self):
        assert allows(statement(), ARN)

    def test_no_statement_allows_nothing(self):
        assert not allows([], ARN)


class TestTheAnswer:
    def judge(self, payload, outcome="ok"):
        return judge(Result(outcome, payload), ARN, max_bytes=1_000)

    def test_context_is_text(self):
        context = {"n": 1, "half": 0.5, "no": False, "text": "ü"}
        assert self.judge(policy(statement(), context=context)) == (
            200,
            {"principalId": "u_1", "n": "1", "half": "0.5", "no": "false", "text": "ü"},
        )

    def test_there_need_not_be_a_context(self):
        assert self.judge(policy(statement())) == (200, {"principalId": "u_1"})

    @pytest.mark.parametrize(
        "payload",
        [
            None,
            "Allow",
            [],
            {},
            {"principalId": "u_1", "policyDocument": {}},
            {"principalId": "u_1", "policyDocument": "Allow"},
            {"policyDocument": {"Statement": [statement()]}},
            policy(statement(), principalId=7),
            policy(statement(), context={"list": [1]}),
            policy(statement(), context={"map": {}}),
            policy(statement(), context={"null": None}),
            policy(statement(), context=["x"]),
            policy(statement(), context={"long": "x" * 1_000}),
            policy(statement() | {"Condition": {}}),
            policy({"Effect": "Allow", "NotResource": "x", "Action": "*"}),
            policy("Allow"),
            policy({"Effect": "Allow"}),
            policy(statement(resource=[1])),
        ],
    )
    def test_an_invalid_policy_is_a_failure(self, payload):
        assert self.judge(payload) == (500, {})

    def test_an_error_is_a_failure_unless_it_says_unauthorized(self):
        assert self.judge({"errorMessage": "Unauthorized", "errorType": "Exception"}, "error") == (401, {})
        assert self.judge({"errorMessage": "no", "errorType": "Exception"}, "error") == (500, {})
        assert self.judge(None, "error") == (500, {})
        assert self.judge(None, "timeout") == (500, {})
