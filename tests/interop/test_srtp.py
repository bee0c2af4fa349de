"""SRTP with keys in the SDP (RFC 4568): two other SRTP stacks and rtpengine, with real audio.

Each leg is keyed by itself: what one side hears has been opened with one key and closed with
another, or comes from a peer that speaks plain RTP.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from relay.probe.audio import read_wav, similarity, speak
from relay.probe.remote import Endpoint, Setup
from tests.interop.region import Party, Region, free_port, need, parties, region
from tests.interop.sipp_run import answering, assert_all, listens, refused
from tests.interop.test_kamailio import CONFIG, kamailio

# Another voice gives about 0.1; a phone on a busy machine drops a frame now and then.
SAME = 0.85
RECORDED = 0.9
NUMBER = "+35315550199"
CM80, CM32 = "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"
CM256 = "AES_256_CM_HMAC_SHA1_80"
RECORDING = {"recording": "record-from-answer-dual"}


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("espeak-ng")
    if importlib.util.find_spec("pjsua2") is None:
        if os.environ.get("RELAY_NO_SKIPS"):
            pytest.fail("pjsua2 is not installed (make test installs it)")
        pytest.skip("pjsua2 is not installed (make test installs it)")


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("voices")
    texts = {"caller": ("en-gb", "Seven eight nine, ten."), "callee": ("en-us+f3", "Good day.")}
    made = {}
    for side, (voice, text) in texts.items():
        made[side] = directory / f"{side}.wav"
        speak(f"{text} Nobody on the way hears what the {side} says.", voice, made[side])
    return made


def trunk(srtp: str = "off", *suites: str, **more: object) -> dict[str, object]:
    return {"srtp": srtp, **({"srtp_suites": suites} if suites else {}), **more}


def setups(r: Region, tmp_path: Path, voices: dict[str, Path]) -> tuple[Setup, Setup]:
    """The PBX and the carrier as endpoints."""
    caller = Setup("caller", r.pbx.host, r.pbx.port, play=voices["caller"])
    callee = Setup("callee", r.carrier.host, r.carrier.port, play=voices["callee"])
    return (
        replace(caller, record=tmp_path / "caller-heard.wav"),
        replace(callee, record=tmp_path / "callee-heard.wav"),
    )


async def talk(
    r: Region, caller_setup: Setup, callee_setup: Setup, proxy: Party | None = None
) -> None:
    """A whole call, perhaps by way of a proxy: both speak to the end, the caller hangs up."""
    callee = await Endpoint.start(callee_setup)
    caller = await Endpoint.start(caller_setup)
    try:
        await caller.send("call", uri=f"sip:{NUMBER}@{proxy or r.relay}")
        await caller.wait("state", state="confirmed")
        await asyncio.gather(caller.wait("played", 30), callee.wait("played", 30))
        await caller.send("hangup")
        await asyncio.gather(caller.wait("bye"), callee.wait("bye"))
    finally:
        await caller.stop()
        await callee.stop()


def heard(tmp_path: Path, voices: dict[str, Path]) -> None:
    """Each side has heard the other one."""
    assert similarity(tmp_path / "caller-heard.wav", voices["callee"]) > SAME
    assert similarity(tmp_path / "callee-heard.wav", voices["caller"]) > SAME


def no_key_is_logged(r: Region) -> None:
    """… at any level: not the line that it came in, and so not the key."""
    assert "inline:" not in r.process.log.read_text()


@pytest.mark.parametrize(
    ("caller", "callee"),
    [
        (("required", CM80), ("off", "")),
        (("off", ""), ("required", CM32)),
        (("required", CM80), ("required", CM256)),
        (("required", CM32), ("required", CM80)),
    ],
    ids=lambda leg: "-".join(leg),
)
def test_both_voices_through_each_pair_of_legs(
    tmp_path: Path, voices: dict[str, Path], caller: tuple[str, str], callee: tuple[str, str]
) -> None:
    """… and the recording holds both, opened."""
    pbx, carrier = (trunk(mode, *([suite] if suite else [])) for mode, suite in (caller, callee))
    with region(tmp_path, pbx={**pbx, **RECORDING}, carrier=carrier, log_level="debug") as r:
        phones = [
            replace(setup, srtp=mode, srtp_suites=(suite,) if suite else ())
            for setup, (mode, suite) in zip(
                setups(r, tmp_path, voices), (caller, callee), strict=True
            )
        ]
        asyncio.run(talk(r, *phones))
        ended = r.ended()
        recording = Path(r.process.wait("recording_saved")["path"])
        no_key_is_logged(r)
    heard(tmp_path, voices)
    left, right = read_wav(recording).samples
    assert similarity(left, voices["caller"]) > RECORDED
    assert similarity(right, voices["callee"]) > RECORDED
    for side in ("caller", "callee"):
        assert not any(name.startswith("srtp") for name in ended[side]["drops"]), ended[side]


def test_best_effort_is_taken_by_who_knows_srtp(tmp_path: Path, voices: dict[str, Path]) -> None:
    """The callee's trunk offers a=crypto in RTP/AVP; this callee wants nothing else."""
    with region(tmp_path, carrier=trunk("optional")) as r:
        caller, callee = setups(r, tmp_path, voices)
        asyncio.run(talk(r, caller, replace(callee, srtp="optional")))
        answered = r.process.wait("call_answered")
        assert (answered["caller_srtp"], answered["callee_srtp"]) == ("", CM80)
        r.ended()
    heard(tmp_path, voices)


