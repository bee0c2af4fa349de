"""The demo page as the relay serves it, used as a person does: by labels, buttons and keys."""

from __future__ import annotations

import asyncio
from pathlib import Path

from relay.probe.certificates import Pair
from relay.probe.remote import Endpoint
from tests.browser.conftest import Browsers
from tests.browser.driver import Page
from tests.browser.region import OUTSIDE, VoiceRegion, voice_region
from tests.interop.region import need_pjsua2
from tests.interop.voice_clients import NUMBERS, token

READY = "Ready. Others can call you."
LOUD = """["level-sent", "level-heard"].every(
  (id) => document.getElementById(id).value > 0.3)"""
MEASURED = """["loss-in", "loss-out", "jitter-in", "jitter-out", "mos-in", "mos-out", "rtt"].every(
  (id) => /^[0-9.]+( %| ms)?$/.test(document.getElementById(id).textContent))"""


async def sees(page: Page, text: str) -> None:
    """The status line says this."""
    await page.do("see", selector=f'#status:text-is("{text}")')


async def press(page: Page, *buttons: str) -> None:
    for name in buttons:
        await page.do("click", role="button", name=name)


async def dial(page: Page, target: str) -> None:
    await page.do("fill", label="Number or name", text=target)
    await press(page, "Call")


async def signed_in(browsers: Browsers, r: VoiceRegion, name: str) -> Page:
    """By a link such as `make run` prints."""
    page = await browsers.open(name, f"http://{r.http}/#token={token(name)}")
    await sees(page, READY)
    return page


def test_two_people_call_each_other(browsers: Browsers, pair: Pair, tmp_path: Path) -> None:
    async def test(r: VoiceRegion) -> None:
        alice, bob = await asyncio.gather(
            signed_in(browsers, r, "alice"), signed_in(browsers, r, "bob")
        )
        assert await alice.do("evaluate", script="location.href") == f"http://{r.http}/"
        await dial(alice, "bob")
        await sees(alice, "It rings at bob …")
        await sees(bob, "alice is calling you.")
        await press(bob, "Answer")
        await asyncio.gather(
            sees(alice, "You are talking with bob."), sees(bob, "You are talking with alice.")
        )
        await asyncio.gather(*(page.do("until", script=LOUD) for page in (alice, bob)))
        await asyncio.gather(*(page.do("until", script=MEASURED) for page in (alice, bob)))
        await press(alice, "Mute")
        await bob.do("until", script='document.getElementById("level-heard").value < 0.1')
        await press(alice, "Mute")
        await press(bob, "Hold")
        await asyncio.gather(sees(alice, "bob holds you."), sees(bob, "You hold alice."))
        await press(bob, "Hold")
        await sees(alice, "You are talking with bob.")
        await press(bob, "Hang up")
        await asyncio.gather(
            sees(bob, "The call is over. You hung up."),
            sees(alice, "The call is over. They hung up."),
        )
        await dial(bob, "alice")
        await press(alice, "Reject")
        await sees(bob, "The call is over. They do not want to answer.")

    with voice_region(tmp_path, browsers.origin, pair, secure=False) as r:
        browsers.run(test(r))


def test_keys_reach_a_telephone(
    browsers: Browsers, voices: dict[str, Path], pair: Pair, tmp_path: Path
) -> None:
    """By the keypad's buttons, and by the computer's own keys."""
    need_pjsua2()

    async def test(r: VoiceRegion) -> None:
        carrier = await Endpoint.start(r.phone("carrier", voices, tmp_path))
        try:
            page = await signed_in(browsers, r, "alice")
            await dial(page, OUTSIDE)
            await sees(page, f"You are talking with {OUTSIDE}.")
            await page.do("until", script=LOUD)
            await press(page, "5")
            await carrier.wait("dtmf", key="5")
            await page.do("press", key="#")
            await carrier.wait("dtmf", key="#")
            assert await page.do("text", selector="#keys") == "5#"
            await carrier.send("hangup")
            await sees(page, "The call is over. They hung up.")
        finally:
            await carrier.stop()

    with voice_region(tmp_path, browsers.origin, pair, secure=False) as r:
        browsers.run(test(r))


def test_why_something_did_not_work_is_said_in_words(
    browsers: Browsers, pair: Pair, tmp_path: Path
) -> None:
    async def test(r: VoiceRegion) -> None:
        page = await browsers.open("alice", f"http://{r.http}/")
        await sees(page, "Sign in with an access token.")
        await page.do("fill", label="Access token", text="hello")
        await press(page, "Sign in")
        await sees(page, "That is not an access token: it has three parts with dots between them.")
        await page.do("fill", label="Access token", text=token("alice", region="au1"))
        await press(page, "Sign in")
        await page.do("see", selector='#status:has-text("The relay does not accept this token: ")')
        await page.do("fill", label="Access token", text=token("alice"))
        await press(page, "Sign in")
        await sees(page, READY)
        await dial(page, "bob")
        await page.do("see", selector='#status:has-text("They cannot be reached right now")')
        await press(page, "Sign out")
        await sees(page, "Signed out.")

    with voice_region(tmp_path, browsers.origin, pair, secure=False) as r:
        browsers.run(test(r))


def test_a_trunk_calls_the_page_and_a_reload_stays_signed_in(
    browsers: Browsers, voices: dict[str, Path], pair: Pair, tmp_path: Path
) -> None:
    need_pjsua2()

    async def test(r: VoiceRegion) -> None:
        pbx = await Endpoint.start(r.phone("pbx", voices, tmp_path))
        try:
            page = await signed_in(browsers, r, "alice")
            await page.do("reload")
            await sees(page, READY)
            await pbx.send("call", uri=f"sip:{NUMBERS['alice']}@{r.region.relay}")
            await press(page, "Answer")
            await pbx.wait("state", state="confirmed")
            await page.do("until", script=LOUD)
            await press(page, "Hang up")
            await pbx.wait("bye")
        finally:
            await pbx.stop()

    with voice_region(tmp_path, browsers.origin, pair, secure=False) as r:
        browsers.run(test(r))
