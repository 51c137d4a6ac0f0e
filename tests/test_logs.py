"""The format of log lines: what CloudWatch reads, and what they must never hold."""

import io
import json
import logging
import os
import re
import subprocess
import sys

import pytest

from chalicelib import logs, telemetry
from chalicelib.errors import ConfigurationError, TableError
from chalicelib.settings import Settings
from chalicelib.telemetry import Invocation, Metric
from tests.conftest import PROJECT, LogLines

log = logging.getLogger("chalicelib.delivery.delivery")


class TestALine:
    def test_it_is_one_json_object_with_level_message_and_logger(self, log_lines: LogLines) -> None:
        log.warning("Sending to %s failed: %s", "a=\n", "é")
        (line,) = log_lines()
        assert line.pop("time")[10:].startswith("T")
        assert line == {
            "level": "WARNING",
            "logger": "chalicelib.delivery.delivery",
            "message": "Sending to a=\n failed: é",
        }

    def test_log_level_applies_to_our_loggers_and_not_to_libraries(self, log_lines: LogLines) -> None:
        log.debug("ours")
        logging.getLogger("peal").debug("the app's")
        # botocore's DEBUG lines hold whole requests: payloads, signatures, session tokens.
        logging.getLogger("botocore.endpoint").debug("a request")
        logging.getLogger("botocore.credentials").info("Found credentials")
        logging.getLogger("urllib3.connectionpool").warning("Connection pool is full")
        assert [line["message"] for line in log_lines()] == ["ours", "the app's", "Connection pool is full"]

    def test_json_replaces_the_handlers_that_were_there(self, logging_as_it_was: None) -> None:
        lambdas_own, ours = io.StringIO(), io.StringIO()
        logging.getLogger().addHandler(logging.StreamHandler(lambdas_own))
        logs.configure(Settings("t"), stream=ours)
        log.warning("once")
        assert lambdas_own.getvalue() == ""
        assert len(ours.getvalue().splitlines()) == 1

    def test_lines_go_to_stdout(self, logging_as_it_was: None, capsys: pytest.CaptureFixture[str]) -> None:
        logs.configure(Settings("t"))
        log.warning("hello")
        assert json.loads(capsys.readouterr().out)["message"] == "hello"


class TestMetrics:
    def test_an_invocations_line_is_an_embedded_metric_document(self, log_lines: LogLines) -> None:
        invocation = Invocation(facts={"route": "$default", "durationMs": 3.25})
        invocation.counts = {Metric.SENDS_OK: 2, Metric.DELIVERY_MS: 1.5}
        telemetry.log.info("%s", invocation, extra={"invocation": invocation})
        (line,) = log_lines()
        assert isinstance(line["_aws"].pop("Timestamp"), int)
        del line["time"]
        assert line == {
            "level": "INFO",
            "message": "invocation",
            "route": "$default",
            "durationMs": 3.25,
            "Stage": "test",
            "SendsOk": 2,
            "DeliveryMs": 1.5,
            "_aws": {
                "CloudWatchMetrics": [
                    {
                        "Namespace": "Peal",
                        "Dimensions": [["Stage"]],
                        "Metrics": [
                            {"Name": "SendsOk", "Unit": "Count"},
                            {"Name": "DeliveryMs", "Unit": "Milliseconds"},
                        ],
                    }
                ]
            },
        }

    def test_metrics_that_were_not_counted_are_left_out(self, log_lines: LogLines) -> None:
        telemetry.log.info("%s", Invocation(), extra={"invocation": Invocation()})
        (line,) = log_lines()
        assert line.keys() == {"time", "level", "message"}

    def test_they_are_written_at_every_log_level(self, logging_as_it_was: None) -> None:
        stream = io.StringIO()
        logs.configure(Settings("t", log_level="ERROR"), stream=stream)
        log.warning("not of interest")
        telemetry.log.info("%s", Invocation(), extra={"invocation": Invocation()})
        assert json.loads(stream.getvalue())["message"] == "invocation"


