"""One line for each invocation: what it tells, what it counts, and what it must never tell."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import pytest
from chalice.app import LambdaFunctionEvent, Request, Response
from chalice.local import LambdaContext

from chalicelib import telemetry
from chalicelib.auth.authentication import Authentication
from chalicelib.delivery.delivery import Outcome
from chalicelib.errors import ConfigurationError, TableError
from chalicelib.handlers import jobs, rest, websocket
from chalicelib.peal import Peal, build
from chalicelib.protocol.frame import parse
from chalicelib.settings import Settings
from chalicelib.telemetry import Invocation, Metric, Observer
from tests.conftest import PROJECT, LogLines
from tests.support import raw_events
from tests.support.fakes import FakeJobs, FakeWebsocketApi, gone, refused
from tests.support.signing import NEW, OLD, token

ID = "L0SM9cOFvHcCIhw="


class Lambda:
    """A warm execution environment: runs doors as Chalice does, with the middleware around them."""

    def __init__(self, lines: LogLines, peal: Peal) -> None:
        self.lines, self.peal = lines, peal
        self.ticks = iter(range(1_000))
        self.observer = Observer(clock=lambda: next(self.ticks) / 1_000)
        self.runs(lambda _: None)

    def runs(self, door: Callable[[Any], Any], event: Any = None, name: str = "job") -> dict[str, Any]:
        """Run a door for an event; gives the invocation's line, the last of all."""
        context = LambdaContext(f"peal-dev-{name}", 128)
        context.aws_request_id = "c36b46d7"
        self.others = []
        try:
            self.answer = self.observer(LambdaFunctionEvent(event or {}, context), door)
        finally:
            *self.others, self.line = self.lines()
        return self.line

    def connects(self, connection_id: str = ID, **query: str) -> dict[str, Any]:
        event = raw_events.connect(connection_id, query)
        return self.runs(lambda _: websocket.connect(self.peal, event), event, "websocket_connect")

    def receives(self, frame: object, connection_id: str = ID) -> dict[str, Any]:
        event = raw_events.message(frame if isinstance(frame, str) else json.dumps(frame), connection_id)
        return self.runs(lambda _: websocket.message(self.peal, event), event, "websocket_message")

    def disconnects(self, connection_id: str = ID) -> dict[str, Any]:
        event = raw_events.disconnect(connection_id)
        return self.runs(lambda _: websocket.disconnect(self.peal, event), event, "websocket_disconnect")


@pytest.fixture
def on_lambda(log_lines: LogLines, peal: Peal) -> Lambda:
    return Lambda(log_lines, peal)


@pytest.fixture
def without_a_table(log_lines: LogLines, api: FakeWebsocketApi, session: Any) -> Lambda:
    """DynamoDB refuses everything."""
    return Lambda(log_lines, build(Settings("no-such-table", allow_anonymous=True), api, session))


def counts(line: dict[str, Any]) -> dict[str, Any]:
    """What CloudWatch would count of a line."""
    if "_aws" not in line:
        return {}
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    return {metric["Name"]: line[metric["Name"]] for metric in directive["Metrics"] if metric["Name"] != "DeliveryMs"}


