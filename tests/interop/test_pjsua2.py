"""pjsua2 calls pjsua2 through the relay, and what each side hears is compared."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from relay.probe.audio import read_wav, similarity, speak
from relay.probe.remote import Endpoint, Setup
from tests.interop.region import Region, need, need_pjsua2, region

# Another voice gives about 0.1. A phone on a busy machine drops a frame now and then, so what
# it heard may be a little less than what the relay passed on, which the recording shows.
SAME = 0.85
RECORDED = 0.9
NUMBER = "+35315550199"


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("espeak-ng")
    need_pjsua2()


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("voices")
    texts = {"caller": ("en-gb", "One two three, four five six."), "callee": ("en-us+f3", "Hello?")}
    made = {}
    for side, (voice, text) in texts.items():
        made[side] = directory / f"{side}.wav"
        speak(f"{text} This is what the {side} says today.", voice, made[side])
    return made


def setups(r: Region, tmp_path: Path, voices: dict[str, Path]) -> tuple[Setup, Setup]:
    """The PBX and the carrier as endpoints."""
    caller = Setup("caller", r.pbx.host, r.pbx.port, play=voices["caller"])
    callee = Setup("callee", r.carrier.host, r.carrier.port, play=voices["callee"])
    return (
        replace(caller, record=tmp_path / "caller-heard.wav"),
        replace(callee, record=tmp_path / "callee-heard.wav"),
    )


async def talk(r: Region, caller_setup: Setup, callee_setup: Setup, keys: str = "") -> None:
    """A whole call: both speak to the end, keys, the caller hangs up."""
    callee = await Endpoint.start(callee_setup)
    caller = await Endpoint.start(caller_setup)
    try:
        suffix = f";transport={caller_setup.transport}"
        await caller.send("call", uri=f"sip:{NUMBER}@{r.relay}{suffix}")
        await caller.wait("state", state="confirmed")
        await asyncio.gather(caller.wait("played", 30), callee.wait("played", 30))
        if keys:
            await caller.send("dtmf", digits=keys)
            await callee.wait("dtmf", key=keys[-1])  # at the key's begin; the relay's is its end
            await asyncio.to_thread(r.process.wait, "dtmf", 10, len(keys))
        await caller.send("hangup")
        await asyncio.gather(caller.wait("bye"), callee.wait("bye"))
        heard = "".join(event["key"] for event in callee.events if event["event"] == "dtmf")
        assert heard == keys
    finally:
        await caller.stop()
        await callee.stop()


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_each_side_hears_the_other_and_both_are_recorded(
    tmp_path: Path, voices: dict[str, Path], codec: str
) -> None:
    """Speech both ways, four keys, a recording with each side on its channel."""
    with region(tmp_path, pbx={"recording": "record-from-answer-dual"}) as r:
        caller, callee = (replace(s, codec=codec) for s in setups(r, tmp_path, voices))
        asyncio.run(talk(r, caller, callee, keys="17#*"))
        ended = r.ended()
        assert [line["key"] for line in r.process.find("dtmf")] == list("17#*")
        recording = Path(r.process.wait("recording_saved")["path"])
    assert similarity(tmp_path / "caller-heard.wav", voices["callee"]) > SAME
    assert similarity(tmp_path / "callee-heard.wav", voices["caller"]) > SAME
    left, right = read_wav(recording).samples
    assert similarity(left, voices["caller"]) > RECORDED
    assert similarity(right, voices["callee"]) > RECORDED
    assert similarity(left, voices["callee"]) < 0.5
    assert (ended["caller"]["lost"], ended["callee"]["lost"]) == (0, 0)
    assert json.loads(recording.with_suffix(".json").read_text())["complete"]


def test_both_voices_arrive_over_tcp(tmp_path: Path, voices: dict[str, Path]) -> None:
    """SIP over TCP on both legs."""
    with region(tmp_path, "tcp") as r:
        caller, callee = (replace(s, transport="tcp") for s in setups(r, tmp_path, voices))
        asyncio.run(talk(r, caller, callee))
        r.ended()
    assert similarity(tmp_path / "callee-heard.wav", voices["caller"]) > SAME


def test_audio_returns_after_hold(tmp_path: Path, voices: dict[str, Path]) -> None:
    """Hold and resume by re-INVITE of another make; packets flow again afterwards."""

    async def steps(r: Region) -> None:
        caller_setup, callee_setup = setups(r, tmp_path, voices)
        callee = await Endpoint.start(callee_setup)
        caller = await Endpoint.start(caller_setup)
        try:
            await caller.send("call", uri=f"sip:{NUMBER}@{r.relay}")
            await caller.wait("state", state="confirmed")
            await callee.wait("media", active=True)
            await caller.send("hold")
            await callee.wait("media", active=False)
            await caller.wait("media", active=False)  # else its re-INVITE is still under way
            callee.events.clear()
            await caller.send("resume")
            await callee.wait("media", active=True)
            before = await _received(callee)
            await _until_received(callee, before + 50)
            await caller.send("hangup")
            await asyncio.gather(caller.wait("bye"), callee.wait("bye"))
        finally:
            await caller.stop()
            await callee.stop()

    with region(tmp_path) as r:
        asyncio.run(steps(r))
        r.ended()


async def _received(endpoint: Endpoint) -> int:
    endpoint.events = [event for event in endpoint.events if event["event"] != "figures"]
    await endpoint.send("figures")
    return int((await endpoint.wait("figures"))["received"])


async def _until_received(endpoint: Endpoint, count: int, deadline_s: float = 10.0) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    while (received := await _received(endpoint)) < count:
        assert loop.time() < deadline, f"{received} of {count} packets in {deadline_s} s"
