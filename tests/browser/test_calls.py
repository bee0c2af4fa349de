"""JsSIP and SIP.js as they are, in Chromium, against the relay over wss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from relay.probe.audio import similarity
from relay.probe.certificates import Pair
from relay.probe.remote import Endpoint
from tests.browser.conftest import Browsers
from tests.browser.driver import SAME, Page
from tests.browser.region import OUTSIDE, VoiceRegion, voice_region, wire
from tests.interop.region import need_pjsua2
from tests.interop.voice_clients import NUMBERS, token

Voices = dict[str, Path]
SOON_S = 0.8  # from an answer to the keys
LIBRARIES = ("jssip", "sipjs")
each_library = pytest.mark.parametrize("library", LIBRARIES)


@pytest.fixture(autouse=True)
def _programs() -> None:
    need_pjsua2()


@asynccontextmanager
async def phone(
    r: VoiceRegion, side: str, voices: Voices, tmp_path: Path, **more: Any
) -> AsyncIterator[Endpoint]:
    """A pjsua2 phone, which answers at once."""
    endpoint = await Endpoint.start(r.phone(side, voices, tmp_path, **more))
    try:
        yield endpoint
    finally:
        await endpoint.stop()


async def up(page: Page) -> None:
    """Answered, and the audio has its keys."""
    await page.wait("confirmed")
    await page.wait("media", state="connected")


async def talk(page: Page, other: Endpoint, voices: Voices) -> None:
    """Both speak from the first word on, and the page hears the phone."""
    await page.run("clear")
    await other.send("play")
    await page.run("speak")
    heard = await page.hear(*voices.values())
    assert similarity(heard, voices["bob"]) > SAME


async def converse(alice: Page, bob: Page, voices: Voices) -> None:
    """Two pages speak at once, and each hears the other."""
    for page in (alice, bob):
        await page.run("clear")
    await asyncio.gather(alice.run("speak"), bob.run("speak"))
    heard = await asyncio.gather(*(page.hear(*voices.values()) for page in (alice, bob)))
    assert similarity(heard[0], voices["bob"]) > SAME
    assert similarity(heard[1], voices["alice"]) > SAME


def assert_secured_soon(r: VoiceRegion) -> None:
    """The called page checks as soon as it answers; its keys are there before it has been missed.

    It took 1.6 s while its checks were heard only once the relay had its answer.
    """
    process = r.region.process
    lines = process.wait("call_answered"), process.wait("media_secured", side="callee")
    answered, secured = (datetime.fromisoformat(line["timestamp"]) for line in lines)
    assert (secured - answered).total_seconds() < SOON_S


def assert_phone_heard(other: Endpoint, voices: Voices) -> None:
    """Its recording is whole once it has ended."""
    assert other.setup.record is not None
    assert similarity(other.setup.record, voices["alice"]) > SAME


@each_library
def test_a_page_calls_a_trunk(
    browsers: Browsers, voices: Voices, pair: Pair, tmp_path: Path, library: str
) -> None:
    async def test(r: VoiceRegion) -> None:
        async with phone(r, "carrier", voices, tmp_path) as carrier:
            page = await r.sign_in(browsers, "alice", library)
            await page.run("call", target=r.uri(OUTSIDE))
            incoming = await carrier.wait("incoming")
            assert NUMBERS["alice"] in incoming["uri"]  # the token's, not what the page says
            await up(page)
            await talk(page, carrier, voices)
            assert (await page.run("figures"))["codec"] == "audio/PCMU"
            await page.run("keys", digits="7")
            await carrier.wait("dtmf", key="7")
            await page.run("hangup")
            await carrier.wait("bye")
            await page.wait("ended")
        assert_phone_heard(carrier, voices)

    with voice_region(tmp_path, browsers.origin, pair) as r:
        browsers.run(test(r))


@each_library
def test_a_trunk_calls_a_page(
    browsers: Browsers, voices: Voices, pair: Pair, tmp_path: Path, library: str
) -> None:
    async def test(r: VoiceRegion) -> None:
        async with phone(r, "pbx", voices, tmp_path) as pbx:
            page = await r.sign_in(browsers, "alice", library)
            await pbx.send("call", uri=f"sip:{NUMBERS['alice']}@{r.region.relay}")
            await page.wait("incoming")
            await page.run("answer")
            await asyncio.gather(up(page), pbx.wait("state", state="confirmed"))
            assert_secured_soon(r)
            await talk(page, pbx, voices)
            await pbx.send("hangup")
            await page.wait("ended")
        assert_phone_heard(pbx, voices)

    with voice_region(tmp_path, browsers.origin, pair) as r:
        browsers.run(test(r))


@pytest.mark.parametrize(("caller", "callee"), [("jssip", "sipjs"), ("sipjs", "jssip")])
def test_two_browsers_call_each_other(
    browsers: Browsers, voices: Voices, pair: Pair, tmp_path: Path, caller: str, callee: str
) -> None:
    """Opus passes through as it is."""

    async def test(r: VoiceRegion) -> None:
        alice = await r.sign_in(browsers, "alice", caller)
        bob = await r.sign_in(browsers, "bob", callee)
        await alice.run("call", target=r.uri("bob"))
        await alice.wait("ringing", status=180)
        assert (await bob.wait("incoming"))["from"] == "alice"
        await bob.run("answer")
        await asyncio.gather(up(alice), up(bob))
        assert_secured_soon(r)
        await converse(alice, bob, voices)
        figures = await bob.run("figures")
        assert figures["codec"] == "audio/opus"
        assert figures["reported"]["packetsLost"] == 0  # the relay's reports
        await bob.run("hangup")
        await asyncio.gather(alice.wait("ended"), bob.wait("ended"))

    with voice_region(tmp_path, browsers.origin, pair) as r:
        browsers.run(test(r))


@each_library
def test_a_call_that_nobody_wants_is_refused_with_the_callees_own_word(
    browsers: Browsers, pair: Pair, tmp_path: Path, library: str
) -> None:
    async def test(r: VoiceRegion) -> None:
        alice = await r.sign_in(browsers, "alice", "jssip")
        bob = await r.sign_in(browsers, "bob", library)
        await alice.run("call", target=r.uri("bob"))
        await bob.wait("incoming")
        await bob.run("reject", code=486)
        await alice.wait("failed", status=486)
        await alice.run("call", target=r.uri("bob"))
        await bob.wait("incoming", count=2)
        await alice.run("hangup")
        await bob.wait("ended" if library == "sipjs" else "failed")

    with voice_region(tmp_path, browsers.origin, pair) as r:
        browsers.run(test(r))


@each_library
def test_hold_and_back(
    browsers: Browsers, voices: Voices, pair: Pair, tmp_path: Path, library: str
) -> None:
    async def test(r: VoiceRegion) -> None:
        async with phone(r, "carrier", voices, tmp_path) as carrier:
            page = await r.sign_in(browsers, "alice", library)
            await page.run("call", target=r.uri(OUTSIDE))
            await up(page)
            await carrier.wait("media", active=True)
            await page.run("hold")
            await carrier.wait("media", active=False)
            carrier.events.clear()
            await page.run("resume")
            await carrier.wait("media", active=True)
            await talk(page, carrier, voices)
            carrier.events.clear()
            await carrier.send("hold")
            await carrier.wait("media", active=False)
            carrier.events.clear()
            await carrier.send("resume")
            await carrier.wait("media", active=True)
            await talk(page, carrier, voices)
            await page.run("hangup")
            await carrier.wait("bye")

    with voice_region(tmp_path, browsers.origin, pair) as r:
        browsers.run(test(r))


@each_library
def test_a_connection_that_breaks_keeps_its_call(
    browsers: Browsers, voices: Voices, pair: Pair, tmp_path: Path, library: str
) -> None:
    """The page comes back over another connection, and both ways of the dialog go there."""

    async def test(r: VoiceRegion) -> None:
        async with wire(r) as line, phone(r, "carrier", voices, tmp_path) as carrier:
            page = await r.sign_in(browsers, "alice", library)
            await page.run("call", target=r.uri(OUTSIDE))
            await up(page)
            line.cut()
            await page.wait("connection", up=False)
            await page.wait("connection", up=True, count=2)
            await page.wait("registered", count=2)
            await talk(page, carrier, voices)
            await page.run("hold")
            await carrier.wait("media", active=False)
            await carrier.send("hangup")
            await page.wait("ended")

    with voice_region(tmp_path, browsers.origin, pair) as r:
        browsers.run(test(r))


@each_library
def test_ice_is_restarted_and_the_voice_goes_on(
    browsers: Browsers, voices: Voices, pair: Pair, tmp_path: Path, library: str
) -> None:
    async def test(r: VoiceRegion) -> None:
        async with phone(r, "carrier", voices, tmp_path) as carrier:
            page = await r.sign_in(browsers, "alice", library)
            await page.run("call", target=r.uri(OUTSIDE))
            await up(page)
            before = (await page.run("figures"))["ufrag"]
            await page.run("restart")
            await talk(page, carrier, voices)
            after = (await page.run("figures"))["ufrag"]
            assert before and after and before != after
            await page.run("hangup")
            await carrier.wait("bye")
        assert_phone_heard(carrier, voices)

    with voice_region(tmp_path, browsers.origin, pair) as r:
        browsers.run(test(r))


def test_a_page_of_another_origin_is_not_let_in(
    browsers: Browsers, pair: Pair, tmp_path: Path
) -> None:
    async def test(r: VoiceRegion) -> None:
        page = await browsers.test_page("alice", "jssip")
        await page.run("start", token=token("alice"), uri=r.uri("alice"), url=r.url)
        await page.wait("connection", up=False)
        assert not [event for event in page.events if event.get("up")]

    with voice_region(tmp_path, "https://app.example.com", pair) as r:
        browsers.run(test(r))


@pytest.mark.parametrize("bearer", [True, False])
def test_a_token_of_another_region_is_refused_and_a_good_one_is_not(
    browsers: Browsers, pair: Pair, tmp_path: Path, bearer: bool
) -> None:
    """As RFC 8898 has it, and as user name and password of a digest."""

    async def test(r: VoiceRegion) -> None:
        page = await browsers.test_page("alice", "jssip")
        foreign = token("alice", region="au1")
        given = {"uri": r.uri("alice"), "url": r.url, "bearer": bearer}
        await page.run("start", token=foreign, **given)
        refused = await page.wait("register_failed")
        assert refused["status"] in (401, 403)
        await r.sign_in(browsers, "bob", "jssip", bearer=bearer)

    with voice_region(tmp_path, browsers.origin, pair) as r:
        browsers.run(test(r))
