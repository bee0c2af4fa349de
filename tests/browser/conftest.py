"""Two browsers, each with a voice of its own, and a place that pages come from."""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from relay.probe.audio import speak
from tests.browser.driver import ROOT, Driver, Page
from tests.interop.region import need

BUILT = ROOT / "build/browser"
VOICES = {
    "alice": ("en-gb", "One two three, four five six, all good children."),
    "bob": ("en-us+f3", "Good day, hello, and how are you over there?"),
}


@pytest.fixture(scope="session")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each browser's microphone says, by the browser's name."""
    need("espeak-ng")
    directory = tmp_path_factory.mktemp("voices")
    made = {}
    for name, (voice, text) in VOICES.items():
        made[name] = directory / f"{name}.wav"
        speak(text, voice, made[name])
    return made


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="session")
def origin() -> Iterator[str]:
    """Where the test pages come from, as a browser names it."""
    if not (BUILT / "jssip.html").exists():
        pytest.fail("the pages are not built: `make test` builds them")
    serve = functools.partial(_Quiet, directory=str(BUILT))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@dataclass(slots=True)
class Browsers:
    """alice's and bob's, started once; `run` runs a test's coroutine on their loop."""

    driver: Driver
    origin: str
    runner: asyncio.Runner
    _numbers: itertools.count[int]

    def run(self, test: Coroutine[Any, Any, None], deadline_s: float = 90.0) -> None:
        self.runner.run(asyncio.wait_for(test, deadline_s))

    async def open(self, browser: str, url: str, **options: Any) -> Page:
        """A new page; `scripts` run before its own."""
        page = Page(self.driver, f"{browser}-{next(self._numbers)}")
        await self.driver.do("open", browser=browser, page=page.name, url=url, **options)
        return page

    async def test_page(self, browser: str, name: str) -> Page:
        """One of web/test."""
        return await self.open(browser, f"{self.origin}/{name}.html")


@pytest.fixture(scope="session")
def started(voices: dict[str, Path], origin: str) -> Iterator[Browsers]:
    need("node", "chromium")
    with asyncio.Runner() as runner:
        driver = runner.run(Driver.start())
        for name, voice in voices.items():
            runner.run(driver.launch(name, voice))
        yield Browsers(driver, origin, runner, itertools.count())
        runner.run(driver.stop())


@pytest.fixture
def browsers(started: Browsers) -> Iterator[Browsers]:
    """No page of another test is open, and none may throw."""
    yield started
    driver = started.driver
    names = {event["page"] for event in driver.events if "page" in event}
    problems = [text for name in names for text in Page(driver, name).problems()]
    started.runner.run(driver.do("close_all"))
    driver.events.clear()
    assert not problems, problems
