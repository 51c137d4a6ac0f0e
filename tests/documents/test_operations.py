"""Dashboard, alarms and docs/OPERATIONS.md say what the code does, and leave nothing out."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from chalicelib.logs import NAMESPACE
from chalicelib.store import table
from chalicelib.telemetry import Fact, Metric
from localgateway.aws.template import Resolver
from tests.conftest import PROJECT

TEMPLATE = json.loads((PROJECT / "resources.json").read_text())
PAGE = (PROJECT / "docs" / "OPERATIONS.md").read_text()
ALARMS = {
    name: resource["Properties"]
    for name, resource in TEMPLATE["Resources"].items()
    if resource.get("Type") == "AWS::CloudWatch::Alarm"
}
resolver = Resolver(TEMPLATE, stage="dev", region="eu-central-1")


def resolved(value: Any) -> Any:
    return resolver.resolve(value)


def watched(alarm: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Each metric that an alarm looks at: namespace, name, dimensions."""
    metrics = (
        [row["MetricStat"]["Metric"] for row in alarm["Metrics"] if "MetricStat" in row]
        if "Metrics" in alarm
        else [alarm]
    )
    for metric in metrics:
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in resolved(metric["Dimensions"])}
        yield metric["Namespace"], metric["MetricName"], dimensions


WATCHED = [metric for alarm in ALARMS.values() for metric in watched(alarm)]
DASHBOARD = json.loads(resolved(TEMPLATE["Resources"]["Dashboard"]["Properties"]["DashboardBody"]))
GRAPHS = [
    row for widget in DASHBOARD["widgets"] if widget["type"] == "metric" for row in widget["properties"]["metrics"]
]


def functions() -> set[str]:
    """The names that the app's functions have on AWS, as app.py declares them."""
    declared = set(re.findall(r"^@app\.(?:on_|schedule).*name=\"(\w+)\"", (PROJECT / "app.py").read_text(), re.M))
    assert {"websocket_connect", "websocket_message", "websocket_disconnect", "jobs"} <= declared
    return {"peal-dev", *(f"peal-dev-{name}" for name in declared)}


