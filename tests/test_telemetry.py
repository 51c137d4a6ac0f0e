"""The one line of each invocation: what it says and what it counts."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from chalice.app import LambdaFunctionEvent, Request, Response
from chalice.local import LambdaContext

from chalicelib import telemetry
from chalicelib.auth.authentication import Authentication
from chalicelib.delivery.delivery import Outcome
from chalicelib.errors import TableError
from chalicelib.handlers import jobs, rest, websocket
from chalicelib.peal import Peal, build
from chalicelib.settings import Settings
from chalicelib.telemetry import Invocation, Metric, Observer
from tests.conftest import LogLines
from tests.support import raw_events
from tests.support.fakes import FakeWebsocketApi, gone, refused

ID = "L0SM9cOFvHcCIhw="


class Lambda:
    """A warm execution environment that runs doors as Chalice does, inside the middleware."""

    def __init__(self, lines: LogLines, peal: Peal) -> None:
        self.lines, self.peal = lines, peal
        self.ticks = iter(range(1_000))
        self.observer = Observer(clock=lambda: next(self.ticks) / 1_000)
        self.runs(lambda _: None)

    def runs(self, door: Callable[[Any], Any], event: Any = None, name: str = "job") -> dict[str, Any]:
        """Run a door for an event; return the invocation's line, which is the last one."""
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
    """Peal with a table that does not exist."""
    return Lambda(log_lines, build(Settings("no-such-table", allow_anonymous=True), api, session))


def counts(line: dict[str, Any]) -> dict[str, Any]:
    """Return what CloudWatch counts of a line."""
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

    def test_a_failing_action_is_named(self, on_lambda: Lambda) -> None:
        def broken(_: object) -> dict[str, Any]:
            raise RuntimeError

        on_lambda.connects()
        event = raw_events.message('{"action":"broken"}', ID)
        line = on_lambda.runs(lambda _: websocket.message(on_lambda.peal, event, {"broken": broken}), event)
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
        """Run a REST route as Chalice does, which passes its own request through the middleware."""
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
        observer, both_are_running = Observer(), threading.Barrier(2, timeout=10)

        def door(event: LambdaFunctionEvent) -> None:
            both_are_running.wait()
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
