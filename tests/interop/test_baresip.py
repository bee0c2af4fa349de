"""baresip as callee and as caller; the pjsua2 endpoint on the other side listens.

baresip sends its RTP from 127.0.0.1 whatever address its SDP names, as a phone behind a NAT
would: its trunk has `symmetric_rtp`, so these calls also show that the source is learned.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.probe.audio import similarity, speak
from relay.probe.remote import Endpoint, Setup
from tests.interop.phones import NUMBER, SAME
from tests.interop.region import Party, Region, need, need_pjsua2, region
from tests.interop.sipp_run import listens

NATTED = {"symmetric_rtp": True}
CONFIG = """
sip_listen {own}
module_path {modules}
module g711.so
module aufile.so
module srtp.so
module sndfile.so
module_tmp account.so
module_app menu.so
audio_source aufile,{voice}
snd_path {home}
rtp_ports 30000-30100
"""
MODULES = Path("/usr/lib/baresip/modules")


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("baresip", "espeak-ng")
    need_pjsua2()


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voice") / "baresip.wav"
    speak("Good afternoon, this is the other phone. Everything works as it should.", "en-gb", path)
    return path


@contextmanager
def baresip(
    own: Party, voice: Path, directory: Path, dial: str = "", srtp: bool = False
) -> Iterator[None]:
    """A baresip that answers by itself, or dials; with `srtp` it has no plain RTP."""
    home = directory / "baresip"
    home.mkdir()
    (home / "config").write_text(CONFIG.format(own=own, voice=voice, modules=MODULES, home=home))
    account = f"<sip:{NUMBER}@{own}>;regint=0;answermode=auto;audio_codecs=PCMU"
    account += ";mediaenc=srtp-mand" if srtp else ""
    (home / "accounts").write_text(account + "\n")
    (home / "contacts").touch()
    commands = ("-e", f"d {dial}") if dial else ()
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["baresip", "-4", "-f", str(home), "-n", own.host, *commands],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def heard_by_baresip(directory: Path) -> Path:
    """What its sndfile module kept of the audio that it decoded."""
    (found,) = (directory / "baresip").glob("*-dec.wav")
    return found


async def _until_listening(own: Party, deadline_s: float = 15.0) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    while not await asyncio.to_thread(listens, own):
        assert loop.time() < deadline, f"baresip does not listen at {own}"


async def _hear(endpoint: Endpoint) -> None:
    """Both are in the call; stay until what baresip says has been heard, then hang up."""
    await endpoint.wait("state", 20, state="confirmed")
    await endpoint.wait("played", 30)  # it plays the same file, so it is as long
    await endpoint.send("hangup")
    await endpoint.wait("bye")


SECURE = {**NATTED, "srtp": "required"}


@pytest.mark.parametrize("srtp", [False, True], ids=["plain", "srtp"])
def test_baresip_answers(tmp_path: Path, voice: Path, srtp: bool) -> None:
    """The PBX (pjsua2) hears what baresip plays; baresip's media may be SRTP, the PBX's not."""
    heard = tmp_path / "heard.wav"

    async def steps(r: Region) -> None:
        await _until_listening(r.carrier)
        setup = Setup("caller", r.pbx.host, r.pbx.port, play=voice, record=heard)
        caller = await Endpoint.start(setup)
        try:
            await caller.send("call", uri=f"sip:{NUMBER}@{r.relay}")
            await _hear(caller)
        finally:
            await caller.stop()

    with (
        region(tmp_path, carrier=SECURE if srtp else NATTED) as r,
        baresip(r.carrier, voice, tmp_path, srtp=srtp),
    ):
        asyncio.run(steps(r))
        assert bool(r.process.wait("call_answered")["callee_srtp"]) == srtp
        assert r.ended()["cause"] == "caller hung up"
    assert similarity(heard, voice) > SAME
    assert similarity(heard_by_baresip(tmp_path), voice) > SAME


@pytest.mark.parametrize("srtp", [False, True], ids=["plain", "srtp"])
def test_baresip_calls(tmp_path: Path, voice: Path, srtp: bool) -> None:
    """The carrier (pjsua2) hears baresip, and hangs up."""
    heard = tmp_path / "heard.wav"

    async def steps(r: Region) -> None:
        setup = Setup("callee", r.carrier.host, r.carrier.port, play=voice, record=heard)
        callee = await Endpoint.start(setup)
        try:
            with baresip(r.pbx, voice, tmp_path, f"sip:{NUMBER}@{r.relay}", srtp):
                await _hear(callee)
                await asyncio.to_thread(r.ended)
        finally:
            await callee.stop()

    with region(tmp_path, pbx=SECURE if srtp else NATTED) as r:
        asyncio.run(steps(r))
        assert bool(r.process.wait("call_answered")["caller_srtp"]) == srtp
        assert r.ended()["cause"] == "callee hung up"
    assert similarity(heard, voice) > SAME
    assert similarity(heard_by_baresip(tmp_path), voice) > SAME
