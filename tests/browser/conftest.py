"""Two browsers, each with a voice of its own, and a place that pages come from."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import itertools
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.probe.audio import speak
from relay.probe.certificates import Authority, Pair
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
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The relay's certificate, which the browsers know by its key."""
    return Authority(tmp_path_factory.mktemp("ca")).issue("relay")


def _public_key(pair: Pair) -> str:
    """As Chromium's flag has it: SHA-256 of the SubjectPublicKeyInfo, in base64."""
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    known = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(known).digest()).decode()


@pytest.fixture(scope="session")
def started(voices: dict[str, Path], origin: str, pair: Pair) -> Iterator[Browsers]:
    need("node", "chromium")
    trusted = f"--ignore-certificate-errors-spki-list={_public_key(pair)}"
    with asyncio.Runner() as runner:
        driver = runner.run(Driver.start())
        for name, voice in voices.items():
            runner.run(driver.launch(name, voice, trusted))
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
