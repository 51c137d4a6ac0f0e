"""The console's views of the gateway: connections, invocations, faults and tables."""

import json
import re
from contextlib import closing

import boto3
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import HOSTILE, connect, frames, refusal, send, show


@pytest.fixture
def row(page):
    """The open row of the newest connection."""

    def row():
        show(page, "Connections")
        page.locator("#connections-rows button").first.click()
        return page.locator("#connections-rows tr.details").first

    return row


class TestConnections:
    def test_all_are_listed_newest_first(self, page, gateway):
        alice = gateway.connect("alice", headers={"User-Agent": HOSTILE})
        bob = gateway.connect("bob", headers={"User-Agent": "bob/1"})
        bob.sends("hello")
        bob.receives("hello")
        rows = page.locator("#connections-rows tr")
        expect(page.locator("#tab-connections .count")).to_have_text("2")
        expect(rows).to_have_count(2)
        expect(rows.nth(0).locator("td")).to_have_text(
            [bob.connection_id, re.compile(r"^\d s$"), re.compile(r"^\d s$"), "1 · 5 B", "1 · 5 B", "127.0.0.1 bob/1"]
        )
        expect(rows.nth(1)).to_contain_text(HOSTILE)
        page.get_by_label("Filter connections").fill("BOB/")
        expect(page.locator("#connections-rows tr:visible")).to_have_count(1)
        page.get_by_label("Filter connections").fill("")
        alice.closes()
        expect(rows).to_have_count(1)
        expect(page.locator("#tab-connections .count")).to_have_text("1")

    def test_ages_grow_and_so_does_idleness(self, page, gateway):
        gateway.connect("alice")
        expect(page.locator("#connections-rows td").nth(1)).to_have_text("1 s")
        gateway.advance(125)
        gateway.connect("bob")
        expect(page.locator("#connections-rows tr").nth(1).locator("td").nth(2)).to_have_text("2 min")

    def test_post_reaches_the_connection(self, page, row):
        connect(page)
        details = row()
        details.get_by_label("Message to").fill("pushed")
        details.get_by_role("button", name="Post").click()
        expect(frames(page, "in").locator(".preview")).to_have_text("pushed")
        expect(page.locator("#connections-result")).to_have_text(re.compile(r"^Post \S{16}: 200$"))

    def test_kick_closes_it_as_functions_do(self, page, row):
        connect(page)
        row().get_by_role("button", name="Kick").click()
        expect(frames(page, "note").last).to_contain_text("Closed with 1000 Connection Closed Normally")
        expect(page.locator("#connections-result")).to_have_text(re.compile(r"^Kick \S{16}: 204$"))
        expect(page.locator("#connections-empty")).to_be_visible()

    def test_close_accepts_every_valid_code(self, page, row, wrong):
        connect(page)
        details = row()
        details.get_by_label("Close code").fill("1005")
        details.get_by_role("button", name="Close").click()
        expect(page.locator("#connections-result")).to_contain_text("400 code is one that a close frame may carry")
        assert refusal(wrong, 400)

    def test_close_with_a_code_and_a_reason(self, page, row):
        connect(page)
        details = row()
        details.get_by_label("Close code").fill("4001")
        details.get_by_label("Close reason").fill("off you go")
        details.get_by_role("button", name="Close").click()
        expect(frames(page, "note").last).to_contain_text("Closed with 4001 off you go")

    def test_lose_skips_the_disconnect(self, page, row, gateway):
        connect(page)
        row().get_by_role("button", name="Lose $disconnect").click()
        expect(frames(page, "note").last).to_contain_text("Closed with 1006")
        assert [ran.cause for ran in gateway.invocations] == ["CONNECT"]

    def test_its_invocations_are_one_step_away(self, page, row, gateway):
        gateway.connect("alice").sends("hello")
        connect(page)
        gateway.settle()
        expect(page.locator("#tab-connections .count")).to_have_text("2")
        row().get_by_role("button", name="What has run for it").click()
        shown = page.locator("#invocations-rows > li:not([hidden])")
        expect(shown).to_have_count(1)
        shown.locator("summary").click()
        shown.locator("button.link").click()
        expect(page.get_by_role("tab", name="Connections")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#connections-rows tr:not(.details):visible")).to_have_count(1)


class TestInvocations:
    def test_each_says_why_it_ran_how_it_ended_and_what_it_wrote(self, page, gateway):
        show(page, "Invocations")
        expect(page.locator("#invocations-empty")).to_be_visible()
        alice = gateway.connect("alice")
        alice.sends("hello")
        alice.receives()
        gateway.settle()
        alice.closes()
        rows = page.locator("#invocations-rows > li")
        expect(rows.locator(".cause")).to_have_text(["disconnect", "message", "connect"])
        expect(rows.locator(".outcome")).to_have_text(["200", "200", "200"])
        message = rows.nth(1)
        message.locator("summary").click()
        expect(message.locator("pre")).to_have_text("got hello")
        expect(message.locator("details")).to_contain_text("message · $default · ")
        expect(message.locator("button.link")).to_have_text(alice.connection_id)

    def test_an_error_is_shown_with_its_traceback_and_counted(self, page):
        connect(page)
        send(page, "hello", "raise")
        expect(frames(page, "in").last.locator(".preview")).to_contain_text('"Internal server error"')
        expect(page.locator("#tab-invocations .count")).to_have_text("1")
        show(page, "Invocations")
        page.get_by_label("Failed only").check()
        (row,) = page.locator("#invocations-rows > li:not([hidden])").all()
        expect(row.locator("em")).to_have_text("ValueError: no good")
        expect(row.locator(".outcome")).to_have_text("error")
        row.locator("summary").click()
        expect(row.locator("pre")).to_contain_text('raise ValueError("no good")')
        page.get_by_label("Failed only").uncheck()
        page.get_by_label("Filter invocations").fill("GOT HELLO")
        expect(page.locator("#invocations-rows > li:not([hidden])")).to_have_count(1)
        page.locator("#invocations-clear").click()
        expect(page.locator("#tab-invocations .count")).to_have_text("")
        expect(page.locator("#invocations-rows > li")).to_have_count(0)

    def test_a_running_invocation_is_shown_until_it_ends(self, page, gateway):
        connect(page)
        gateway.faults.delay_route(1.5, route="$default", times=1)
        show(page, "Invocations")
        send(page, "hello")
        expect(page.locator("#running li")).to_contain_text("at work for")
        expect(page.locator("#running li")).to_have_count(0)
        expect(page.locator("#invocations-rows .cause").first).to_have_text("message")


class TestFaults:
    def test_a_switch_injects_a_fault_until_it_is_off(self, page, gateway, row, wrong):
        connect(page)
        details = row()
        show(page, "Faults")
        switch = page.get_by_role("switch", name="throttle")
        switch.click()
        expect(switch).to_have_attribute("aria-checked", "true")
        expect(page.locator("#faults-armed li")).to_contain_text("any connection, always")
        show(page, "Connections")
        for _ in range(2):
            with page.expect_event("console"):
                details.get_by_role("button", name="Post").click()
            expect(page.locator("#connections-result")).to_contain_text("429 LimitExceededException")
        assert refusal(wrong, 429)
        show(page, "Faults")
        switch.click()
        expect(switch).to_have_attribute("aria-checked", "false")
        assert gateway.faults.armed == []
        show(page, "Connections")
        details.get_by_role("button", name="Post").click()
        expect(page.locator("#connections-result")).to_have_text(re.compile(r"^Post \S{16}: 200$"))

    def test_a_target_a_number_and_a_time_can_be_named(self, page, gateway):
        show(page, "Faults")
        page.get_by_label("delay-route: which route").fill("$connect")
        page.get_by_label("delay-route: how often").fill("2")
        page.get_by_label("delay-route: seconds").fill("0.5")
        page.get_by_role("switch", name="delay-route").click()
        expect(page.locator("#faults-armed li")).to_contain_text("$connect, 2 times more, 0.5 s")
        gateway.connect("alice")
        expect(page.locator("#faults-armed li")).to_contain_text("$connect, once more, 0.5 s")
        page.get_by_role("button", name="Switch off delay-route for $connect").click()
        expect(page.locator("#faults-empty")).to_be_visible()

    def test_an_invalid_fault_is_reported(self, page, wrong):
        show(page, "Faults")
        page.get_by_label("delay-post: seconds").fill("0")
        page.get_by_role("switch", name="delay-post").click()
        expect(page.locator("#faults-result")).to_have_text("400 delay-post needs seconds, more than 0.")
        assert refusal(wrong, 400)

    def test_faults_armed_elsewhere_are_shown_too(self, page, gateway):
        gateway.faults.kill_worker("message")
        expect(page.locator("#tab-faults .count")).to_have_text("1")
        show(page, "Faults")
        expect(page.get_by_role("switch", name="kill-worker")).to_have_attribute("aria-checked", "true")
        expect(page.locator("#faults-armed li")).to_contain_text("message, once more")


class TestTables:
    def test_a_project_without_any_says_so(self, page):
        show(page, "Tables")
        expect(page.locator("#tables-empty")).to_contain_text("This project has no tables")
        expect(page.get_by_label("Table", exact=True)).to_be_disabled()

    def test_rows_are_read_page_by_page_and_refreshed(self, look, stored):
        page = look(stored)
        with closing(boto3.client("dynamodb", endpoint_url=stored.environment["AWS_ENDPOINT_URL_DYNAMODB"])) as table:
            for number in range(60):
                item = {"PK": {"S": f"k{number:02}"}, "n": {"N": "12345678901234567890"}, "html": {"S": HOSTILE}}
                table.put_item(TableName="rows", Item=item)
            show(page, "Tables")
            expect(page.locator("#tables-said")).to_have_text("50 rows, more follow")
            page.get_by_role("button", name="Next page").click()
            expect(page.locator("#tables-said")).to_have_text("10 rows of a later page")
            expect(page.get_by_role("button", name="Next page")).to_be_disabled()
            table.delete_item(TableName="rows", Key={"PK": {"S": "k00"}})
            page.get_by_role("button", name="Read anew").click()
            expect(page.locator("#tables-said")).to_have_text("50 rows, more follow")
        page.get_by_label("Filter these rows").fill("K07")
        (row,) = page.locator("#tables-rows > li:not([hidden])").all()
        row.locator("summary").click()
        assert row.locator("pre").text_content() == (
            f'{{\n  "PK": "k07",\n  "n": 12345678901234567890,\n  "html": {json.dumps(HOSTILE)}\n}}'
        )
