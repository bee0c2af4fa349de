"""What a call hears: pieces of sound, and the WAV file that they are written to."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import av

RATE_HZ = 16000
LONGEST_GAP_S = 10.0  # a longer one is a new beginning


@dataclass(frozen=True, slots=True)
class Sound:
    """A piece of what was heard: mono, 16 bit, native order.

    `at` counts the samples since the first one, so that a gap shows; `arrived_at` is when the
    packet came (`time.monotonic`), before the jitter buffer.
    """

    pcm: bytes
    rate_hz: int
    at: int
    arrived_at: float


def sound_of(frame: av.AudioFrame, arrived_at: float) -> Sound:
    """A decoded frame, its channels as one (they are the same: telephony has one)."""
    samples = bytes(frame.planes[0])[: 2 * frame.samples * frame.layout.nb_channels]
    if frame.layout.nb_channels == 2:
        view = memoryview(samples).cast("h")
        samples = view[::2].tobytes()
    return Sound(samples, frame.sample_rate, frame.pts or 0, arrived_at)


class Recording:
    """A WAV file of what is heard, lost packets as silence; closed with the call at the latest."""

    def __init__(self, path: Path, rate_hz: int = RATE_HZ) -> None:
        self.path = path
        self.rate_hz = rate_hz
        self._file: wave.Wave_write | None = wave.open(str(path), "wb")  # noqa: SIM115
        self._file.setnchannels(1)
        self._file.setsampwidth(2)
        self._file.setframerate(rate_hz)
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
        self._source_hz = 0
        self._next_at = 0

    def write(self, sound: Sound) -> None:
        """Append, with silence for what is missing before it; what overlaps is left out."""
        if self._file is None:
            return
        if sound.rate_hz != self._source_hz:
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=self.rate_hz)
            self._source_hz, self._next_at = sound.rate_hz, sound.at
        missing = sound.at - self._next_at
        if missing < 0 and -missing < LONGEST_GAP_S * sound.rate_hz:
            return
        if 0 < missing < LONGEST_GAP_S * sound.rate_hz:
            self._append(bytes(2 * missing), sound.rate_hz)
        self._append(sound.pcm, sound.rate_hz)
        self._next_at = sound.at + len(sound.pcm) // 2

    def close(self) -> None:
        """Write the file's end. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _append(self, pcm: bytes, rate_hz: int) -> None:
        assert self._file is not None, "only called while it is open"
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
        frame.sample_rate = rate_hz
        frame.planes[0].update(pcm.ljust(frame.planes[0].buffer_size, b"\0"))
        for piece in self._resampler.resample(frame):
            self._file.writeframesraw(bytes(piece.planes[0])[: 2 * piece.samples])