class TestText:
    def test_existing_handlers_write_it(self, logging_as_it_was: None) -> None:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        logging.getLogger().handlers[:] = [handler]
        logs.configure(Settings("t", log_format="text", log_level="INFO"))
        assert logging.getLogger().handlers == [handler]
        invocation = Invocation(counts={"Frames": 1})
        invocation.facts = {"route": "$default", "action": "ping", "userId": "u_1", "outcome": "ok", "durationMs": 2.5}
        telemetry.log.info("%s", invocation, extra={"invocation": invocation})
        assert stream.getvalue() == "ping ok in 2.5 ms: userId=u_1 Frames=1\n"

    def test_log_level_applies_to_invocations_too(
        self, logging_as_it_was: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        logs.configure(Settings("t", log_format="text", log_level="WARNING"))
        telemetry.log.info("%s", Invocation())
        assert caplog.messages == []

    def test_without_handlers_it_goes_to_stderr(
        self, logging_as_it_was: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        logging.getLogger().handlers.clear()
        logs.configure(Settings("t", log_format="text"))
        log.warning("hello")
        assert capsys.readouterr().err == "WARNING chalicelib.delivery.delivery: hello\n"


class TestStacks:
    def test_our_own_exceptions_show_message_and_place(self, log_lines: LogLines) -> None:
        try:
            raise TableError("PutItem", "AccessDeniedException")
        except TableError:
            log.exception("failed")
        (line,) = log_lines()
        first, call = line["stack"].split("\n")
        assert first == "TableError: DynamoDB PutItem failed: AccessDeniedException"
        assert call.startswith(f"  {__file__}:")
        assert call.endswith(" test_our_own_exceptions_show_message_and_place")

    def test_a_wrong_setting_is_named(self) -> None:
        text = logs.stack(ConfigurationError("LOG_LEVEL", "must be one of these", "INFO"))
        assert text == "ConfigurationError: LOG_LEVEL must be one of these, for example LOG_LEVEL=INFO"

    def test_messages_of_other_exceptions_are_hidden(self) -> None:
        with pytest.raises(ValueError, match="s3cret") as quoting:
            int("s3cret")
        text = logs.stack(quoting.value)
        assert text.startswith("ValueError\n")
        assert "s3cret" not in text

    @pytest.mark.parametrize(
        ("cause", "gets_error"), [(KeyError("s3cret"), True), (None, False)], ids=["a cause", "`from None`"]
    )
    def test_an_explicit_cause_follows(self, cause: Exception | None, gets_error: bool) -> None:
        failure = TableError("Query", "KeyError")
        failure.__context__ = OSError()
        # As `raise ... from` does.
        failure.__cause__ = cause
        text = logs.stack(failure)
        assert ("\ncaused by KeyError" in text) is gets_error
        assert "OSError" not in text

    def test_the_context_follows_if_there_is_no_explicit_cause(self) -> None:
        failure = TableError("Query", "KeyError")
        failure.__context__ = KeyError("s3cret")
        assert logs.stack(failure) == "TableError: DynamoDB Query failed: KeyError\ncaused by KeyError"

    def test_endless_recursion_and_endless_causes_are_truncated(self) -> None:
        def recurse() -> None:
            recurse()

        with pytest.raises(RecursionError) as endless:
            recurse()
        endless.value.__cause__ = endless.value
        lines = logs.stack(endless.value).splitlines()
        assert len(lines) == logs.MAX_CAUSES * (1 + logs.MAX_CALLS)

    def test_a_line_without_an_exception_has_no_stack(self, log_lines: LogLines) -> None:
        log.error("failed", exc_info=sys.exc_info())
        (line,) = log_lines()
        assert "stack" not in line


def test_any_message_is_one_line_of_ascii() -> None:
    record = log.makeRecord("peal", logging.INFO, "", 0, "%s", ("\n half of a pair: \ud800",), None)
    line = logs.JsonFormatter("test").format(record)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["message"] == "\n half of a pair: \ud800"


class TestTheApp:
    """app.py in its own process, as Lambda starts it."""

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

    @pytest.mark.slow
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

    @pytest.mark.slow
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
