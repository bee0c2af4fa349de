"""A node whose wall clock is set back or forward while calls last: only times of day change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.keys.ring import KeyRing
from relay.recording.decryption import wav_of
from tests.interop.records import kept
from tests.interop.region import DEADLINE_S, Region, need, region
from tests.interop.sipp_run import PCAPS, Sipp, answering

LIBRARY = "/usr/$LIB/faketime/libfaketimeMT.so.1"  # $LIB is the loader's
STEPS = ("-2h", "+1d")
TALK_S = 2.5
RECORDED = {"recording": "record-from-answer-dual"}


@contextmanager
def with_a_clock(tmp_path: Path, clock: Path, patch: pytest.MonkeyPatch) -> Iterator[Region]:
    """A region whose relay alone sees the wall clock as the file `clock` has it."""
    clock.write_text("+0")
    running = region(tmp_path, pbx=RECORDED)
    with patch.context() as only:
        only.setenv("LD_PRELOAD", LIBRARY)
        only.setenv("FAKETIME_TIMESTAMP_FILE", str(clock))
        only.setenv("FAKETIME_NO_CACHE", "1")
        only.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        found = running.__enter__()
    try:
        yield found
    finally:
        running.__exit__(None, None, None)


def test_calls_and_recordings_last_as_long_as_they_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("sipp", "faketime")
    clock = tmp_path / "clock"
    with with_a_clock(tmp_path, clock, monkeypatch) as r, answering("uas_pcma", r.carrier):
        for number, step in enumerate(STEPS, 1):
            load = ("-m", "1", "-s", "+35315550199", "-d", "2500", str(r.relay))
            caller = Sipp("pcap", r.pbx, load, {"pcap": str(PCAPS / "g711a.pcap")}).start()
            r.process.wait("call_answered", DEADLINE_S, number)
            time.sleep(1)  # so much is recorded before the step
            clock.write_text(step)
            assert caller.wait().successful == 1
            r.ended(number)
            r.process.wait("recording_stored", DEADLINE_S, number)
        stored = [Path(line["path"]) for line in r.process.find("recording_stored")]
        times = [line["timestamp"] for line in r.process.lines() if "timestamp" in line]
    assert times != sorted(times)  # the clock was set back
    assert all(wav_of(path, KeyRing(r.keys)) for path in stored)
    records = kept(tmp_path / "relay.toml")
    assert len(records) == len(STEPS)
    for record in records:
        assert record.final and record.ended_by == "caller hung up"
        assert record.answered is not None and record.ended is not None
        assert TALK_S <= (record.ended - record.answered).total_seconds() < TALK_S + 5
        assert record.recording is not None and record.recording.complete
        assert TALK_S <= record.recording.duration_s < TALK_S + 5
