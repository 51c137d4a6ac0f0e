"""The chat in examples/, run as in its README: users talk, lose the network, reconnect and have missed nothing."""

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from playwright.sync_api import Browser, Error, Page, expect

from localgateway.testing import Gateway
from tests.browser.conftest import HOSTILE, SECONDS, skip

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "examples" / "chat"
ROOM = "chat:lobby"
SECRET = "the-secret-of-the-example-in-a-browser"
Enter = Callable[..., Page]


class Site(SimpleHTTPRequestHandler):
    """Serve files as `python -m http.server` does, and tokens as the README's backend does."""

    token: str | None = None

    def do_GET(self) -> None:
        if self.path != "/token" or self.token is None:
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.token.encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve(directory: Path, **edits: dict[str, str]) -> Iterator[str]:
    """Serve a copy of the example in which texts of its files, by stem, are replaced."""
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("node_modules"))
    (directory / "node_modules").symlink_to(EXAMPLE / "node_modules")
    for stem, replacements in edits.items():
        (file,) = directory.glob(f"{stem}.*")
        text = file.read_text()
        for old, new in replacements.items():
            assert old in text
            text = text.replace(old, new)
        file.write_text(text)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(directory))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def has_sdk(browser: Browser) -> None:
    if not (EXAMPLE / "node_modules").exists():
        skip("needs the JavaScript SDK: make sdk")


