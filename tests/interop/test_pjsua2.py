"""pjsua2 calls pjsua2 through the relay, and what each side hears is compared."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from relay.probe.audio import read_recording, similarity
from relay.probe.remote import Endpoint
from tests.interop.phones import NUMBER, RECORDED, SAME, assert_heard, hold_and_resume, setups, talk
from tests.interop.region import Region, need, need_pjsua2, region


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("espeak-ng")
    need_pjsua2()


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
        recording = Path(r.process.wait("recording_stored")["path"])
    assert_heard(tmp_path, voices)
    left, right = read_recording(recording, r.keys).samples
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
            await hold_and_resume(caller, callee)
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
