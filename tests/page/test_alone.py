"""The page asks nobody for anything: what it does, and what its policy refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.page.conftest import Browser
from tests.page.test_play import ENTER, opened, retype


class Server(ThreadingHTTPServer):
    """Notes what it is asked for; a browser may leave connections open, which nobody waits for."""

    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_nothing_is_asked_for(browser: Browser, own_page: Path) -> None:
    browser.driver.get("about:blank")
    browser.requests()
    opened(browser, own_page)
    retype(browser, "Rossi")
    browser.press("[data-language=ko]", ENTER)
    assert browser.requests() == [own_page.as_uri()]
    assert browser.run("performance.getEntriesByType('resource').length") == 0


#: Ways to ask for something, given where; the last two need no server.
FORBIDDEN = {
    "fetch": "fetch('{}/fetch').catch(() => 0)",
    "image": "new Image().src = '{}/image.png'",
    "script": "document.body.append(Object.assign(document.createElement('script'), "
    "{{src: '{}/script.js'}}))",
    "style sheet": "document.head.append(Object.assign(document.createElement('link'), "
    "{{rel: 'stylesheet', href: '{}/style.css'}}))",
    "frame": "document.body.append(Object.assign(document.createElement('iframe'), "
    "{{src: '{}/frame.html'}}))",
    "script inside": "document.body.append(Object.assign(document.createElement('script'), "
    "{{textContent: '1'}}))",
    "image inside": "new Image().src = 'data:image/png;base64,AAAA'",
}
REACHES = [*FORBIDDEN][:-2]


def attempt(browser: Browser, server: Server, what: str, wait: int) -> str:
    """Try it; the directive of the policy that refuses it, or nothing after a while."""
    found = browser.driver.execute_async_script(
        f"const done = arguments[0]; setTimeout(() => done(''), {wait});"
        "document.addEventListener('securitypolicyviolation', (e) => done(e.violatedDirective));"
        f"{FORBIDDEN[what].format(server.address)};"
    )
    browser.complaints()
    return str(found)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_policy_refuses(browser: Browser, own_page: Path, server: Server, what: str) -> None:
    browser.open(own_page)
    assert attempt(browser, server, what, wait=5000)
    assert server.asked == []


@pytest.mark.parametrize("what", REACHES)
def test_without_the_policy_it_would_be_seen(
    browser: Browser, tmp_path: Path, server: Server, what: str
) -> None:
    (tmp_path / "bare.html").write_text("<!doctype html><title>bare</title>", encoding="utf-8")
    browser.open(tmp_path / "bare.html")
    assert attempt(browser, server, what, wait=1000) == ""
    assert server.asked
