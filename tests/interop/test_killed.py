"""`kill -9` while it records, at any moment: all but the last second can be decrypted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from relay.errors import NotAuthentic
from relay.keys.ring import KeyRing
from relay.recording import ledger
from relay.recording.decryption import wav_of
from relay.recording.encryption import HEADER_OCTETS
from relay.recording.repair import repair_all
from relay.recording.wav import HEADER_OCTETS as WAV_OCTETS

ROUNDS = 50
LAST_S = 1.0
BUSY_S = 0.3
"""What a machine that runs other tests may hold a process up."""


def test_fifty_recorders_that_are_killed_leave_all_but_the_last_second(
    tmp_path: Path, keyring: KeyRing
) -> None:
    lost = []
    for number, packets in enumerate(killed(tmp_path, keyring, ROUNDS)):
        found = list((tmp_path / str(number)).glob("*/*/*/*.rec"))
        spoken_s = packets * 0.02
        kept_s = readable_s(found[0], keyring) if found else 0.0
        assert spoken_s - kept_s <= LAST_S + BUSY_S, f"round {number}: {kept_s} of {spoken_s} s"
        lost.append(spoken_s - kept_s)
    print(f"lost at most {max(lost):.3f} s, in the middle {sorted(lost)[ROUNDS // 2]:.3f} s")
    assert sum(1 for each in lost if each <= LAST_S) >= 0.9 * ROUNDS, sorted(lost)


def killed(directory: Path, keys: KeyRing, rounds: int) -> list[int]:
    """How many packets of 20 ms each process had got."""
    module = "tests.interop.killed_recorder"
    command = [sys.executable, "-m", module, str(directory), str(keys.directory), str(rounds), "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    counts: list[int] = json.loads(done.stdout)
    return counts


def readable_s(path: Path, keys: KeyRing) -> float:
    """How much of the caller there is, before the repair and, the same, after it."""
    before = audio_of(path, keys)
    repaired = repair_all(path.parents[3], keys)
    assert [found.problem for found in repaired] == ["interrupted"]
    entry = ledger.of(path)
    channels = len(entry.channels)
    assert before == audio_of(path, keys)
    assert before[: len(before) // channels * channels].strip(b"\x01\x02\xff") == b""
    assert repaired[0].duration_s == len(before) // channels / 8000 == entry.duration_s
    assert entry.sealed == (path.stat().st_size >= HEADER_OCTETS) and not entry.complete
    assert (entry.problem, entry.octets) == ("interrupted", path.stat().st_size)
    assert repair_all(path.parents[3], keys) == []
    return before.count(1) / 8000


def audio_of(path: Path, keys: KeyRing) -> bytes:
    """Its sample frames; none of a file that was killed before its first segment."""
    try:
        return wav_of(path, keys)[WAV_OCTETS:]
    except (NotAuthentic, ValueError):
        assert path.stat().st_size < 2 * 4096
        return b""