def test_best_effort_is_passed_over_by_who_does_not(
    tmp_path: Path, voices: dict[str, Path]
) -> None:
    with region(tmp_path, pbx=trunk("optional"), carrier=trunk("optional")) as r:
        asyncio.run(talk(r, *setups(r, tmp_path, voices)))
        answered = r.process.wait("call_answered")
        assert (answered["caller_srtp"], answered["callee_srtp"]) == ("", "")
        r.ended()
    heard(tmp_path, voices)


def test_a_plain_call_on_a_trunk_that_requires_srtp(tmp_path: Path) -> None:
    need("sipp")
    text = "this trunk requires SRTP"
    with region(tmp_path, pbx=trunk("required")) as r:
        assert_all(refused(488, r.pbx, r.relay, header="Warning", pattern=text))
        assert text in r.process.wait("call_refused")["text"]


def test_a_callee_that_answers_without_srtp(tmp_path: Path) -> None:
    """The caller hears whose fault it is, the callee gets a BYE."""
    need("sipp")
    with (
        region(tmp_path, carrier=trunk("required")) as r,
        answering("uas", r.carrier, "-m", "1") as callee,
    ):
        assert_all(refused(502, r.pbx, r.relay, header="Warning", pattern="requires SRTP"))
        assert_all(callee.wait())


def test_audio_goes_on_through_hold_resume_and_new_keys(
    tmp_path: Path, voices: dict[str, Path]
) -> None:
    """Hold, resume, then a re-INVITE with another key from each side; nothing fails to open."""

    async def steps(r: Region) -> None:
        caller_setup, callee_setup = (
            replace(
                setup, srtp="required", log=tmp_path / f"{setup.name}.log", srtp_suites=(suite,)
            )
            for setup, suite in zip(setups(r, tmp_path, voices), (CM80, CM32), strict=True)
        )
        callee = await Endpoint.start(callee_setup)
        caller = await Endpoint.start(caller_setup)
        try:
            await caller.send("call", uri=f"sip:{NUMBER}@{r.relay}")
            await caller.wait("state", state="confirmed")
            await callee.wait("media", active=True)
            await _packets_flow(caller, callee)
            await caller.send("hold")
            await callee.wait("media", active=False)
            callee.events.clear()
            await caller.send("resume")
            await callee.wait("media", active=True)
            await _packets_flow(caller, callee)
            for one, other in ((caller, callee), (callee, caller)):
                one.events.clear()
                await one.send("rekey")
                await one.wait("media", active=True)
                await _packets_flow(one, other)
            await caller.send("hangup")
            await asyncio.gather(caller.wait("bye"), callee.wait("bye"))
        finally:
            await caller.stop()
            await callee.stop()

    with region(tmp_path, pbx=trunk("required", CM80), carrier=trunk("required", CM32)) as r:
        asyncio.run(steps(r))
        ended = r.ended()
    for side in ("caller", "callee"):
        assert len(_offered_keys(tmp_path / f"{side}.log")) >= 2, "the key did not change"
        drops = ended[side]["drops"]
        # What is in flight under the key of before is opened still: see native/srtp_leg.pxd.
        assert drops.get("srtp_authentication_failed", 0) == 0, ended
        assert drops.get("srtp_replayed", 0) == 0, ended