@pytest.fixture(scope="module")
def running(has_sdk: None) -> Iterator[Gateway]:
    # In threads: where the sockets are is remembered by processes, and forgotten by the table between two tests.
    with Gateway(PROJECT) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def site(running: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # What everybody does who runs `make dev` on another port.
    edits = {"ws://127.0.0.1:8001/api": running.url}
    with serve(tmp_path_factory.mktemp("site") / "chat", index=edits) as url:
        yield url


@pytest.fixture(autouse=True)
def the_network_may_fail(browse: Callable[..., Page], wrong: list[str]) -> Iterator[None]:
    """Ignore the browser's reports of failed connections, which these tests cause."""
    yield
    wrong[:] = [one for one in wrong if not one.startswith("WebSocket connection to")]


@pytest.fixture
def enter(site: str, gateway: Gateway, browse: Callable[..., Page]) -> Enter:
    """Open a user's page and wait until the user is in the room."""

    def enter(user: str, **options: Any) -> Page:
        page = browse(f"{site}?user={user}", **options)
        expect(state(page)).to_have_text("Live")
        expect(here(page).filter(has_text="(you)")).to_have_text(f"{user} (you)")
        return page

    return enter


def state(page: Page) -> Any:
    return page.get_by_role("status")


def here(page: Page) -> Any:
    return page.get_by_role("list", name="Who is here").get_by_role("listitem")


def said(page: Page) -> Any:
    """Return the messages, without notes."""
    return page.locator("#said .message")


def texts(page: Page) -> list[str]:
    return page.locator("#said .text").all_text_contents()


def numbers(page: Page) -> list[int]:
    return [int(number.removeprefix("#")) for number in page.locator("#said .offset").all_text_contents()]


def note(page: Page) -> Any:
    return page.locator("#said .note").last


def say(page: Page, *lines: str) -> None:
    for line in lines:
        page.get_by_label("Message", exact=True).fill(line)
        page.keyboard.press("Enter")


def publish(gateway: Gateway, *data: Any) -> None:
    for first in range(0, len(data), 100):
        messages = [{"data": each} for each in data[first : first + 100]]
        assert gateway.call("POST", f"/channels/{ROOM}/messages", {"messages": messages}).status == 200


def connection_of(gateway: Gateway, user: str) -> str:
    gateway.settle()
    (connection,) = gateway.call("GET", f"/users/{user}/connections").body["connections"]
    return str(connection["connectionId"])


def have_all(lines: list[str], *pages: Page) -> None:
    """Wait until each page shows these messages, in the order of their offsets, without a gap."""
    for page in pages:
        expect(said(page)).to_have_count(len(lines))
        assert (texts(page), numbers(page)) == (lines, list(range(1, len(lines) + 1)))


class TestTalking:
    def test_people_see_who_is_here_and_what_each_says(self, enter: Enter) -> None:
        alice, bob = enter("alice"), enter("bob")
        expect(here(alice)).to_have_text(["alice (you)", "bob"])
        expect(here(bob)).to_have_text(["alice", "bob (you)"])
        say(alice, "one", "two")
        expect(said(bob)).to_have_text(["aliceone#1", "alicetwo#2"])
        say(bob, "three")
        have_all(["one", "two", "three"], alice, bob)
        expect(bob.locator("#outbox li")).to_have_count(0)

    def test_a_disconnected_user_stays_listed_for_a_while(
        self, enter: Enter, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        departures = gateway.app.peal.departures
        monkeypatch.setattr(departures, "limits", departures.limits._replace(grace_seconds=6))
        alice, bob = enter("alice"), enter("bob")
        expect(here(bob)).to_have_count(2)
        alice.close()
        # She may be on her way back.
        carol = enter("carol")
        expect(here(carol)).to_have_text(["alice", "bob", "carol (you)"])
        for page in (bob, carol):
            expect(here(page).filter(has_text="alice")).to_have_count(0, timeout=3 * SECONDS * 1_000)

    def test_history_is_shown_and_more_on_request(self, enter: Enter, gateway: Gateway) -> None:
        publish(gateway, *({"text": f"{n}"} for n in range(1, 231)))
        alice = enter("alice")
        expect(said(alice)).to_have_count(100)
        earlier = alice.get_by_role("button", name="Earlier messages")
        earlier.click()
        expect(said(alice)).to_have_count(200)
        earlier.click()
        expect(earlier).to_be_hidden()
        have_all([f"{n}" for n in range(1, 231)], alice)

    def test_hostile_text_is_text(self, enter: Enter, gateway: Gateway, wrong: list[str]) -> None:
        alice = enter("alice")
        publish(
            gateway, {"text": HOSTILE}, {"text": {"html": HOSTILE}}, HOSTILE, None, {"text": "\u202e" + "x" * 3_000}
        )
        expect(said(alice)).to_have_count(5)
        assert texts(alice)[0] == HOSTILE
        assert texts(alice)[3] == "null"
        expect(said(alice).first).to_have_text(f"server{HOSTILE}#1")
        assert alice.locator("#said img, #said script").count() == 0
        assert alice.title() == "The lobby"
        assert alice.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # The page's policy would see to it, too.
        with pytest.raises(Error, match="TrustedHTML"):
            alice.evaluate("document.body.innerHTML = '<b>'")
        assert "TrustedHTML" in wrong.pop()

    def test_it_asks_for_a_name_and_works_by_keyboard(
        self, site: str, gateway: Gateway, browse: Callable[..., Page]
    ) -> None:
        page = browse(site, viewport={"width": 400, "height": 700})
        expect(page.get_by_label("Who are you?")).to_be_focused()
        page.keyboard.type("no spaces")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_be_hidden()
        page.get_by_label("Who are you?").fill("dave")
        page.keyboard.press("Enter")
        expect(here(page)).to_have_text("dave (you)")
        page.keyboard.type("hi")
        page.keyboard.press("Enter")
        expect(said(page)).to_have_text(["davehi#1"])
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


class TestReconnecting:
    def test_nothing_is_missing_or_repeated(self, enter: Enter, gateway: Gateway) -> None:
        alice, bob = enter("alice"), enter("bob")
        say(alice, "before")
        expect(said(bob)).to_have_count(1)
        alice.evaluate("window.isTheSamePage = true")
        alice.context.set_offline(True)
        expect(state(alice)).to_have_text("Offline, coming back by itself")
        # In all more than one frame holds.
        lines = [f"{n} " + "x" * 1_900 for n in range(30)]
        say(bob, *lines[:5])
        expect(said(bob)).to_have_count(6)
        publish(gateway, *({"text": line} for line in lines[5:]))
        say(alice, "from the tunnel", "and again")
        expect(alice.locator("#outbox li")).to_have_count(2)
        expect(said(bob)).to_have_count(31)
        expect(here(bob)).to_have_count(2)
        expect(said(alice)).to_have_count(1)

        alice.context.set_offline(False)
        have_all(["before", *lines, "from the tunnel", "and again"], alice, bob)
        expect(alice.locator("#outbox li")).to_have_count(0)
        expect(note(alice)).to_have_text(re.compile(r"^Away for \d+ s\. You missed #2 to #31, and here it is:$"))
        order = alice.locator("#said li").evaluate_all("rows => rows.map(row => row.className)")
        assert order.index("note") == 1
        assert alice.evaluate("window.isTheSamePage")

    def test_a_user_offline_during_a_conversation_gets_all_of_it(self, enter: Enter, gateway: Gateway) -> None:
        alice, bob = enter("alice"), enter("bob")
        lines = [f"{n}" for n in range(30)]
        say(bob, *lines[:10])
        gateway.cut(connection_of(gateway, "alice"))
        say(bob, *lines[10:20])
        expect(said(alice)).to_have_count(20)
        gateway.faults.lose_disconnect()
        gateway.cut(connection_of(gateway, "alice"))
        say(bob, *lines[20:])
        have_all(lines, alice, bob)

    def test_a_message_whose_reply_is_lost_appears_once(self, enter: Enter, gateway: Gateway) -> None:
        alice, bob = enter("alice"), enter("bob")
        connection_id = connection_of(gateway, "alice")
        gateway.faults.delay_post(1, connection_id=connection_id)
        say(alice, "hello")
        expect(said(bob)).to_have_count(1)
        expect(alice.locator("#outbox li")).to_have_text("hellowaiting")
        gateway.cut(connection_id)
        expect(said(alice)).to_have_text(["alicehello#1"])
        expect(alice.locator("#outbox li")).to_have_count(0)
        say(alice, "again")
        have_all(["hello", "again"], alice, bob)

    def test_a_room_with_a_new_epoch_starts_again_and_says_so(self, enter: Enter, gateway: Gateway) -> None:
        alice = enter("alice")
        publish(gateway, *({"text": f"old {n}"} for n in range(3)))
        expect(said(alice)).to_have_count(3)
        # As when `make dev` is started again: nobody is connected, and the table is empty.
        gateway.reset()
        publish(gateway, {"text": "new"})
        expect(said(alice)).to_have_text(["servernew#1"])
        expect(note(alice)).to_have_text(
            "You were away for too long, or the room has begun anew. This is what it still has."
        )
        expect(state(alice)).to_have_text("Live")

    def test_a_user_can_disconnect_and_reconnect(self, enter: Enter, gateway: Gateway) -> None:
        alice = enter("alice")
        alice.get_by_role("button", name="Go offline").click()
        expect(state(alice)).to_have_text("Offline")
        publish(gateway, {"text": "missed"})
        say(alice, "later")
        alice.get_by_role("button", name="Come back").click()
        expect(said(alice)).to_have_text(["servermissed#1", "alicelater#2"])
        expect(note(alice)).to_have_text(re.compile(r"You missed #1, and here it is:$"))


class TestDisconnects:
    def test_a_kicked_user_sees_why_and_reconnects_only_by_hand(self, enter: Enter, gateway: Gateway) -> None:
        alice = enter("alice")
        gateway.call("DELETE", "/users/alice/connections?code=signed-out&reason=Bye%20%3Cb%3E")
        expect(state(alice)).to_have_text("Sent away: Bye <b>")
        publish(gateway, {"text": "missed"})
        alice.get_by_role("button", name="Come back").click()
        expect(said(alice)).to_have_text(["servermissed#1"])
        expect(state(alice)).to_have_text("Live")

    def test_a_user_removed_from_the_room_too(self, enter: Enter, gateway: Gateway) -> None:
        alice = enter("alice")
        gateway.call("DELETE", f"/channels/{ROOM}/members/alice")
        expect(state(alice)).to_have_text("Sent away: unsubscribed by the server")
        alice.get_by_role("button", name="Come back").click()
        expect(state(alice)).to_have_text("Live")


@pytest.fixture(scope="module")
def strict(has_sdk: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    environment = {"ALLOW_ANONYMOUS": "false", "ALLOW_LATE_AUTHENTICATION": "true", "JWT_SECRETS": SECRET}
    (change,) = re.findall(r"```js\n(.*?)\n```", (EXAMPLE / "README.md").read_text(), re.S)
    (line,) = re.findall(r"^ *(const centrifuge = .*)$", (EXAMPLE / "room.js").read_text(), re.M)
    with (
        Gateway(PROJECT, workers=True, environment=environment) as gateway,
        serve(
            tmp_path_factory.mktemp("strict") / "chat",
            index={"ws://127.0.0.1:8001/api": gateway.url},
            room={line: change},
        ) as url,
    ):
        # Functions run once before the page, for the SDK gives up after five seconds.
        probe = gateway.connect()
        probe.sends({"action": "ping"})
        probe.receives({"type": "error"}, within=3 * SECONDS)
        probe.closes()
        yield url


class TestOnAws:
    """Only clients with a token may connect: README.md says what to change."""

    def test_the_backends_token_is_used_and_missing_grants_are_shown(
        self, strict: str, browse: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def token(user: str, *verbs: str) -> str:
            claims = {"sub": user, "exp": time.time() + 60, "channels": {ROOM: ["subscribe", "history", *verbs]}}
            return jwt.encode(claims, SECRET)

        monkeypatch.setattr(Site, "token", token("alice", "presence", "publish"))
        alice = browse(f"{strict}?user=alice")
        expect(here(alice)).to_have_text("alice (you)")
        say(alice, "hi")
        expect(said(alice)).to_have_text(["alicehi#1"])
        monkeypatch.setattr(Site, "token", token("bob", "presence"))
        bob = browse(f"{strict}?user=bob")
        expect(here(bob)).to_have_text(["alice", "bob (you)"])
        expect(said(bob)).to_have_text(["alicehi#1"])
        say(bob, "me too")
        expect(note(bob)).to_have_text(re.compile("^Not sent: “me too”. The server says: "))
        expect(bob.locator("#outbox li")).to_have_count(0)
