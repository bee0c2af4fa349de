"""Records in many processes at once, each of which is killed; run by `test_killed`.

    python -m tests.interop.killed_recorder DIRECTORY KEYS ROUNDS SEED

Each round has a directory of its own. On standard output: how many packets of 20 ms each process
had recorded when it was killed, one line of JSON for all.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from mmap import mmap
from pathlib import Path
from random import Random

from relay.call.ports import RecordingSpec
from relay.keys.ring import KeyRing
from relay.media.tap import TapReader, TapRing
from relay.recording.recorder import FileRecorder
from tests.unit.rtp_packets import rtp

AT_ONCE = 25
SHORTEST_S, LONGEST_S = 0.05, 3.0
PACKET_S = 0.02


def talk(directory: Path, keys: KeyRing, dual: bool, told: Callable[[int], None]) -> None:
    """Both sides speak in real time, the caller 1 and the callee 2, for ever."""
    ring = TapRing()
    recorder = FileRecorder(directory, TapReader([ring]), lambda event: None, keys, "t1")
    recorder.start(RecordingSpec("victim", 1, "PCMU", dual, datetime.now(UTC)))
    began, n = time.monotonic(), 0
    while True:
        time.sleep(max(0.0, began + n * PACKET_S - time.monotonic()))
        for side in (0, 1) if dual else (0,):
            packet = rtp(n, n * 160, bytes([1 + side]) * 160)
            assert ring.push(1, side, time.monotonic_ns(), packet)
        n += 1
        told(n)


def main() -> None:
    directory, keys, rounds = Path(sys.argv[1]), KeyRing(sys.argv[2]), int(sys.argv[3])
    chance, told = Random(int(sys.argv[4])), mmap(-1, 8 * rounds)
    keys.check()  # and what it needs is imported before the processes part
    for first in range(0, rounds, AT_ONCE):
        lives: list[tuple[float, int]] = []
        for number in range(first, min(first + AT_ONCE, rounds)):
            ends = time.monotonic() + chance.uniform(SHORTEST_S, LONGEST_S)
            if (pid := os.fork()) == 0:
                where = 8 * number
                talk(
                    directory / str(number),
                    keys,
                    number % 4 != 0,
                    lambda n, at=where: struct.pack_into("<q", told, at, n),  # type: ignore[misc]
                )
            lives.append((ends, pid))
        for ends, pid in sorted(lives):
            time.sleep(max(0.0, ends - time.monotonic()))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    print(json.dumps(struct.unpack(f"<{rounds}q", told)))


if __name__ == "__main__":
    main()
