"""The recorder from the tap to the disk: whole calls, and every way for a disk to be bad."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import queue
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from relay.call.ports import RecordingEnded, RecordingSpec, Side
from relay.errors import StoreError
from relay.keys.ring import KeyRing
from relay.media.tap import TapReader, TapRing
from relay.recording.decryption import wav_of
from relay.recording.recorder import FileRecorder
from relay.recording.repair import repair_all
from relay.recording.sink import FileSink
from relay.recording.spool import check_writable, directory_of, safe_name
from relay.recording.wav import HEADER_OCTETS
from tests.unit.rtp_packets import rtp

MS = 1_000_000
DUBLIN = timezone(timedelta(hours=1))
STARTED = datetime(2026, 7, 3, 14, 5, 9, tzinfo=DUBLIN)
DEADLINE_S = 20


class Bench:
    """A recorder with its tap, a clock that the test moves, and the events that came."""

    def __init__(
        self, directory: Path, keys: KeyRing, ring_octets: int = 1 << 20, **more: object
    ) -> None:
        self.ring = TapRing(ring_octets)
        self.events: queue.Queue[tuple[RecordingEnded, str]] = queue.Queue()
        self.now = 0
        self.sent = {Side.CALLER: 0, Side.CALLEE: 0}
        self.recorder = FileRecorder(
            directory,
            TapReader([self.ring]),
            lambda event: self.events.put((event, threading.current_thread().name)),
            keys,
            "t1",
            now_ns=lambda: self.now,
            **more,  # type: ignore[arg-type]
        )

    def start(self, call_id: str = "a1@pbx", tap: int = 1, codec: str = "PCMU",
              dual: bool = True) -> None:  # fmt: skip
        self.recorder.start(RecordingSpec(call_id, tap, codec, dual, STARTED))

    def talk(self, packets: int, tap: int = 1, sides: tuple[int, ...] = (0, 1)) -> int:
        """Both sides speak for `packets` * 20 ms; returns how many the ring took."""
        first, taken = self.now // (20 * MS), 0
        for n in range(first, first + packets):
            self.now = n * 20 * MS
            for side in sides:
                packet = rtp(n, n * 160, bytes([1 + side]) * 160)
                taken += self.ring.push(tap, side, self.now, packet)
                self.sent[Side(side)] += 1
        self.now += 20 * MS
        return taken

    def stop(self, call_id: str = "a1@pbx") -> None:
        self.recorder.stop(call_id, self.sent)

    def ended(self) -> RecordingEnded:
        return self.events.get(timeout=DEADLINE_S)[0]


@pytest.fixture
def bench(tmp_path: Path, keyring: KeyRing) -> Iterator[Bench]:
    bench = Bench(tmp_path / "store", keyring)
    yield bench
    assert bench.recorder.close(DEADLINE_S)


def ledger_of(event: RecordingEnded) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(Path(event.path).with_suffix(".json").read_bytes())
    return loaded


def audio_of(event: RecordingEnded, keys: KeyRing) -> bytes:
    """The sample frames of a recording, as its WAV file has them."""
    return wav_of(Path(event.path), keys)[HEADER_OCTETS:]


def test_a_call_becomes_a_wav_and_a_ledger(bench: Bench, tmp_path: Path, keyring: KeyRing) -> None:
    bench.start()
    bench.talk(100)
    bench.stop()
    event, thread = bench.events.get(timeout=DEADLINE_S)
    path = tmp_path / "store/2026/07/03/140509-a1@pbx.rec"
    assert (event.call_id, event.path) == ("a1@pbx", str(path))
    assert (event.duration_s, event.problem) == (2.0, None)
    assert thread == "recording-writer"
    assert audio_of(event, keyring) == b"\x01\x02" * 16_000
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "140509-a1@pbx.json", "140509-a1@pbx.rec",
    ]  # fmt: skip
    ledger = ledger_of(event)
    assert ledger["complete"] is True
    assert ledger["problem"] is None
    assert ledger["started"] == "2026-07-03T14:05:09+01:00"
    assert ledger["ended"] == "2026-07-03T14:05:11+01:00"
    assert ledger["channels"] == ["caller", "callee"]
    assert ledger["caller"] == {
        "relayed": 100, "recorded": 100, "late": 0, "duplicate": 0, "other": 0,
        "stream_changes": 0, "timestamp_jumps": 0, "gaps": 0, "gap_s": 0.0,
    }  # fmt: skip
    for entry in (path, path.with_suffix(".json")):
        assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    for folder in list(path.parents)[:4]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_gaps_are_listed_and_a_lost_recording_is_not_complete(bench: Bench) -> None:
    bench.start()
    bench.talk(10)
    bench.talk(5, sides=(0,))
    bench.talk(10)
    bench.sent[Side.CALLEE] += 1  # relayed, and yet not in the recording
    bench.stop()
    ledger = ledger_of(bench.ended())
    assert ledger["gaps"] == [{"side": "callee", "start_s": 0.2, "duration_s": 0.1}]
    assert ledger["complete"] is False


def test_mono_and_a_second_call_of_the_same_second_and_name(bench: Bench) -> None:
    for tap in (1, 2):
        bench.start(tap=tap, dual=False)
        bench.talk(10, tap=tap, sides=(0,))
        bench.stop()
        event = bench.ended()
        assert event.problem is None
        name = Path(event.path).name
        assert name == ("140509-a1@pbx.rec" if tap == 1 else "140509-a1@pbx-2.rec")
        assert ledger_of(event)["channels"] == ["mixed"]
        assert ledger_of(event)["audio"] == name


def test_what_is_not_recorded_is_said(bench: Bench) -> None:
    bench.start(codec="opus")
    event = bench.ended()
    assert (event.path, event.record) == ("", None)
    assert event.problem == "opus is not recorded: only PCMU and PCMA are"
    bench.start()
    bench.start(tap=2)
    assert bench.ended().problem == "the call is being recorded already"
    bench.start(call_id="b2")
    assert bench.ended().problem == "tap 1 is being recorded already"
    bench.stop()
    assert bench.ended().problem is None
    bench.stop()
    bench.recorder.stop("never heard of", {})
    assert bench.events.empty()


def test_a_listener_that_fails_does_not_end_the_others(tmp_path: Path, keyring: KeyRing) -> None:
    seen = threading.Event()

    def listener(event: RecordingEnded) -> None:
        if event.call_id == "good":
            seen.set()
        raise RuntimeError("a bug")

    recorder = FileRecorder(tmp_path, TapReader([TapRing()]), listener, keyring, "t1")
    for tap, call_id in enumerate(["bad", "good"]):
        recorder.start(RecordingSpec(call_id, tap, "PCMU", True, STARTED))
        recorder.stop(call_id, {})
    assert seen.wait(DEADLINE_S)
    assert recorder.close(DEADLINE_S)


def test_closing_ends_what_runs(tmp_path: Path, keyring: KeyRing) -> None:
    bench = Bench(tmp_path, keyring)
    bench.start()
    bench.talk(50)
    assert bench.recorder.close(DEADLINE_S)
    assert bench.ended().duration_s == 1.0


@contextmanager
def small_disk(directory: Path, size: str = "64k") -> Iterator[None]:
    """A file system of this size at `directory` (needs root; the caller chooses)."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    subprocess.run(mount, check=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True, timeout=30)


