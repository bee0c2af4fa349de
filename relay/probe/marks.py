"""The probe's signal: a tone that begins once a second, so that its way can be timed.

Caller and callee are on one clock. A mark's delay is from when its frame was given to the
sender's encoder to when the packet that begins it arrived at the other end: packetisation
and the receiver's jitter buffer are not in it, the relay (with its transcoding) and the
network are.
"""

from __future__ import annotations

import array
import math
import wave
from pathlib import Path

RATE_HZ = 8000
PERIOD_S = 1.0
SILENT_S = 0.3  # before each mark; a whole number of frames, so that a mark begins one
TONE_S = 0.4
AUDIBLE = 1000  # of 32767: well above what codecs make of silence
EARLY_S = 0.02  # clocks are read a little late here, a little early there
QUIET_S = 0.15  # so long must it have been quiet before a mark


def write_marks(path: Path, seconds: int) -> None:
    """A WAV file with one mark a second. Raises OSError."""
    second = array.array("h", bytes(2 * RATE_HZ))
    first = round(SILENT_S * RATE_HZ)
    for n in range(round(TONE_S * RATE_HZ)):
        # A cosine: its first sample is its loudest, the mark has an edge.
        second[first + n] = round(10000 * math.cos(2 * math.pi * 1000 * n / RATE_HZ))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(second.tobytes() * seconds)


class Marks:
    """The marks in what is heard, piece by piece; `heard_at` are their times in seconds."""

    def __init__(self) -> None:
        self.heard_at: list[float] = []
        self._quiet_s = QUIET_S

    def hear(self, pcm: bytes, rate_hz: int, arrived_at: float) -> None:
        """Mono 16-bit samples whose first arrived at this time."""
        samples = memoryview(pcm).cast("h")
        for at, sample in enumerate(samples):
            if abs(sample) < AUDIBLE:
                self._quiet_s += 1 / rate_hz
                continue
            if self._quiet_s >= QUIET_S:
                self.heard_at.append(arrived_at + at / rate_hz)
            self._quiet_s = 0.0

    def delays_ms(self, started_at: float) -> list[float]:
        """The delay of each mark, given when the file began to be sent."""
        found = []
        for heard_at in self.heard_at:
            since_s = heard_at - started_at - SILENT_S
            if since_s >= -EARLY_S:
                found.append(max(0.0, (since_s + EARLY_S) % PERIOD_S - EARLY_S) * 1000)
        return found


def marks_in(path: Path) -> int:
    """How many marks a WAV file has. Raises OSError, wave.Error, EOFError."""
    marks = Marks()
    with wave.open(str(path), "rb") as file:
        marks.hear(file.readframes(file.getnframes()), file.getframerate(), 0.0)
    return len(marks.heard_at)
