"""The console as a client: it connects, sends, and shows the frames of both directions."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import HOSTILE, connect, flood, frames, send, show

NUMBER = '{"big":12345678901234567890,"list":[1,{}],"text":"a \\" b"}'


class TestAConversation:
    def test_a_frame_is_sent_and_its_answer_shown_with_the_time_it_took(self, page):
        connect(page)
        send(page, "hello")
        expect(frames(page, "out").locator(".preview")).to_have_text("hello")
        expect(frames(page, "in").locator(".preview")).to_have_text("hello")
        expect(frames(page, "out").locator(".timing")).to_have_text(re.compile(r"^\d+(\.\d)? (ms|s)$"))
        sent = frames(page, "out").locator(".timing").text_content()
        expect(frames(page, "in").locator(".timing")).to_have_text(f"+{sent}")

    def test_unanswered_frames_have_no_time(self, page):
        connect(page)
        send(page, "silence")
        expect(frames(page, "out")).to_have_count(1)
        expect(frames(page, "out").locator(".timing")).to_have_text("")
        send(page, "hello")
        expect(frames(page, "in").locator(".timing")).to_have_text(re.compile(r"^\+"))

    def test_json_is_laid_out_digit_for_digit(self, page):
        connect(page)
        send(page, NUMBER)
        frames(page, "in").locator("summary").click()
        body = frames(page, "in").locator("pre")
        assert body.text_content() == (
            '{\n  "big": 12345678901234567890,\n  "list": [\n    1,\n    {}\n  ],\n  "text": "a \\" b"\n}'
        )
        expect(body.locator(".number").first).to_have_text("12345678901234567890")
        page.get_by_label("Pretty").check()
        expect(frames(page, "out").locator("pre")).to_be_visible()

    def test_other_text_is_shown_unchanged_and_deep_json_does_no_harm(self, page):
        connect(page)
        page.get_by_label("Pretty").check()
        deep = "[" * 3_000 + "]" * 3_000
        send(page, "{no json", deep, "[" * 3_000)
        expect(frames(page, "in").locator("pre")).to_have_count(3)
        shown = frames(page, "in").locator("pre").all_text_contents()
        assert shown[0] == "{no json"
        assert re.sub(r"\s", "", shown[1]) == deep
        assert shown[2] == "[" * 3_000

    def test_hostile_text_is_text(self, page):
        connect(page, f"name={HOSTILE}")
        page.get_by_label("Pretty").check()
        send(page, HOSTILE, f'{{"{HOSTILE.replace(chr(34), "")}":"<b>"}}')
        expect(frames(page, "in").locator(".preview").first).to_have_text(HOSTILE)
        expect(frames(page, "in").locator("pre").first).to_have_text(HOSTILE)
        show(page, "Invocations")
        page.locator("#invocations-rows summary").last.click()
        expect(page.locator("#invocations-rows pre")).to_contain_text(HOSTILE)
        assert page.locator("main img, main script").count() == 0
        assert page.title() == "probe · Console"

    def test_the_end_is_shown_with_its_code(self, page, gateway):
        connect(page)
        page.get_by_role("button", name="Close connection 1").click()
        expect(frames(page, "note").last).to_contain_text("Closed with 1000")
        page.get_by_role("button", name="Forget connection 1").click()
        expect(page.locator(".chip")).to_have_count(0)
        connect(page)
        gateway.advance(601)
        expect(frames(page, "note").last).to_contain_text("Closed with 1001 Going away")
        expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()

    def test_a_refusal_says_where_to_look(self, page, wrong):
        page.get_by_text("Options").click()
        page.get_by_label("Query", exact=True).fill("stranger=1")
        page.get_by_role("button", name="Connect", exact=True).click()
        expect(frames(page, "note")).to_contain_text("Refused")
        show(page, "Invocations")
        expect(page.locator("#invocations-rows .outcome")).to_have_text("401")
        # The browser says so too, and nothing else.
        assert len(wrong) == 1
        assert "/api?stranger=1' failed" in wrong.pop()

    def test_an_invalid_url_is_reported(self, page):
        page.get_by_label("URL", exact=True).fill("nowhere")
        page.get_by_role("button", name="Connect", exact=True).click()
        expect(page.get_by_role("alert")).to_have_text("The URL is none: it begins with ws:// or wss://.")


class TestSeveralAtOnce:
    def test_the_chosen_one_sends_and_can_be_seen_alone(self, page):
        connect(page)
        connect(page)
        send(page, "from two")
        page.locator(".chip label").first.click()
        send(page, "from one")
        expect(frames(page, "in").locator(".mark")).to_have_text(["2", "1"])
        page.get_by_label("This one").check()
        expect(frames(page, "in").locator(".preview")).to_have_text(["from one"])
        page.locator(".chip label").last.click()
        expect(frames(page, "in").locator(".preview")).to_have_text(["from two"])

    def test_a_filter_keeps_one_text_and_one_direction(self, page):
        connect(page)
        send(page, "apple", "pear", "pineapple")
        expect(frames(page, "in")).to_have_count(3)
        page.get_by_label("Filter frames").fill("APPLE")
        expect(frames(page, "in").locator(".preview")).to_have_text(["apple", "pineapple"])
        page.get_by_label("Direction").select_option("Sent")
        expect(frames(page, "in")).to_have_count(0)
        expect(frames(page, "out").locator(".preview")).to_have_text(["apple", "pineapple"])
        page.get_by_label("Filter frames").fill("")
        send(page, "plum")
        expect(frames(page, "out")).to_have_count(4)
        page.get_by_role("button", name="Clear").first.click()
        expect(page.locator("#frames-empty")).to_be_visible()


class TestOptions:
    def test_a_token_is_sent_where_the_user_chooses(self, page, gateway):
        page.get_by_text("Options").click()
        page.get_by_label("Token", exact=True).fill('s3"cret')
        page.get_by_label("Name").fill("ticket")
        connect(page, "a=1")
        page.get_by_label("Token", exact=True).fill("s3cret")
        page.get_by_label("Token goes").select_option("into a sub-protocol, behind")
        page.get_by_label("Sub-protocols").fill("chat, v2")
        connect(page)
        expect(frames(page, "note").last).to_contain_text("sub-protocol chat")
        page.get_by_label("Sub-protocols").fill("")
        page.get_by_label("Token goes").select_option("into the first frame, as")
        page.get_by_label("Frame", exact=True).first.fill('{"hi":"{token}"}')
        connect(page)
        expect(frames(page, "in").locator(".preview")).to_have_text('{"hi":"s3cret"}')
        expect(frames(page, "out").locator(".preview")).to_have_text('{"hi":"{token}"}')
        lines = [line for ran in gateway.invocations for line in ran.lines]
        assert """query {'a': '1', 'ticket': 's3"cret'} protocols """ in lines
        assert "query {} protocols chat, v2, bearer.s3cret" in lines

    def test_options_are_kept_and_tokens_are_not(self, page):
        page.get_by_text("Options").click()
        page.get_by_label("Token", exact=True).fill("s3cret")
        page.get_by_label("Token goes").select_option("into a sub-protocol, behind")
        page.get_by_label("Prefix").fill("key.")
        connect(page, "user=1")
        page.reload()
        page.get_by_text("Options").click()
        expect(page.get_by_label("Query", exact=True)).to_have_value("user=1")
        expect(page.get_by_label("Prefix")).to_have_value("key.")
        expect(page.get_by_label("Token", exact=True)).to_have_value("")
        kept = page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")
        assert "user=1" in kept
        assert "s3cret" not in kept


class TestWhatWasSent:
    def test_arrow_keys_recall_it_even_after_a_reload(self, page):
        connect(page)
        send(page, "one", "two", "two", "three\nlines")
        frame = page.get_by_label("Frame", exact=True)
        frame.fill("draft")
        shown = []
        for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowDown", "ArrowDown"):
            frame.press(key)
            shown.append(frame.input_value())
        # In a frame of several lines the arrows move the cursor until it is in the first one.
        assert shown == ["three\nlines", "three\nlines", "two", "one", "one", "two", "three\nlines"]
        frame.press("ArrowDown")
        assert frame.input_value() == "draft"
        page.reload()
        frame.press("ArrowUp")
        assert frame.input_value() == "three\nlines"


class TestBounds:
    def test_a_flood_leaves_the_last_frames_and_is_not_announced(self, page, gateway):
        page.evaluate(
            """() => {
                window.said = [];
                const look = () => said.push(document.getElementById("status").textContent);
                new MutationObserver(look).observe(document.getElementById("status"), { childList: true });
            }"""
        )
        connect(page)
        flood(gateway, 1_500)
        expect(frames(page, "in").last.locator(".preview")).to_have_text("1499")
        expect(page.locator("#frames > li")).to_have_count(1_000)
        said = page.evaluate("said")
        assert said[-1] != ""
        # One sentence in two seconds at most, whatever happens.
        assert len(said) < 15

    def test_reading_earlier_frames_is_not_disturbed(self, page, gateway):
        connect(page)
        flood(gateway, 100)
        expect(frames(page, "in").last.locator(".preview")).to_have_text("99")
        page.locator("#frames-scroll").evaluate("list => list.scrollTop = 0")
        page.wait_for_timeout(50)
        send(page, "later")
        page.get_by_role("button", name="New frames below").click()
        expect(frames(page, "in").last).to_be_in_viewport()
        expect(page.get_by_role("button", name="New frames below")).to_be_hidden()