class TestAlarms:
    @pytest.mark.parametrize("alarm", ALARMS.values(), ids=ALARMS)
    def test_each_has_its_section_in_the_document(self, alarm: dict[str, Any]) -> None:
        (anchor,) = re.findall(r" See docs/OPERATIONS\.md#([\w-]+)\.$", alarm["AlarmDescription"])
        found = re.search(rf"^### {anchor}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
        assert found, f"no section {anchor}"
        name = resolved(alarm["AlarmName"]).removeprefix("peal-dev-")
        assert name == anchor or f"`{name}`" in found[1]

    def test_each_section_is_about_an_alarm(self) -> None:
        sections = re.findall(r"^### ([\w-]+)$", PAGE.partition("\n## Alarms\n")[2], re.M)
        assert set(sections) == {alarm["AlarmDescription"].partition("#")[2][:-1] for alarm in ALARMS.values()}

    @pytest.mark.parametrize("alarm", ALARMS.values(), ids=ALARMS)
    def test_missing_data_is_good_and_a_topic_is_notified_if_there_is_one(self, alarm: dict[str, Any]) -> None:
        assert alarm["TreatMissingData"] == "notBreaching"
        notified = {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}
        assert alarm["AlarmActions"] == alarm["OKActions"] == notified

    @pytest.mark.parametrize("metric", ["Errors", "Throttles", "Duration"])
    def test_every_function_is_watched_and_no_other(self, metric: str) -> None:
        names = [
            dimensions["FunctionName"] for space, name, dimensions in WATCHED if (space, name) == ("AWS/Lambda", metric)
        ]
        assert sorted(names) == sorted(functions())

    def test_every_operation_on_the_table_is_watched(self) -> None:
        source = (PROJECT / "chalicelib" / "store" / "table.py").read_text()
        performed = {*re.findall(r'_(?:translated|write)\("(\w+)"', source), "Query", "Scan"}
        assert {dimensions["Operation"] for _, name, dimensions in WATCHED if name == "SystemErrors"} == performed

    @pytest.mark.parametrize("metric", ["ReadThrottleEvents", "WriteThrottleEvents"])
    def test_the_table_and_its_index_are_watched(self, metric: str) -> None:
        found = [dimensions for _, name, dimensions in WATCHED if name == metric]
        name = {"TableName": "peal-dev-connections"}
        assert found == [name, name | {"GlobalSecondaryIndexName": table.INDEX}]

    def test_every_queue_is_watched(self) -> None:
        queues = {
            resolved(resource["Properties"]["QueueName"])
            for resource in TEMPLATE["Resources"].values()
            if resource.get("Type") == "AWS::SQS::Queue"
        }
        assert {dimensions["QueueName"] for space, _, dimensions in WATCHED if space == "AWS/SQS"} == queues

    def test_our_own_metrics_are_those_of_the_code(self) -> None:
        ours = [(name, dimensions) for space, name, dimensions in WATCHED if space == NAMESPACE]
        assert len(ours) >= 7
        for name, dimensions in ours:
            assert name in set(Metric)
            assert dimensions == {"Stage": "dev"}

    def test_an_expression_uses_the_rows_beside_it(self) -> None:
        for alarm in ALARMS.values():
            *rows, expression = alarm.get("Metrics", [{"Id": "METRICS", "Expression": "METRICS"}])
            used = set(re.findall(r"\b[a-z_]+\b", expression["Expression"]))
            assert used <= {row["Id"] for row in rows}
            assert used or "METRICS" in expression["Expression"]


class TestDashboard:
    def test_it_shows_every_metric_of_ours_and_no_other(self) -> None:
        ours = [row for row in GRAPHS if row[0] == NAMESPACE]
        assert {row[1] for row in ours} == set(Metric)
        assert {tuple(row[2:4]) for row in ours} == {("Stage", "dev")}

    @pytest.mark.parametrize("metric", ["Errors", "Throttles", "Duration"])
    def test_it_shows_every_function(self, metric: str) -> None:
        assert {row[3] for row in GRAPHS if row[:2] == ["AWS/Lambda", metric]} == functions()

    def test_it_shows_what_failed_last_in_every_function(self) -> None:
        (query,) = [widget["properties"]["query"] for widget in DASHBOARD["widgets"] if widget["type"] == "log"]
        assert set(re.findall(r"SOURCE '/aws/lambda/([\w-]+)'", query)) == functions()


class TestTheDocument:
    def test_every_metric_has_its_row_and_no_other(self) -> None:
        table = PAGE.partition("\n## Metrics\n")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", table, re.M) == list(Metric)

    def test_every_fact_is_explained(self) -> None:
        table = PAGE.partition("\n## Logs\n")[2].partition("\n### ")[0]
        explained = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)}
        assert explained == set(get_args(Fact))

    def test_its_queries_ask_for_fields_that_lines_have(self) -> None:
        queries = re.findall(r"^```\n(filter.*?)^```$", PAGE, re.M | re.S)
        assert len(queries) >= 6
        fields = {*get_args(Fact), *Metric, "level", "message", "stack", "time"}
        words = {"filter", "fields", "stats", "sort", "parse", "limit", "asc", "desc", "and", "as", "by", "like"}
        for query in queries:
            bare = re.sub(r'"[^"]*"|/[^/]*/|@\w+', "", query)
            named = {*re.findall(r"\bas ((?:\w+, )*\w+)", bare)}
            made = {name for names in named for name in names.split(", ")}
            asked = set(re.findall(r"\b[a-zA-Z]\w*\b(?!\()", bare))
            assert asked <= fields | words | made

    def test_what_it_says_of_the_cost_is_counted(self) -> None:
        assert f"{len(Metric)} metrics at 0.30" in PAGE
        assert f"| {len(Metric) * 0.3:.2f} |" in PAGE
        assert f"{len(ALARMS)} alarms over {len(WATCHED)} metrics at 0.10 | {len(WATCHED) * 0.1:.2f} |" in PAGE
        assert "everything below in ten graphs" in PAGE
        assert len(DASHBOARD["widgets"]) == 10
