"""The console and the example in a real browser: Chromium without a window, on gateways of this process.

Where no browser is installed these tests are skipped and say why; with BROWSER=required they fail instead. Each page is
watched: an error in it, a violation of its policy or a request to anywhere but this machine fails the test.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gatewaykit import ROWS_TABLE, write_project
from localgateway.testing import Gateway

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
# Other names for this machine, which the browser knows and the gateway does not.
SITES = "MAP evil.example 127.0.0.1"
SECONDS = 10

# A plain Chalice application: it tells the log how it was called, and sends back what it is sent.
APP = """
import os, sys, time
import boto3
from chalice import Chalice, Response

app = Chalice(app_name="sample")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = boto3.session.Session()

@app.on_ws_connect()
def connect(event):
    told = event.to_dict()
    query, protocols = told.get("queryStringParameters", {}), told["headers"].get("Sec-WebSocket-Protocol", "")
    print("query", query, "protocols", protocols)
    if "stranger" in query:
        return Response("", status_code=401)
    return Response("", headers={"Sec-WebSocket-Protocol": protocols.split(",")[0]} if protocols else {})

@app.on_ws_message()
def message(event):
    print("got", event.body)
    if event.body == "raise":
        raise ValueError("no good")
    if event.body != "silence":
        app.websocket_api.send(event.connection_id, event.body)

@app.on_ws_disconnect()
def disconnect(event):
    pass
"""


def find_browser() -> str | None:
    """Return the path of a browser, None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def skip(reason: str) -> NoReturn:
    """Skip the test, or fail it if it is required to run."""
    if os.environ.get("BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        skip(f"no browser is installed: none of {', '.join(NAMES)}")
    # Chromium's sandbox does not work for root, which CI containers are.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        options = [*sandbox, f"--host-resolver-rules={SITES}"]
        browser = playwright.chromium.launch(executable_path=path, args=options)
        expect.set_options(timeout=SECONDS * 1_000)
        yield browser
        browser.close()


@pytest.fixture(scope="session", autouse=True)
def no_aws() -> Iterator[None]:
    """An environment without any AWS settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


@pytest.fixture(scope="session")
def running(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(write_project(tmp_path_factory.mktemp("sample"), APP, prelude=""), workers=True) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    """A gateway with a plain project, without resources.json; everything in it is new."""
    running.reset()
    return running


@pytest.fixture(scope="module")
def stored(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose project has a table."""
    directory = write_project(tmp_path_factory.mktemp("stored"), APP, prelude="", resources={"Rows": ROWS_TABLE})
    with Gateway(directory, workers=True) as gateway:
        yield gateway


def console_of(gateway: Gateway, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{urlsplit(gateway.url).port}/_console"


@pytest.fixture
def wrong() -> list[str]:
    """What a page did that no page may do; it fails the test unless the test removes it."""
    return []


@pytest.fixture
def browse(browser: Browser, wrong: list[str]) -> Iterator[Callable[..., Page]]:
    """Open a page in a browser of its own; the options are those of a browser context."""
    contexts = []

    def browse(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS * 1_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
        page.on("request", lambda request: is_local(request.url) or wrong.append(request.url))
        page.goto(url)
        return page

    yield browse
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def look(browse: Callable[..., Page]) -> Callable[..., Page]:
    """Open the console of a gateway."""

    def look(gateway: Gateway, **options: Any) -> Page:
        page = browse(console_of(gateway), **options)
        expect(page.locator("#feed")).to_have_text("Live")
        return page

    return look


def is_local(url: str) -> bool:
    return urlsplit(url).hostname == "127.0.0.1"


@pytest.fixture
def page(look: Callable[..., Page], gateway: Gateway) -> Page:
    """The console of the plain project."""
    return look(gateway)


# What one does in it.


def connect(page: Page, query: str = "") -> None:
    """Open one more socket with the mouse."""
    page.locator("#options").evaluate("options => options.open = true")
    page.get_by_label("Query", exact=True).fill(query)
    opened = page.locator(".chip[data-state=open]").count()
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator(".chip[data-state=open]")).to_have_count(opened + 1)


def send(page: Page, *frames: str) -> None:
    for frame in frames:
        page.get_by_label("Frame", exact=True).fill(frame)
        page.get_by_role("button", name="Send", exact=True).click()


def flood(gateway: Gateway, count: int) -> None:
    """Post that many frames to the newest connection, as fast as one client can."""
    address = urlsplit(gateway.management_endpoint)
    with closing(HTTPConnection(address.hostname or "", address.port, timeout=SECONDS)) as client:

        def ask(method: str, path: str, body: bytes | None = None) -> bytes:
            client.request(method, path, body, {"Authorization": "AWS4-HMAC-SHA256"})
            return client.getresponse().read()

        newest = json.loads(ask("GET", "/_localgateway/connections"))["connections"][-1]["id"]
        for number in range(count):
            ask("POST", f"{address.path}/@connections/{newest}", str(number).encode())


def refusal(wrong: list[str], status: int) -> bool:
    """Return whether the browsers reported only answers with this status, and remove those reports."""
    said, wrong[:] = list(wrong), []
    return bool(said) and all(f"the server responded with a status of {status}" in one for one in said)


def show(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab).click()


def frames(page: Page, kind: str) -> Any:
    """Return the rows of a kind that are shown: `in`, `out` or `note`."""
    return page.locator(f"#frames > li.{kind}:not([hidden])")
