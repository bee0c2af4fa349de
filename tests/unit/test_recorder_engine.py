"""From a UDP socket through the real engine into a recording on disk."""

from __future__ import annotations

import json
import queue
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from relay import _native
from relay.call.ports import RecordingEnded, RecordingSpec, Side
from relay.keys.ring import KeyRing
from relay.media.tap import TapReader, TapRing
from relay.probe.audio import decode_g711, read_recording, similarity
from relay.recording.decryption import wav_of
from relay.recording.recorder import FileRecorder
from relay.recording.wav import HEADER_OCTETS
from relay.rtp.packet import build
from relay.sdp.description import Coding
from tests.unit.media_rig import EVENTS, Rig, rig, until
from tests.unit.opus_codec import decode, encode, tune

DEADLINE_S = 20
PACKETS = 8  # 160 ms, sent at once: less than the arrival clock tolerates


def wait_for_recorded(r: Rig, side: Side, count: int) -> None:
    until(lambda: r.call.figures(side).recorded >= count)


def record(
    r: Rig, directory: Path, keys: KeyRing, during: list[tuple[Side, int, bytes]]
) -> RecordingEnded:
    """Record the rig's call while the given (side, payload type, payload) are sent."""
    ended: queue.Queue[RecordingEnded] = queue.Queue()
    recorder = FileRecorder(directory, TapReader(r.engine.taps), ended.put, keys, "t1")
    tap = r.call.record(True)
    recorder.start(RecordingSpec("call-1", tap, "PCMU", True, datetime.now(UTC)))
    for side, payload_type, payload in during:
        sender, at = (r.callee, r.at_callee) if side.value else (r.caller, r.at_caller)
        sender.send(at, sender.next_packet(payload_type, payload))
    for side in Side:
        wait_for_recorded(r, side, sum(1 for sent in during if sent[0] is side))
    r.call.record(False)
    recorder.stop("call-1", {side: r.call.figures(side).relayed_on_tap for side in Side})
    event = ended.get(timeout=DEADLINE_S)
    assert recorder.close(DEADLINE_S)
    return event


def test_both_sides_of_a_relayed_call_are_on_disk(tmp_path: Path, keyring: KeyRing) -> None:
    sent = [(side, 0, bytes([16 * side.value + n]) * 160) for n in range(PACKETS) for side in Side]
    sent.append((Side.CALLER, EVENTS, b"\x05\x8a\x03\x20"))
    with rig() as r:
        r.describe()
        event = record(r, tmp_path, keyring, sent)
    assert event.problem is None
    audio = wav_of(Path(event.path), keyring)[HEADER_OCTETS:]
    for side in Side:
        expected = b"".join(payload for to, kind, payload in sent if (to, kind) == (side, 0))
        assert expected in audio[side.value :: 2]
        assert audio[side.value :: 2].replace(expected, b"").strip(b"\xff") == b""
    ledger = json.loads(Path(event.path).with_suffix(".json").read_bytes())
    assert ledger["complete"] is True
    assert [ledger[side]["relayed"] for side in ("caller", "callee")] == [PACKETS + 1, PACKETS]
    assert ledger["caller"]["other"] == 1


def test_a_recording_that_begins_in_the_middle_of_a_stream_is_complete(
    tmp_path: Path, keyring: KeyRing
) -> None:
    """What was relayed before the record command took effect is not missed by the ledger."""
    with rig() as r:
        r.describe()
        for _ in range(5):
            r.caller.send(r.at_caller)
            r.callee.rtp.recv(4096)
        event = record(r, tmp_path, keyring, [(side, 0, b"\x01" * 160) for side in Side])
    ledger = json.loads(Path(event.path).with_suffix(".json").read_bytes())
    assert ledger["complete"] is True
    assert [ledger[side]["relayed"] for side in ("caller", "callee")] == [1, 1]


def test_sprayed_packets_are_not_recorded(tmp_path: Path, keyring: KeyRing) -> None:
    with rig() as r, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        r.describe()
        stranger.bind(("127.4.9.9", 0))
        for at in (r.at_caller, r.at_callee):
            stranger.sendto(r.caller.next_packet(0, b"\x42" * 160), (at.host, at.port))
        event = record(r, tmp_path, keyring, [(side, 0, b"\x01" * 160) for side in Side])
    audio = wav_of(Path(event.path), keyring)[HEADER_OCTETS:]
    assert b"\x42" not in audio
    assert audio.count(b"\x01") == 320
    ledger = json.loads(Path(event.path).with_suffix(".json").read_bytes())
    assert [ledger[side]["recorded"] for side in ("caller", "callee")] == [1, 1]