@contextmanager
def rtpengine(own: Party, directory: Path) -> Iterator[None]:
    """rtpengine in userspace, controlled at `own`."""
    log = directory / "rtpengine.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("rtpengine", "--table=-1", f"--interface={own.host}", "--foreground"),
                *(f"--listen-ng={own}", "--log-stderr", "--log-level=5", "--config-file=none"),
                *("--port-min=14000", "--port-max=15999"),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 10
        while not listens(own):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)  # polls for the socket
        yield
    finally:
        process.terminate()
        process.wait(10)


def border(
    own: Party, behind: Party, directory: Path, engine: Party, profiles: tuple[str, str]
) -> AbstractContextManager[None]:
    """Kamailio at `own`, which has rtpengine offer the first profile and answer the second."""
    values = {"offered": profiles[0], "answered": profiles[1]}
    template = CONFIG.with_stem("kamailio_rtpengine")
    return kamailio(
        own, behind, directory, template, transport="udp", rtpengine=str(engine), **values
    )


@pytest.mark.parametrize("suite", [CM80, CM32, CM256, "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"])
def test_rtpengine_as_the_srtp_peer(tmp_path: Path, voices: dict[str, Path], suite: str) -> None:
    """The carrier's border (Kamailio, rtpengine) ends the SRTP that our callee's leg offers."""
    need("kamailio", "rtpengine")
    everyone = parties()
    carrier = everyone[2]
    proxy, engine = (Party(carrier.host, free_port(carrier.host)) for _ in range(2))
    options = trunk("required", suite)
    with (
        region(tmp_path, outbound=proxy, everyone=everyone, carrier=options, pbx=RECORDING) as r,
        rtpengine(engine, tmp_path),
        border(proxy, carrier, tmp_path, engine, ("RTP/AVP", "RTP/SAVP")),
    ):
        asyncio.run(talk(r, *setups(r, tmp_path, voices)))
        assert r.process.wait("call_answered")["callee_srtp"] == suite
        ended = r.ended()
        recording = Path(r.process.wait("recording_saved")["path"])
    heard(tmp_path, voices)
    left, right = read_wav(recording).samples
    assert similarity(left, voices["caller"]) > RECORDED
    assert similarity(right, voices["callee"]) > RECORDED
    assert not any(name.startswith("srtp") for name in ended["callee"]["drops"]), ended


def test_rtpengine_offers_srtp(tmp_path: Path, voices: dict[str, Path]) -> None:
    """The PBX's border offers everything that it knows: we take what our trunk likes best."""
    need("kamailio", "rtpengine")
    everyone = parties()
    relay, pbx = everyone[:2]
    proxy, engine = (Party(pbx.host, free_port(pbx.host)) for _ in range(2))
    best = "AEAD_AES_256_GCM"
    with (
        region(tmp_path, everyone=everyone, pbx=trunk("required", best, CM80)) as r,
        rtpengine(engine, tmp_path),
        border(proxy, relay, tmp_path, engine, ("RTP/SAVP", "RTP/AVP")),
    ):
        asyncio.run(talk(r, *setups(r, tmp_path, voices), proxy))
        assert r.process.wait("call_answered")["caller_srtp"] == best
        r.ended()
    heard(tmp_path, voices)


def _offered_keys(log: Path) -> set[str]:
    """The keys that this endpoint has sent in its descriptions."""
    text = log.read_text(errors="replace")
    sent = [part.split("--end msg--")[0] for part in re.split(r"\.TX \d+ bytes", text)[1:]]
    return {key for part in sent for key in re.findall(r"inline:([A-Za-z0-9+/=]+)", part)}


async def _packets_flow(one: Endpoint, other: Endpoint, deadline_s: float = 10.0) -> None:
    """Both receive another second of audio."""
    deadline = asyncio.get_running_loop().time() + deadline_s
    for endpoint in (one, other):
        wanted = await _received(endpoint) + 50
        while (received := await _received(endpoint)) < wanted:
            assert asyncio.get_running_loop().time() < deadline, f"{received} of {wanted}"


async def _received(endpoint: Endpoint) -> int:
    endpoint.events = [event for event in endpoint.events if event["event"] != "figures"]
    await endpoint.send("figures")
    return int((await endpoint.wait("figures"))["received"])