def can_mount(directory: Path) -> bool:
    try:
        with small_disk(directory):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


class TightSink(FileSink):
    """For those who may not mount: a disk of 48 KiB."""

    room = 48 * 1024

    def append(self, octets: bytes) -> None:
        TightSink.room -= len(octets)
        if TightSink.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().append(octets)


@pytest.mark.parametrize("disk", ["mounted", "injected"])
def test_a_full_disk_ends_the_recording_with_an_event(
    tmp_path: Path, keyring: KeyRing, disk: str
) -> None:
    directory = tmp_path / "disk"
    if disk == "mounted" and can_mount(tmp_path / "try"):
        with small_disk(directory):
            fill_the_disk(Bench(directory, keyring), keyring)
    else:
        TightSink.room = 48 * 1024
        fill_the_disk(Bench(directory, keyring, open_sink=TightSink), keyring)


def fill_the_disk(bench: Bench, keys: KeyRing) -> None:
    bench.start()
    assert bench.talk(400) == 800  # 8 s, 128 kB: every packet was taken without delay
    bench.stop()
    event = bench.ended()
    assert event.problem == "the recording could not be written: No space left on device"
    assert 0 < event.duration_s < 8
    audio = audio_of(event, keys)
    assert 0 <= event.duration_s - len(audio) / 16_000 <= 0.3  # all but a segment
    assert audio == b"\x01\x02" * (len(audio) // 2)
    ledger = ledger_of(event)
    assert ledger["complete"] is False
    assert ledger["sha256"] == hashlib.sha256(Path(event.path).read_bytes()).hexdigest()
    assert ledger["problem"] == event.problem
    bench.start("b2", tap=2)
    bench.talk(50, tap=2)
    bench.stop("b2")
    assert "No space left on device" in (bench.ended().problem or "")
    assert [*Path(event.path).parent.glob("*.open")] == []  # nothing to be repaired
    Path(event.path).unlink()  # there is room again, and recording goes on
    TightSink.room = 1 << 20
    bench.start("c3", tap=3)
    bench.talk(50, tap=3)
    bench.stop("c3")
    event = bench.ended()
    assert (event.problem, event.duration_s) == (None, 1.0)
    assert bench.recorder.close(DEADLINE_S)


def test_a_directory_that_cannot_be_made_is_an_event(tmp_path: Path, keyring: KeyRing) -> None:
    (tmp_path / "file").write_bytes(b"")
    bench = Bench(tmp_path / "file/store", keyring)
    bench.start()
    assert bench.talk(10) == 20
    problem = bench.ended().problem
    assert problem is not None
    assert "Not a directory" in problem
    bench.stop()
    assert bench.recorder.close(DEADLINE_S)
    assert bench.events.empty()


def test_a_slow_disk_stops_no_call(tmp_path: Path, keyring: KeyRing) -> None:
    """The disk hangs: packets are still taken or refused at once, then counted as dropped."""
    hanging, released = threading.Event(), threading.Event()

    class HangingSink(FileSink):
        def append(self, octets: bytes) -> None:
            if len(octets) > HEADER_OCTETS and not released.is_set():
                hanging.set()
                assert released.wait(DEADLINE_S)
            super().append(octets)

    bench = Bench(tmp_path, keyring, ring_octets=1 << 16, open_sink=HangingSink)
    bench.start()
    taken = bench.talk(100)
    assert hanging.wait(DEADLINE_S)
    taken += bench.talk(500)
    bench.stop()  # does not wait for the disk either
    assert bench.ring.dropped > 0
    assert bench.events.empty()
    released.set()
    event = bench.ended()
    dropped = 1200 - taken
    assert event.problem == f"{dropped} packets were not recorded: the disk was too slow"
    assert event.duration_s == 12.0  # silence in place of what was dropped
    ledger = ledger_of(event)
    assert ledger["dropped"] == dropped
    assert ledger["complete"] is False
    assert ledger["caller"]["recorded"] + ledger["callee"]["recorded"] == taken  # type: ignore[index]
    assert bench.recorder.close(DEADLINE_S)


def test_what_cannot_be_repaired_is_reported_and_left(tmp_path: Path, keyring: KeyRing) -> None:
    day = tmp_path / "2026/07/03"
    day.mkdir(parents=True)
    (day / "a.json.open").write_bytes(b"{")
    (day / "a.rec").write_bytes(b"RIFF")
    (repaired,) = repair_all(tmp_path, keyring)
    assert repaired.problem.startswith("interrupted, not repaired")
    assert (day / "a.rec").read_bytes() == b"RIFF"


def test_the_store_of_the_configuration() -> None:
    assert directory_of("file:var/recordings") == Path("var/recordings")
    assert directory_of("file:///srv/audio") == Path("/srv/audio")
    for wrong in ("s3://bucket/x", "var/recordings", "file:", ""):
        with pytest.raises(ValueError, match="file:var/recordings"):
            directory_of(wrong)


def test_names_of_calls_are_safe() -> None:
    assert safe_name("../../etc/passwd\0") == "_.._etc_passwd_"
    assert safe_name("") == "call"
    assert len(safe_name("x" * 500)) == 80


def test_two_hundred_calls_at_once_each_whole(tmp_path: Path, keyring: KeyRing) -> None:
    bench = Bench(tmp_path, keyring, ring_octets=8 << 20)
    taps = range(1, 201)
    for tap in taps:
        bench.start(call_id=f"c{tap}", tap=tap)
    for _ in range(5):
        began = bench.now
        for tap in taps:
            bench.now = began
            bench.talk(10, tap=tap)
    bench.sent = {Side.CALLER: 50, Side.CALLEE: 50}
    for tap in taps:
        bench.stop(f"c{tap}")
    events = [bench.ended() for _ in taps]
    assert {event.problem for event in events} == {None}
    assert all(ledger_of(event)["complete"] for event in events)
    assert bench.recorder.close(DEADLINE_S)


class TestTheDirectoryAtStart:
    def test_is_made_when_it_is_missing(self, tmp_path: Path) -> None:
        check_writable(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())

    def test_is_named_when_it_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StoreError, match=f"{tmp_path}/file/store: Not a directory.*namei -l"):
            check_writable(tmp_path / "file" / "store")

    def test_is_not_used_when_anybody_may_write_to_it(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        with pytest.raises(StoreError, match="anybody may write to it"):
            check_writable(tmp_path)

    def test_may_be_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A full disk ends recordings, not calls: no reason to refuse all of them."""

        def full(**_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("relay.recording.spool.TemporaryFile", full)
        check_writable(tmp_path)