def test_the_engine_stamps_packets_with_the_recorder_s_clock(tmp_path: Path) -> None:
    """A stream is anchored at its arrival: silence before it is the time that passed."""
    with rig() as r:
        r.describe()
        reader = TapReader(r.engine.taps)
        began_ns = time.monotonic_ns()
        tap = r.call.record(True)
        reader.start(tap, 0, began_ns, True)
        r.caller.send(r.at_caller, r.caller.next_packet(0, b"\x01" * 160))
        wait_for_recorded(r, Side.CALLER, 1)
        passed_ns = time.monotonic_ns() - began_ns
        reader.stop(tap)
        left = b"".join(block.data for block in reader.drain(time.monotonic_ns()))[0::2]
    assert left.count(b"\x01") == 160
    assert left.index(b"\x01") * 125_000 <= passed_ns


@pytest.mark.skipif(not _native.HAS_OPUS, reason="built without libopus")
def test_opus_that_passes_through_is_on_disk_as_g711() -> None:
    said = {Side.CALLER: tune(2.0), Side.CALLEE: tune(4.0)[16000:]}
    packets = {side: encode(sound) for side, sound in said.items()}
    reader = TapReader([ring := TapRing()])
    began = 5_000_000_000
    reader.start(1, 0, began, True, frozenset({111}))
    for n in range(len(packets[Side.CALLER])):
        for side in Side:
            # Begins just before the timestamp of 48 kHz wraps: that of 8 kHz does elsewhere.
            stamp = (n * 960 - 9600) % 2**32
            data = build(111, n, stamp, 7 + side.value, packets[side][n])
            assert ring.push(1, side.value, began + n * 20_000_000, data)
    ended = began + 2_100_000_000
    reader.stop(1, ended)
    blocks = reader.drain(ended)
    audio = np.frombuffer(b"".join(block.data for block in blocks), np.uint8).reshape(-1, 2)
    for side in Side:
        heard = decode_g711(audio[:, side.value].tobytes(), 0)
        ceiling = similarity(decode(packets[side]), said[side])
        assert similarity(heard, said[side]) > 0.97 * ceiling
    totals = blocks[-1].totals
    assert totals is not None
    assert (totals.recorded, totals.other, totals.jumps) == ((100, 100), (0, 0), (0, 0))


@pytest.mark.alone
@pytest.mark.skipif(not _native.HAS_OPUS, reason="built without libopus")
def test_a_transcoded_call_is_on_disk_as_its_g711_side_has_it(
    tmp_path: Path, keyring: KeyRing
) -> None:
    sound = tune(1.0)
    opus = Coding("OPUS", 111, 48000)
    pcmu = Coding("PCMU", 0, 8000)
    with rig() as r:
        r.call.update(Side.CALLER, r.caller.leg(payload_types=frozenset({111}), coding=opus))
        r.call.update(Side.CALLEE, r.callee.leg(coding=pcmu))
        ended: list[RecordingEnded] = []
        recorder = FileRecorder(tmp_path, TapReader(r.engine.taps), ended.append, keyring, "t1")
        tap = r.call.record(True)
        recorder.start(RecordingSpec("call-1", tap, "PCMU", True, datetime.now(UTC)))
        payloads = encode(sound)
        began = time.monotonic()
        for n, payload in enumerate(payloads):
            r.caller.send(r.at_caller, build(111, n, n * 960, 7, payload))
            until(lambda n=n: time.monotonic() >= began + 0.02 * (n + 1))
        until(lambda: r.call.figures(Side.CALLER).recorded >= 50)
        r.call.record(False)
        figures = r.call.figures(Side.CALLER)
        recorder.stop("call-1", {Side.CALLER: figures.relayed_on_tap, Side.CALLEE: 0})
        recorder.close()
    (done,) = ended
    assert done.problem is None
    heard = read_recording(Path(done.path), keyring.directory).samples[0]
    assert similarity(heard, sound) > 0.95 * similarity(decode(payloads), sound)
