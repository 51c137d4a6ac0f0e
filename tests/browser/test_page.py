"""The console as a page: by keyboard alone, dark, narrow, and closed to other sites."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from gatewaykit import write_project
from localgateway import LocalGateway
from tests.browser.conftest import APP, connect, console_of, frames, send, show

TABS = ("Client", "Connections", "Invocations", "Faults", "Tables")
# Text and what it stands on, as the stylesheet names them.
PAIRS = [
    *[(text, ground) for text in ("text", "quiet", "accent", "bad") for ground in ("surface", "raised", "page")],
    *[(text, "page") for text in ("string", "number", "literal", "key", "good")],
    ("on-accent", "accent"),
    ("bad", "bad-tint"),
    *[("surface", f"hue{number}") for number in range(6)],
]


# What a page might try; its title says how each went.
ATTACK = """<!doctype html>
<title>waiting</title>
<iframe src="CONSOLE"></iframe>
<a href="CONSOLE">console</a>
<script type="module">
const ask = (path, options) => fetch("ORIGIN" + path, options).then((answer) => answer.type, () => "refused");
const source = new EventSource("ORIGIN/_localgateway/feed");
const heard = new Promise((say) => {
  source.onmessage = () => say("heard");
  source.onerror = () => say("refused");
});
const script = new Promise((say) => {
  const made = Object.assign(document.createElement("script"), { src: "CONSOLE/main.js", type: "module" });
  made.onload = () => say("loaded");
  made.onerror = () => say("refused");
  document.body.append(made);
});
const signed = { Authorization: "AWS4-HMAC-SHA256" };
const all = [
  ask("/_localgateway/faults", { method: "POST", mode: "no-cors", body: '{"fault":"throttle"}' }),
  ask("/_localgateway/connections/ALICE", { method: "DELETE" }),
  ask("/api/@connections/ALICE", { method: "DELETE", headers: signed }),
  ask("/_localgateway/connections"),
  heard,
  script,
];
document.title = (await Promise.all(all)).join(" ");
</script>
"""


def luminance(colour):
    """Source: WCAG 2.2, "relative luminance"."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


