"""SRTP with keys in the SDP (RFC 4568): two other SRTP stacks and rtpengine, with real audio.

Each leg is keyed by itself: what one side hears has been opened with one key and closed with
another, or comes from a peer that speaks plain RTP.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from relay.probe.audio import read_recording, similarity
from relay.probe.remote import Endpoint
from tests.interop.phones import NUMBER, RECORDED, assert_heard, hold_and_resume, setups, talk
from tests.interop.region import Party, Region, free_port, need, need_pjsua2, parties, region
from tests.interop.servers import CONFIG, kamailio, rtpengine
from tests.interop.sipp_run import answering, assert_all, refused

CM80, CM32 = "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"
CM256 = "AES_256_CM_HMAC_SHA1_80"
RECORDING = {"recording": "record-from-answer-dual"}


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("espeak-ng")
    need_pjsua2()


def trunk(srtp: str = "off", *suites: str, **more: object) -> dict[str, object]:
    return {"srtp": srtp, **({"srtp_suites": suites} if suites else {}), **more}


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
        recording = Path(r.process.wait("recording_stored")["path"])
        no_key_is_logged(r)
    assert_heard(tmp_path, voices)
    left, right = read_recording(recording, r.keys).samples
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
    assert_heard(tmp_path, voices)


def test_best_effort_is_passed_over_by_who_does_not(
    tmp_path: Path, voices: dict[str, Path]
) -> None:
    with region(tmp_path, pbx=trunk("optional"), carrier=trunk("optional")) as r:
        asyncio.run(talk(r, *setups(r, tmp_path, voices)))
        answered = r.process.wait("call_answered")
        assert (answered["caller_srtp"], answered["callee_srtp"]) == ("", "")
        r.ended()
    assert_heard(tmp_path, voices)


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
            await hold_and_resume(caller, callee)
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
        recording = Path(r.process.wait("recording_stored")["path"])
    assert_heard(tmp_path, voices)
    left, right = read_recording(recording, r.keys).samples
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
        asyncio.run(talk(r, *setups(r, tmp_path, voices), proxy=proxy))
        assert r.process.wait("call_answered")["caller_srtp"] == best
        r.ended()
    assert_heard(tmp_path, voices)


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
