"""Blind transfer between real programs: SIPp hears every NOTIFY, pjsua2 hears the voices."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from relay.probe.audio import read_recording, similarity, speak
from relay.probe.region import TrunkSpec
from relay.probe.remote import Endpoint, Setup
from tests.interop.phones import RECORDED, SAME
from tests.interop.region import DEADLINE_S, Party, Region, need, need_pjsua2, parties, region
from tests.interop.sipp_run import Sipp, answering, assert_all, call, wait_listening

TARGET = "+35315550177"


@contextmanager
def transfers(
    tmp_path: Path, mode: str = "enable-all", pbx: dict[str, Any] | None = None, **more: Any
) -> Iterator[Region]:
    """A third trunk takes the calls of both others to one number; `stranger` is its address."""
    everyone = parties()
    desk = everyone[3]
    lines = [TrunkSpec("desk", desk.host, desk.port).toml()]
    for trunk in ("pbx", "carrier"):
        lines += ["[[route]]", f'from = "{trunk}"', f'number = "{TARGET}"', 'to = "desk"']
    options = {"transfer": mode}
    with region(
        tmp_path,
        everyone=everyone,
        pbx={**options, **(pbx or {})},
        carrier=options,
        more="\n".join(lines),
        **more,
    ) as r:
        yield r


def sipp(scenario: str, own: Party, *arguments: str, **values: str) -> Sipp:
    """A SIPp that waits for one call and keeps every message that it sees."""
    started = Sipp(scenario, own, ("-m", "1", "-trace_msg", *arguments), values).start()
    wait_listening(own, started)
    return started


def assert_hidden(*programs: Sipp) -> None:
    """What one SIPp received names no address, tag or Call-ID of another one's dialog."""
    seen = [received(program) for program in programs]
    for (mine, _), (_, others) in permutations(seen, 2):
        found = [word for word in others if word in mine]
        assert not found, (found, mine)


def received(program: Sipp) -> tuple[str, set[str]]:
    """The messages that it got, and the words that only it and the relay may know."""
    (log,) = Path(program.directory.name).glob("*_messages.log")
    parts = re.split(r"-{40,} [^\n]*\n", log.read_text())
    got = "\n".join(part for part in parts if "message received" in part[:80])
    everything = "\n".join(parts)
    words = set(re.findall(r"(?:Call-ID: *|;tag=|branch=)([^\s;>]+)", everything))
    assert len(words) > 3, everything
    assert "SIP/2.0" in got, everything
    return got, words | {program.own.host}


class TestSipp:
    @pytest.fixture(autouse=True)
    def _programs(self) -> None:
        need("sipp")

    def test_the_callee_transfers_the_caller(self, tmp_path: Path) -> None:
        with transfers(tmp_path) as r, answering("uas", r.stranger, "-trace_msg") as target:
            callee = sipp("uas_refer", r.carrier, last="200 OK", relay=str(r.relay))
            caller = Sipp(
                "uac_transferee",
                r.pbx,
                ("-m", "1", "-s", "+35315550199", "-trace_msg", str(r.relay)),
            ).start()
            assert_all(caller.wait())
            assert_all(callee.wait())
            r.ended()
            assert r.process.find("call_transferred")[0]["to"] == "desk"
            assert_hidden(caller, callee, target)

    def test_the_caller_transfers_the_callee(self, tmp_path: Path) -> None:
        with transfers(tmp_path) as r, answering("uas", r.stranger, "-trace_msg") as target:
            callee = sipp("uas_transferee", r.carrier)
            caller = Sipp(
                "uac_refer",
                r.pbx,
                ("-m", "1", "-s", "+35315550199", "-trace_msg", str(r.relay)),
                {"last": "200 OK", "relay": str(r.relay)},
            ).start()
            assert_all(caller.wait())
            assert_all(callee.wait())
            r.ended()
            assert_hidden(caller, callee, target)

    def test_the_callee_hangs_up_at_once(self, tmp_path: Path) -> None:
        with transfers(tmp_path) as r, answering("uas_slow", r.stranger):
            callee = sipp("uas_refer_bye", r.carrier, relay=str(r.relay))
            assert_all(call("uac_transferee", r.pbx, r.relay))
            assert_all(callee.wait())
            r.ended()

    def test_the_target_is_busy_and_the_transferor_gone(self, tmp_path: Path) -> None:
        with transfers(tmp_path) as r, answering("uas_slow_busy", r.stranger):
            callee = sipp("uas_refer_bye", r.carrier, relay=str(r.relay))
            assert_all(call("uac_target_failed", r.pbx, r.relay))
            assert_all(callee.wait())
            assert r.ended()["cause"] == "transfer failed: 486 Busy Here"

    @pytest.mark.parametrize(
        ("mode", "to", "status", "pattern"),
        [
            ("disable-all", f"sip:{TARGET}@relay@", 403, "disabled on this trunk"),
            ("sip-only", f"sip:{TARGET}@relay@", 403, "not to numbers"),
            ("sip-only", f"tel:{TARGET}", 403, "not to numbers"),
            ("enable-all", "sip:+999@relay@", 400, "country code"),
        ],
    )
    def test_modes(self, tmp_path: Path, mode: str, to: str, status: int, pattern: str) -> None:
        with transfers(tmp_path, mode, numbers=("+*",)) as r:
            values = {
                "to": f"<{to}>".replace("@relay@", f"@{r.relay}"),
                "status": str(status),
                "pattern": pattern,
            }
            callee = Sipp("uas_refer_refused", r.carrier, ("-m", "1"), values).start()
            wait_listening(r.carrier, callee)
            assert_all(call("uac_stays", r.pbx, r.relay))
            assert_all(callee.wait())
            r.ended()
            assert not r.process.find("call_referred")


