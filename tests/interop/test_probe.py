"""`relay probe` as a monitoring system runs it, against a running region."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.interop.region import need_pjsua2, region
from tests.interop.voice_clients import NUMBERS, VoiceRegion, token, voice_region

OUTSIDE = "+35315550199"  # a number of the carrier's


@pytest.fixture(autouse=True)
def _programs() -> None:
    need_pjsua2()


def probe(*arguments: str, expected: int = 0) -> dict[str, Any]:
    """What it printed; its exit code is the expected one."""
    command = [sys.executable, "-m", "relay", "probe", "--seconds", "3", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == expected, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["ok"] == (expected == 0)
    return found


def assert_measured(found: dict[str, Any]) -> None:
    assert 0 < found["post_dial_ms"] <= found["setup_ms"] < 3000
    assert len(found["directions"]) == 2
    for direction in found["directions"]:
        assert direction["packets"] > 100
        assert direction["marks"] >= 2
        assert 1 < direction["mos"] < 4.5


def client(r: VoiceRegion, identity: str = "alice") -> tuple[str, ...]:
    """alice calls."""
    trusted = ("--ca", str(r.authority.file))
    return ("--webrtc", r.url, *trusted, "--token", token(identity))


def test_between_voice_clients(tmp_path: Path) -> None:
    """One-way delay by the marks: both clients are on one clock."""
    with voice_region(tmp_path) as r:
        found = probe("bob", *client(r), "--callee-token", token("bob"))
        assert_measured(found)
        assert all(0 <= each["delay_ms"] < 100 for each in found["directions"])


def test_from_a_voice_client_to_a_trunk(tmp_path: Path) -> None:
    with voice_region(tmp_path) as r:
        assert_measured(probe(OUTSIDE, *client(r), "--callee-sip", str(r.region.carrier)))


def test_from_a_trunk_to_a_voice_client(tmp_path: Path) -> None:
    with voice_region(tmp_path) as r:
        sip = ("--sip", str(r.region.relay), "--bind", str(r.region.pbx))
        callee = ("--callee-webrtc", r.url, "--callee-token", token("bob"))
        trusted = ("--ca", str(r.authority.file))
        assert_measured(probe(NUMBERS["bob"], *sip, *callee, *trusted))


def test_between_trunks_and_a_limit_that_is_not_kept(tmp_path: Path) -> None:
    with region(tmp_path) as r:
        ends = ("--sip", str(r.relay), "--bind", str(r.pbx), "--callee-sip", str(r.carrier))
        assert_measured(probe(OUTSIDE, *ends))
        found = probe(OUTSIDE, *ends, "--min-mos", "4.49", expected=1)
        assert all("MOS" in text for text in found["findings"])


def test_a_refusal_is_told_in_the_relays_words(tmp_path: Path) -> None:
    with voice_region(tmp_path) as r:
        found = probe("bob", *client(r), expected=1)
        assert found["findings"] == [
            "calling bob: 480 Temporarily Unavailable: no device of this voice client is registered"
        ]
        bad = ("--webrtc", r.url, "--ca", str(r.authority.file))
        found = probe("bob", *bad, "--token", token("alice", region="au1"), expected=1)
        assert "the caller signs in: 401" in found["findings"][0]
        sip = ("--sip", str(r.region.relay), "--bind", str(r.region.stranger))
        found = probe(OUTSIDE, *sip, "--timeout", "20", expected=1)
        assert found["findings"] == [f"calling {OUTSIDE}: 403 Forbidden"]


def test_nobody_there_is_told_in_time() -> None:
    found = probe("bob", "--webrtc", "ws://127.0.0.1:9", "--token", token("alice"), expected=1)
    assert "127.0.0.1:9" in found["findings"][0]
    sip = ("--sip", "127.0.0.1:9", "--bind", "127.0.0.1:5999")
    found = probe("bob", *sip, "--timeout", "3", expected=1)
    assert len(found["findings"]) == 1
