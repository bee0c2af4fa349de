"""Call records of real calls: what a node keeps, what a `kill -9` leaves, and its next start."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest

from relay.archive import Archive
from relay.config import load
from relay.probe.region import RegionSpec, TrunkSpec
from relay.probe.relay_process import RelayProcess
from relay.recording.repair import repair_all
from tests.interop.records import kept, until
from tests.interop.region import DEADLINE_S, need, parties, region
from tests.interop.sipp_run import PCAPS, Sipp, answering, assert_all, call

RECORDED = {"recording": "record-from-answer-dual"}
PCAP = {"pcap": str(PCAPS / "g711a.pcap")}
NUMBER = "35315550199"


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("sipp")


def test_a_recorded_call_is_kept_with_its_recording_and_nothing_personal_in_clear(
    tmp_path: Path,
) -> None:
    with region(tmp_path, pbx=RECORDED) as r, answering("uas_pcma", r.carrier):
        assert_all(call("pcap", r.pbx, r.relay, "-d", "1500", values=PCAP))
        r.ended()
    [record] = kept(tmp_path / "relay.toml")
    assert record.final and record.ended_by == "caller hung up"
    assert record.called.endswith(NUMBER) and record.policy
    assert record.answered is not None and record.started <= record.answered
    caller, callee = record.legs
    assert (caller.peer, callee.peer, caller.codec) == ("pbx", "carrier", "PCMA")
    assert caller.packets > 30 and callee.sip_call_id
    assert {each.host for each in caller.seen} == {r.pbx.host}
    assert record.recording is not None and record.recording.complete
    audio = (r.store / record.recording.object).read_bytes()
    assert hashlib.sha256(audio).hexdigest() == record.recording.sha256
    files = [tmp_path / "relay.db", *(tmp_path / "queue").iterdir()]
    for file in (*files, *tmp_path.glob("relay.db-*")):
        assert NUMBER.encode() not in file.read_bytes(), file.name


@pytest.mark.parametrize("repaired", [False, True])
def test_a_call_that_a_kill_left_open_ends_as_interrupted_at_the_next_start(
    tmp_path: Path, repaired: bool
) -> None:
    """Also when the start before that was killed, right after it had repaired the recording."""
    relay, pbx, carrier, _ = parties()
    trunks = (
        TrunkSpec("pbx", pbx.host, pbx.port, to="carrier", options=RECORDED),
        TrunkSpec("carrier", carrier.host, carrier.port),
    )
    config = RegionSpec(relay.host, relay.port, trunks, tmp_path / "store").write(
        tmp_path / "relay.toml"
    )
    with answering("uas_pcma", carrier):
        first = RelayProcess(config, tmp_path / "first.log")
        caller = Sipp("pcap", pbx, ("-m", "1", "-s", f"+{NUMBER}", "-d", "30000", str(relay)), PCAP)
        try:
            first.wait("serving", DEADLINE_S)
            caller.start()
            [open_] = until(config, lambda found: bool(found))
            assert open_.answered is not None and open_.ended is None
            time.sleep(1.2)  # so much of it is to be recorded
            os.kill(first.pid, signal.SIGKILL)
        finally:
            first.stop()
            caller.stop()
    if repaired:
        archive = Archive(load(config))
        assert repair_all(archive.store.spool, archive.keys)
    second = RelayProcess(config, tmp_path / "second.log")
    try:
        second.wait("recording_stored", DEADLINE_S)
        [record] = until(config, lambda found: found[0].final)
    finally:
        second.stop()
    assert record.id == open_.id and record.called == open_.called
    assert record.ended_by == "interrupted" and record.ended is not None
    assert record.recording is not None and record.recording.problem == "interrupted"
    assert record.recording.sha256 and record.recording.duration_s > 0.5
    assert "Traceback" not in second.log.read_text()