class TestConnect:
    def test_the_line_names_connection_and_user(self, on_lambda: Lambda) -> None:
        line = on_lambda.connects(userId="u_456")
        assert {name: line[name] for name in line if name not in ("time", "_aws")} == {
            "level": "INFO",
            "message": "invocation",
            "function": "peal-dev-websocket_connect",
            "route": "$connect",
            "requestId": "R1knPH17NjMFftw=",
            "lambdaRequestId": "c36b46d7",
            "connectionId": ID,
            "userId": "u_456",
            "status": 200,
            "outcome": "ok",
            "durationMs": 1.0,
            "Stage": "test",
            "Connects": 1,
        }
        assert on_lambda.others == []

    def test_an_anonymous_client_has_no_user(self, on_lambda: Lambda) -> None:
        assert "userId" not in on_lambda.connects()

    def test_a_refusal_is_counted_with_its_status_and_code(self, on_lambda: Lambda) -> None:
        line = on_lambda.connects(userId="a#b")
        assert (line["outcome"], line["status"], line["error"]) == ("refused", 400, "invalid")
        assert counts(line) == {"Refusals": 1}

    def test_a_failure_is_counted_and_logged_with_its_stack_and_ids(self, without_a_table: Lambda) -> None:
        line = without_a_table.connects()
        assert (line["outcome"], line["status"], line["error"]) == ("failed", 500, "TableError")
        assert counts(line) == {"InternalErrors": 1}
        (failure,) = without_a_table.others
        assert (failure["level"], failure["message"]) == ("ERROR", "$connect failed")
        assert failure["stack"].startswith("TableError: DynamoDB PutItem failed: ResourceNotFoundException\n")
        assert failure["requestId"] == line["requestId"]

    def test_an_unexpected_failure_refuses_the_socket(self, on_lambda: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError

        monkeypatch.setattr(Authentication, "identify", broken)
        line = on_lambda.connects()
        assert on_lambda.answer == {"statusCode": 500}
        assert (line["outcome"], line["error"]) == ("failed", "RuntimeError")


class TestFrames:
    def test_an_action_is_named_and_its_sends_counted(self, on_lambda: Lambda) -> None:
        on_lambda.connects(userId="u_456")
        line = on_lambda.receives({"action": "sendMessage", "id": 1, "targetUserId": "u_456", "text": "hi"})
        assert (line["action"], line["userId"], line["outcome"]) == ("sendMessage", "u_456", "ok")
        # The message and the reply.
        assert counts(line) == {"Frames": 1, "SendsOk": 2}
        assert line["DeliveryMs"] == 2

    def test_a_bad_frame_is_counted_with_its_code(self, on_lambda: Lambda) -> None:
        on_lambda.connects()
        line = on_lambda.receives("no frame")
        assert (line["outcome"], line["error"], line["status"]) == ("refused", "bad_frame", 200)
        assert counts(line) == {"Frames": 1, "FrameErrors": 1, "SendsOk": 1}

    def test_an_unknown_action_is_not_named(self, on_lambda: Lambda) -> None:
        on_lambda.connects()
        line = on_lambda.receives({"action": "s3cret"})
        assert "action" not in line
        assert line["error"] == "unknown_action"

    def test_a_failing_action_is_named(self, on_lambda: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(_: object) -> dict[str, Any]:
            raise RuntimeError

        monkeypatch.setattr(websocket, "ACTIONS", {"broken": broken})
        on_lambda.connects()
        line = on_lambda.receives({"action": "broken"})
        assert (line["outcome"], line["error"], line["action"]) == ("failed", "RuntimeError", "broken")
        assert counts(line) == {"Frames": 1, "InternalErrors": 1, "SendsOk": 1}
        assert [line["message"] for line in on_lambda.others] == ["broken failed"]

    def test_each_bad_receiver_is_counted_by_kind(self, on_lambda: Lambda, api: FakeWebsocketApi) -> None:
        for name in ("ok=", "gone=", "slow=", "busy=", "full="):
            on_lambda.connects(name)
        api.fails = {
            "gone=": [gone(), gone()],
            "slow=": [refused("500")],
            "busy=": [refused("LimitExceededException")],
            "full=": [refused("429")],
        }
        line = on_lambda.receives({"action": "broadcastAll"}, "ok=")
        assert counts(line) == {
            "Frames": 1,
            "SendsOk": 1,
            "SendsGone": 1,
            "SendsFailed": 3,
            "SendsThrottled": 2,
            "Prunes": 1,
        }
        assert {(line["message"], line["requestId"]) for line in on_lambda.others} == {
            ("Sending to slow= failed: 500", "R1knPH17NjMFftw="),
            ("Sending to busy= failed: LimitExceededException", "R1knPH17NjMFftw="),
            ("Sending to full= failed: 429", "R1knPH17NjMFftw="),
        }

    def test_a_publication_is_counted(self, on_lambda: Lambda) -> None:
        on_lambda.connects()
        line = on_lambda.receives({"action": "publish", "channel": "live:game", "data": 1})
        assert (line["action"], line["channel"], line["outcome"]) == ("publish", "live:game", "ok")
        assert counts(line) == {"Frames": 1, "Publishes": 1}

    def test_a_reply_that_cannot_be_sent_fails_the_function(self, without_a_table: Lambda) -> None:
        with pytest.raises(TableError):
            without_a_table.receives({"action": "ping", "id": 1})
        line = without_a_table.line
        assert (line["outcome"], line["error"]) == ("failed", "TableError")
        assert "status" not in line


class TestDisconnect:
    def test_a_disconnect_counts_nothing(self, on_lambda: Lambda) -> None:
        line = on_lambda.disconnects()
        assert (line["route"], line["outcome"]) == ("$disconnect", "ok")
        assert counts(line) == {}

    def test_a_failure_is_counted_although_the_answer_is_200(self, without_a_table: Lambda) -> None:
        line = without_a_table.disconnects()
        assert (line["outcome"], line["error"], line["status"]) == ("failed", "TableError", 200)
        assert counts(line) == {"InternalErrors": 1}


class TestRest:
    def answers(self, on_lambda: Lambda, door: Any, *arguments: Any) -> dict[str, Any]:
        """Run a REST door as Chalice does, which hands the middleware its own request and gets its own response."""
        context = {"httpMethod": "POST", "resourcePath": "/users/{user_id}/messages", "requestId": "c6af9ac6"}
        event = {"requestContext": context, "headers": {}, "multiValueQueryStringParameters": None}
        event |= {"pathParameters": {}, "body": "", "stageVariables": {}, "isBase64Encoded": False}
        request = Request(event, LambdaContext("peal-dev", 128))

        def respond(_: Request) -> Response:
            status, body = rest.answer(door, on_lambda.peal, *arguments)
            return Response(body, status_code=status)

        on_lambda.observer(request, respond)
        *on_lambda.others, line = on_lambda.lines()
        return line

    def test_the_route_is_logged_as_declared(self, on_lambda: Lambda) -> None:
        on_lambda.connects(userId="u_456")
        line = self.answers(on_lambda, rest.post_to_user, "u_456", b'{"text":"hi"}')
        assert (line["function"], line["route"]) == ("peal-dev", "POST /users/{user_id}/messages")
        assert (line["requestId"], line["userId"], line["status"]) == ("c6af9ac6", "u_456", 200)
        assert counts(line) == {"SendsOk": 1}

    def test_a_refusal_has_its_code(self, on_lambda: Lambda) -> None:
        line = self.answers(on_lambda, rest.get_connection, "nobody=")
        assert (line["outcome"], line["status"], line["error"]) == ("refused", 404, "not_found")
        assert line["connectionId"] == "nobody="

    def test_a_failure_is_counted(self, without_a_table: Lambda) -> None:
        line = self.answers(without_a_table, rest.get_connection, ID)
        assert (line["outcome"], line["status"], line["error"]) == ("failed", 500, "TableError")
        assert [line["message"] for line in without_a_table.others] == ["POST /users/{user_id}/messages failed"]

    @pytest.mark.parametrize(
        ("status", "outcome", "counted"),
        [(415, "refused", {}), (500, "failed", {"InternalErrors": 1}), ("200", "ok", {})],
    )
    def test_what_chalice_answers_by_itself_is_logged_too(
        self, on_lambda: Lambda, status: Any, outcome: str, counted: dict[str, int]
    ) -> None:
        on_lambda.observer(None, lambda _: Response({}, status_code=status))
        (line,) = on_lambda.lines()
        assert line["outcome"] == outcome
        assert line.get("status", str(status)) == status
        assert counts(line) == counted


class TestJobs:
    def works(self, on_lambda: Lambda, body: str) -> dict[str, Any]:
        event = {"Records": [{"body": body}]}
        return on_lambda.runs(lambda _: jobs.work(on_lambda.peal, event), event, "jobs")

    def test_a_job_is_named(self, on_lambda: Lambda) -> None:
        line = self.works(on_lambda, '{"job":"advance","channel":"feed:news","shard":0}')
        assert (line["function"], line["action"], line["outcome"]) == ("peal-dev-jobs", "advance", "ok")

    def test_a_dropped_job_is_refused(self, on_lambda: Lambda) -> None:
        line = self.works(on_lambda, '{"job":"s3cret"}')
        assert (line["outcome"], line["error"]) == ("refused", "invalid")
        assert "action" not in line
        assert [line["level"] for line in on_lambda.others] == ["ERROR"]


class TestAnyDoor:
    def test_the_first_invocation_of_an_instance_is_a_cold_start(self, log_lines: LogLines) -> None:
        observer = Observer()
        for _ in range(2):
            observer(LambdaFunctionEvent({}, None), lambda _: None)
        assert [counts(line) for line in log_lines()] == [{"ColdStarts": 1}, {}]

    def test_a_schedule_needs_nothing_of_its_own(self, on_lambda: Lambda) -> None:
        line = on_lambda.runs(lambda _: on_lambda.peal.broadcast(), {"Records": []}, "tick")
        assert (line["function"], line["outcome"]) == ("peal-dev-tick", "ok")
        assert not line.keys() & {"route", "requestId", "status", "error"}

    @pytest.mark.parametrize(
        "event", [["any JSON"], "text", {"requestContext": "text"}, {"requestContext": {"requestId": 1}}]
    )
    def test_any_event_gets_its_line(self, on_lambda: Lambda, event: Any) -> None:
        line = on_lambda.runs(lambda _: None, event)
        assert (line["outcome"], line["lambdaRequestId"]) == ("ok", "c36b46d7")

    def test_an_exception_is_logged_and_raised(self, on_lambda: Lambda) -> None:
        def broken(_: object) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            on_lambda.runs(broken)
        assert (on_lambda.line["outcome"], on_lambda.line["error"]) == ("failed", "ZeroDivisionError")

    def test_concurrent_invocations_are_separate(self, log_lines: LogLines) -> None:
        observer, both_are_in = Observer(), threading.Barrier(2, timeout=10)

        def door(event: LambdaFunctionEvent) -> None:
            both_are_in.wait()
            telemetry.count(Metric.SENDS_OK, event.to_dict()["sends"])

        threads = [
            threading.Thread(target=observer, args=(LambdaFunctionEvent({"sends": sends}, object()), door))
            for sends in (3, 5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {line["SendsOk"] for line in log_lines()} == {3, 5}
        assert telemetry.facts() == {}

    def test_outside_an_invocation_nothing_is_noted(
        self, peal: Peal, log_lines: LogLines, logging_as_it_was: None
    ) -> None:
        assert peal.broadcast() == Outcome()
        telemetry.note("userId", "u_1")
        telemetry.fail(RuntimeError())
        (line,) = log_lines()
        assert line["message"] == "invocation failed"
        assert not line.keys() & {"userId", "outcome"}

    def test_the_name_is_the_most_specific_that_is_known(self) -> None:
        facts: list[tuple[str, str]] = [("function", "peal-dev-jobs"), ("route", "$default"), ("action", "ping")]
        names = [Invocation(facts=dict(facts[:known])).name for known in range(4)]
        assert names == ["invocation", "peal-dev-jobs", "$default", "ping"]


CANARY = "s3cret-c4n4ry"
QUERIES: list[dict[str, str]] = [
    {CANARY: CANARY, "attributes": json.dumps({CANARY: CANARY})},
    {"token": CANARY},
    {"ticket": CANARY},
    {"token": token(channels={f"#{CANARY}": [CANARY]})},
    {"token": token(OLD, sub=CANARY)},
    {"userId": f"#{CANARY}"},
    {"deviceId": f"#{CANARY}"},
    {"attributes": json.dumps([CANARY])},
    {"attributes": CANARY},
]
HEADERS: list[dict[str, str]] = [
    {"Cookie": CANARY, "Origin": f"https://{CANARY}.example"},
    {"Authorization": f"Bearer {CANARY}"},
    {"Sec-WebSocket-Protocol": f"peal, bearer.{CANARY}, {CANARY}"},
    {"Sec-WebSocket-Protocol": f"bearer.{CANARY}"},
]
BODIES: list[str] = [
    CANARY,
    json.dumps([CANARY]),
    json.dumps({"action": CANARY}),
    json.dumps({"action": "ping", "id": CANARY * 99}),
    json.dumps({"action": [CANARY]}),
    json.dumps({"action": "sendMessage", "id": CANARY, "targetConnectionId": f"#{CANARY}", "text": CANARY}),
    json.dumps({"action": "sendMessage", "id": CANARY, "targetUserId": "u_1", "text": CANARY, "data": {CANARY: 1}}),
    json.dumps({"action": "sendMessage", "targetConnectionId": ID, "text": [CANARY]}),
    json.dumps({"action": "broadcastAll", "note": CANARY, "data": CANARY}),
    json.dumps({"action": "whoami", "id": CANARY}),
    json.dumps({"action": "authenticate", "id": CANARY, "token": CANARY}),
    json.dumps({"action": "authenticate", "token": token(sub=CANARY, exp=1)}),
    json.dumps({"action": "subscribe", "channel": "chat:a"}),
    json.dumps({"action": "subscribe", "channel": f"#{CANARY}", "recover": CANARY}),
    json.dumps({"action": "publish", "channel": "chat:a", "data": CANARY}),
    json.dumps({"action": "publish", "channel": "live:a", "data": CANARY, "messageId": f"#{CANARY}"}),
    json.dumps({"action": "broken", "id": CANARY}),
]


def broken(request: Any) -> dict[str, Any]:
    """An action whose exception quotes what the client sent, as int() and KeyError do."""
    raise KeyError(request.frame.fields["id"])


class TestNothingSensitiveIsLogged:
    """Whatever clients and backends send, by whatever door, however it fails."""

    @pytest.fixture(params=["all is well", "no table", "sends fail", "receivers are gone", "the app is broken"])
    def peal(
        self,
        request: pytest.FixtureRequest,
        table_name: str,
        api: FakeWebsocketApi,
        session: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Peal:
        monkeypatch.setattr(websocket, "ACTIONS", {**websocket.ACTIONS, "broken": broken})
        name = "no-such-table" if request.param == "no table" else table_name
        errors = {"sends fail": [refused(code) for code in ("500", "LimitExceededException") * 99]}
        errors["receivers are gone"] = [gone() for _ in range(999)]
        api.fails = {ID: errors.get(request.param, [])}

        def quoting(_: Authentication, event: Any) -> None:
            raise ValueError(str(event))

        if request.param == "the app is broken":
            monkeypatch.setattr(Authentication, "identify", quoting)
        return build(Settings(name, allow_anonymous=True, jwt_secrets=NEW), api, session, jobs=FakeJobs())

    @pytest.fixture
    def text(self, log_lines: LogLines) -> Iterator[list[str]]:
        """All that was logged, as text."""
        texts: list[str] = []
        yield texts
        texts += [json.dumps(line) for line in log_lines()]
        assert len(texts) > 2
        assert [text for text in texts if CANARY in text] == []

    def runs(self, door: Callable[[Any], Any], event: Any) -> None:
        # The only errors that doors let out, which Lambda's run time then logs by itself; their texts are ours.
        with suppress(TableError, ConfigurationError):
            Observer()(LambdaFunctionEvent(event, LambdaContext("peal-dev-door", 128)), door)

    def test_by_the_websocket_doors(self, peal: Peal, text: list[str]) -> None:
        for query, headers in [({}, {}), *product(QUERIES, HEADERS)]:
            event = raw_events.connect(ID, query)
            event["headers"] |= headers
            self.runs(lambda _, event=event: websocket.connect(peal, event), event)
        for body in BODIES:
            event = raw_events.message(body, ID)
            self.runs(lambda _, event=event: websocket.message(peal, event), event)
        event = raw_events.disconnect(ID)
        self.runs(lambda _: websocket.disconnect(peal, event), event)

    def test_by_the_rest_doors(self, peal: Peal, text: list[str]) -> None:
        websocket.connect(peal, raw_events.connect(ID, {"userId": "u_1"}))
        for body in map(str.encode, BODIES):
            for door, arguments in (
                (rest.post_to_user, ("u_1", body)),
                (rest.post_to_user, (f"#{CANARY}", body)),
                (rest.post_to_connection, (ID, body)),
                (rest.post_broadcast, (body,)),
                (rest.post_ticket, (body,)),
                (rest.post_ticket, (json.dumps({"userId": "u_1", "channels": {CANARY: [CANARY]}}).encode(),)),
            ):
                event = {"body": body.decode(), "headers": {"Authorization": CANARY}}
                self.runs(lambda _, door=door, arguments=arguments: rest.answer(door, peal, *arguments), event)

    def test_the_bodies_are_frames(self) -> None:
        assert json.loads(BODIES[-1]) == parse(BODIES[-1]).fields


class TestTheApp:
    """app.py in a process of its own, as Lambda starts it."""

    SCRIPT = """
import logging, sys
logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
import app
from chalice.test import Client
from localgateway.testing import connect_event

@app.app.route("/broken")
def broken():
    raise ValueError("s3cret")

app.app.log.info("hello")
with Client(app.app) as client:
    client.lambda_.invoke("websocket_connect", connect_event("a="))
    client.http.get("/broken")
"""

    def run(self, **variables: str) -> subprocess.CompletedProcess[str]:
        names = [name for name in os.environ if name.startswith("AWS_")] + ["PATH"]
        done = subprocess.run(
            [sys.executable, "-c", self.SCRIPT],
            cwd=PROJECT,
            env={name: os.environ[name] for name in names}
            | {"CONNECTIONS_TABLE": "no-such-table", "JOBS_QUEUE": "peal-test-jobs"}
            | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done

    def test_each_event_is_one_json_line_on_stdout(self) -> None:
        done = self.run(STAGE="dev")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(line["level"], line["message"]) for line in lines] == [
            ("WARNING", lines[0]["message"]),
            ("INFO", "hello"),
            ("INFO", "invocation"),
            # Chalice's own line.
            ("ERROR", "Caught exception for path /broken"),
            ("INFO", "invocation"),
        ]
        assert lines[0]["message"].startswith("Nobody can connect without a ticket")
        assert lines[2]["Stage"] == "dev"
        assert (lines[2]["ColdStarts"], lines[2]["Refusals"], lines[2]["status"]) == (1, 1, 401)
        assert lines[3]["route"] == lines[4]["route"] == "GET /broken"
        assert lines[3]["stack"].startswith("ValueError\n")
        assert (lines[4]["status"], lines[4]["outcome"], lines[4]["InternalErrors"]) == (500, "failed", 1)
        assert "s3cret" not in done.stdout + done.stderr

    def test_locally_they_are_text_without_metrics(self) -> None:
        done = self.run(LOG_FORMAT="text", ALLOW_ANONYMOUS="true")
        assert re.search(r"^\$connect failed in [0-9.]+ ms: requestId=\S+ connectionId=a= ", done.stdout, re.M)
        assert "_aws" not in done.stdout


def test_every_stage_names_itself_in_its_metrics() -> None:
    stages = json.loads((PROJECT / ".chalice" / "config.json").read_text())["stages"]
    assert {name: stage["environment_variables"]["STAGE"] for name, stage in stages.items()} == {
        name: name for name in stages
    }
    assert stages["local"]["environment_variables"]["LOG_FORMAT"] == "text"
    assert all("LOG_FORMAT" not in stage["environment_variables"] for name, stage in stages.items() if name != "local")
