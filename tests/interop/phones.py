"""Two pjsua2 phones, PBX and carrier, that speak and write what they hear."""

from __future__ import annotations

import asyncio
from pathlib import Path

from relay.probe.audio import similarity
from relay.probe.remote import Endpoint, Setup
from tests.interop.region import Party, Region

# Another voice gives about 0.1. A phone on a busy machine drops a frame now and then, so what
# it heard may be a little less than what the relay passed on, which the recording shows.
SAME = 0.85
RECORDED = 0.9
NUMBER = "+35315550199"


def setups(r: Region, tmp_path: Path, voices: dict[str, Path]) -> tuple[Setup, Setup]:
    """The PBX and the carrier; what each hears is in `tmp_path`, see `assert_heard`."""
    caller, callee = (
        Setup(side, own.host, own.port, play=voices[side], record=tmp_path / f"{side}-heard.wav")
        for side, own in (("caller", r.pbx), ("callee", r.carrier))
    )
    return caller, callee


async def talk(
    r: Region,
    caller_setup: Setup,
    callee_setup: Setup,
    *,
    keys: str = "",
    proxy: Party | None = None,
) -> None:
    """A whole call, perhaps by way of a proxy: both speak to the end, keys, the caller hangs up."""
    callee = await Endpoint.start(callee_setup)
    caller = await Endpoint.start(caller_setup)
    try:
        suffix = f";transport={caller_setup.transport}"
        await caller.send("call", uri=f"sip:{NUMBER}@{proxy or r.relay}{suffix}")
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


async def hold_and_resume(caller: Endpoint, callee: Endpoint) -> None:
    """From a call that is up, back to one."""
    await callee.wait("media", active=True)
    await caller.send("hold")
    await callee.wait("media", active=False)
    await caller.wait("media", active=False)  # else its re-INVITE is still under way
    callee.events.clear()
    await caller.send("resume")
    await callee.wait("media", active=True)


def assert_heard(tmp_path: Path, voices: dict[str, Path]) -> None:
    """Each side has heard the other one."""
    for side, other in (("caller", "callee"), ("callee", "caller")):
        found = similarity(tmp_path / f"{side}-heard.wav", voices[other])
        assert found > SAME, f"what the {side} heard is {found:.2f} of what the {other} said"