class TestByKeyboard:
    def test_everything_is_done_without_a_mouse(self, page, gateway):
        press = page.keyboard.press

        def tab_to(name):
            """Press Tab until this has the focus, and check that it shows."""
            for _ in range(60):
                press("Tab")
                if page.evaluate(
                    """name => {
                        const at = document.activeElement;
                        const label = at.labels?.[0]?.textContent.trim();
                        return [at.getAttribute("aria-label"), label, at.textContent.trim(), at.id].includes(name);
                    }""",
                    name,
                ):
                    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
                    return
            raise AssertionError(f"Tab does not lead to {name}.")

        tab_to("URL")
        press("Enter")
        expect(page.locator(".chip[data-state=open]")).to_have_count(1)
        tab_to("Frame")
        page.keyboard.type("hello")
        press("Control+Enter")
        expect(frames(page, "in").locator(".preview")).to_have_text("hello")
        press("ArrowUp")
        press("Meta+Enter")
        expect(frames(page, "in")).to_have_count(2)
        page.keyboard.type("raise")
        press("Control+Enter")
        page.evaluate("document.activeElement.blur()")
        tab_to("tab-connections")
        press("ArrowRight")
        expect(page.locator("#invocations-rows li").first).to_contain_text("error")
        tab_to("invocations-clear")
        press("Tab")
        press("Enter")
        expect(page.locator("#invocations-rows pre")).to_contain_text("no good")
        page.locator("#tab-invocations").focus()
        press("ArrowRight")
        tab_to("throttle")
        press("Space")
        expect(page.get_by_role("switch", name="throttle")).to_have_attribute("aria-checked", "true")
        press("Space")
        expect(page.get_by_role("switch", name="throttle")).to_have_attribute("aria-checked", "false")
        page.locator("#tab-faults").focus()
        press("Home")
        expect(page.locator("#connections")).to_be_visible()
        tab_to(page.locator("#connections-rows button").text_content())
        press("Enter")
        tab_to("Kick")
        press("Enter")
        expect(frames(page, "note").last).to_contain_text("Closed with 1000")
        assert gateway.faults.armed == []

    def test_events_are_announced_to_screen_readers(self, page):
        connect(page)
        expect(page.get_by_role("status").first).to_contain_text("Connection 1: Open")
        send(page, "hello", "raise")
        expect(page.get_by_role("status").first).to_contain_text("1 invocation failed.")

    def test_everything_that_takes_input_has_a_name(self, page):
        connect(page)
        show(page, "Connections")
        page.locator("#connections-rows button").first.click()
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("input, select, textarea, button, [role]")]
                .filter((one) => !one.labels?.length && !one.getAttribute("aria-label")
                    && !one.getAttribute("aria-labelledby") && !one.textContent.trim())
                .map((one) => one.outerHTML)"""
        )
        assert [one for one in nameless if 'role="status"' not in one and 'role="alert"' not in one] == []


class TestLooks:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_every_text_has_enough_contrast(self, look, gateway, scheme):
        page = look(gateway, color_scheme=scheme)
        colours = page.evaluate(
            """names => Object.fromEntries(names.map((name) =>
                [name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()]))""",
            sorted({name for pair in PAIRS for name in pair}),
        )
        is_dark = luminance(colours["surface"]) < luminance(colours["text"])
        assert is_dark == (scheme == "dark")
        ground = page.evaluate("getComputedStyle(document.getElementById('client')).backgroundColor")
        assert ground == "rgb({}, {}, {})".format(*(int(colours["surface"][at : at + 2], 16) for at in (1, 3, 5)))
        for text, behind in PAIRS:
            high, low = sorted((luminance(colours[text]), luminance(colours[behind])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, behind)

    @pytest.mark.parametrize("width", [400, 960, 1280])
    def test_nothing_overflows_at_any_width(self, look, gateway, width):
        page = look(gateway, viewport={"width": width, "height": 780})
        connect(page, "name=" + "n" * 200)
        page.get_by_label("Pretty").check()
        send(page, "x" * 2_000, '{"a":"' + "y" * 2_000 + '"}', "raise")
        gateway.faults.throttle(connection_id="c" * 16)
        for tab in TABS:
            if page.get_by_role("tab", name=tab).is_hidden():
                continue
            show(page, tab)
            panel = page.locator(f"#{tab.lower()}")
            expect(panel).to_be_visible()
            if tab == "Connections":
                page.locator("#connections-rows button").first.click()
            if tab == "Invocations":
                page.locator("#invocations-rows summary").first.click()
            wide = page.evaluate(
                """() => [document.documentElement, ...document.querySelectorAll("main section, .scroll, .tools, form")]
                    .filter((one) => one.scrollWidth > one.clientWidth + 1)
                    .map((one) => `${one.id || one.className} ${one.scrollWidth} > ${one.clientWidth}`)"""
            )
            assert wide == [], tab

    def test_a_wide_page_shows_the_client_beside_the_rest(self, look, gateway):
        page = look(gateway)
        expect(page.get_by_role("tab", name="Client")).to_be_hidden()
        show(page, "Faults")
        expect(page.locator("#client")).to_be_visible()
        page.set_viewport_size({"width": 400, "height": 780})
        expect(page.locator("#client")).to_be_hidden()
        show(page, "Client")
        expect(page.locator("#faults")).to_be_hidden()
        page.set_viewport_size({"width": 1280, "height": 780})
        expect(page.locator("#connections")).to_be_visible()


class TestTheFeed:
    def test_a_restarted_gateway_is_found_and_shown_afresh(self, look, tmp_path, wrong):
        directory = write_project(tmp_path / "again", APP, prelude="")
        with LocalGateway(directory) as first:
            page = look(first)
            connect(page)
            send(page, "hello")
            expect(page.locator("#invocations-rows > li")).to_have_count(2)
            port = urlsplit(first.url).port
        expect(page.locator("#feed")).to_have_text("Out of reach, trying again")
        expect(frames(page, "note").last).to_contain_text("Closed with 1001")
        with LocalGateway(directory, port=port):
            expect(page.locator("#feed")).to_have_text("Live")
            expect(page.locator("#invocations-rows > li")).to_have_count(0)
            expect(page.locator("#connections-rows tr")).to_have_count(0)
            connect(page)
            expect(page.locator("#invocations-rows > li")).to_have_count(1)
        assert all("ERR_" in said for said in wrong)
        wrong.clear()

    def test_a_hidden_page_pauses_and_misses_nothing(self, page, gateway):
        alice = gateway.connect("alice")
        expect(page.locator("#invocations-rows > li")).to_have_count(1)
        set_visibility(page, "hidden")
        alice.sends("hello")
        gateway.settle()
        page.wait_for_timeout(600)
        assert page.locator("#invocations-rows > li").count() == 1
        set_visibility(page, "visible")
        expect(page.locator("#invocations-rows > li")).to_have_count(2)
        expect(page.locator("#connections-rows tr")).to_have_count(1)


def set_visibility(page, state):
    """Make the page believe that it is visible or hidden; without a window it is always visible."""
    page.evaluate(
        """state => {
            Object.defineProperty(document, "hidden", { value: state === "hidden", configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


class TestOthers:
    def test_a_foreign_name_for_this_machine_is_refused(self, browser, gateway):
        with browser.new_context() as context:
            page = context.new_page()
            answer = page.goto(console_of(gateway, "evil.example"))
            assert answer.status == 403
            expect(page.locator("body")).to_contain_text("The console is for this machine")
            assert (
                page.goto(console_of(gateway, "evil.example").replace("_console", "_localgateway/feed")).status == 403
            )

    def test_a_page_of_another_site_is_refused(self, browser, gateway):
        console = console_of(gateway)
        alice = gateway.connect("alice")
        body = ATTACK.replace("CONSOLE", console).replace("ORIGIN", console.removesuffix("/_console"))
        body = body.replace("ALICE", alice.connection_id)
        with serving(body) as port, browser.new_context() as context:
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            expect(page).to_have_title("opaque refused refused refused refused refused")
            frame = page.frames[1]
            assert "project" not in frame.content()
            with page.expect_navigation() as navigation:
                page.get_by_text("console", exact=True).click()
            assert navigation.value.status == 403
        assert gateway.faults.armed == []
        alice.sends("still here")
        alice.receives("still here")


class serving:
    """Serve one page on another port, and so of another origin."""

    def __init__(self, body):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self._server.server_address[1]

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()
