"""The tests' own ears: what a page hears of a microphone with no relay between them."""

from __future__ import annotations

from pathlib import Path

from relay.probe.audio import similarity
from tests.browser.conftest import Browsers
from tests.browser.driver import SAME


def test_a_page_hears_its_own_microphone_from_the_first_word(
    browsers: Browsers, voices: dict[str, Path]
) -> None:
    async def test() -> None:
        page = await browsers.test_page("alice", "loopback")
        await page.run("start")
        await page.wait("media", state="connected")
        await page.run("clear")
        await page.run("speak")
        heard = await page.hear(voices["alice"])
        assert similarity(heard, voices["alice"]) > SAME
        assert similarity(heard, voices["bob"]) < SAME / 2
        assert (await page.run("figures"))["codec"] == "audio/opus"

    browsers.run(test())