@pytest.mark.alone
class TestVoices:
    """pjsua2 as transferor, transferee and target: a stack that was not written against."""

    @pytest.fixture(autouse=True)
    def _programs(self) -> None:
        need("espeak-ng")
        need_pjsua2()

    @pytest.mark.parametrize("srtp", ["off", "required"])
    @pytest.mark.parametrize("by", ["caller", "callee"])
    def test_transferee_and_target_hear_each_other(
        self, tmp_path: Path, by: str, srtp: str
    ) -> None:
        """With SRTP the caller's leg is encrypted, the others are not."""
        voices = {}
        # Long enough that half a second lost by a phone that had no CPU does not decide.
        hello = "Hello? You have reached the desk, which takes the call. How can we help you?"
        words = "One two three, four five six. I was transferred, and this is what I have to say."
        for name, voice, text in (("transferee", "en-gb", words), ("target", "en-us+f3", hello)):
            voices[name] = tmp_path / f"{name}.wav"
            speak(text, voice, voices[name])
        pbx = {"recording": "record-from-answer-dual", "srtp": srtp}
        with transfers(tmp_path, pbx=pbx) as r:
            caller = Setup("caller", r.pbx.host, r.pbx.port, srtp=srtp)
            callee = Setup("callee", r.carrier.host, r.carrier.port)
            target = Setup("target", r.stranger.host, r.stranger.port)
            heard = {name: tmp_path / f"{name}-heard.wav" for name in voices}
            target = replace(target, play=voices["target"], record=heard["target"])
            transferee = {"play": voices["transferee"], "record": heard["transferee"]}
            if by == "caller":
                callee = replace(callee, **transferee)
            else:
                caller = replace(caller, **transferee)
            asyncio.run(_transfer(r, caller, callee, target, by))
            ended = r.ended()
            recording = Path(r.process.wait("recording_stored", DEADLINE_S)["path"])
        assert similarity(heard["transferee"], voices["target"]) > SAME
        assert similarity(heard["target"], voices["transferee"]) > SAME
        channels = list(read_recording(recording, r.keys).samples)
        first, second = channels if by == "callee" else channels[::-1]
        assert similarity(first, voices["transferee"]) > RECORDED
        assert similarity(second, voices["target"]) > RECORDED
        assert ended["caller"]["packets"] > 200
        assert ended["callee"]["packets"] > 200


async def _transfer(r: Region, caller_s: Setup, callee_s: Setup, target_s: Setup, by: str) -> None:
    """The transferee speaks again once it has been connected to the target."""
    callee, target = await Endpoint.start(callee_s), await Endpoint.start(target_s)
    caller = await Endpoint.start(caller_s)
    everyone = {"caller": caller, "callee": callee}
    transferor = everyone.pop(by)
    (transferee,) = everyone.values()
    try:
        await caller.send("call", uri=f"sip:+35315550199@{r.relay}")
        await asyncio.gather(
            caller.wait("state", state="confirmed"), callee.wait("state", state="confirmed")
        )
        await transferee.wait("played", 30)
        await transferor.send("transfer", uri=f"sip:{TARGET}@{r.relay}")
        await transferor.wait("transferred", status=100)
        await transferor.wait("transferred", status=200, final=True)
        await transferor.wait("bye")
        await target.wait("state", state="confirmed")
        transferee.events.clear()
        await transferee.send("play")
        await asyncio.gather(transferee.wait("played", 30), target.wait("played", 30))
        await target.send("hangup")
        await asyncio.gather(transferee.wait("bye"), target.wait("bye"))
    finally:
        for endpoint in (caller, callee, target):
            await endpoint.stop()
