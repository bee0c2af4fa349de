"""Listening: make speech, and say whether two sounds are the same.

Samples are float32 arrays from -1 to 1 at 8000 Hz unless said otherwise.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

from relay.probe.wav_file import (
    RATE_HZ,
    Audio,
    ProbeError,
    Samples,
    decode_g711,
    read_recording,
    read_wav,
    write_wav,
)
from relay.probe.waveform import waveform_png

__all__ = [
    "RATE_HZ",
    "Audio",
    "ProbeError",
    "Samples",
    "decode_g711",
    "read_recording",
    "read_wav",
    "resample",
    "similarity",
    "speak",
    "waveform_png",
    "write_wav",
]

SEGMENT_S = 0.5
SEARCH_S = 0.3
"""How far a segment may stand from where the whole aligns: jitter buffers shift speech."""
AUDIBLE = 0.1
"""A segment below this share of the source's loudness is a pause and not compared."""


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """The same sound at another rate, band-limited (by one Fourier transform of it all)."""
    if from_hz == to_hz or samples.size == 0:
        return samples
    count = max(1, round(samples.size * to_hz / from_hz))
    padded = np.pad(samples, (0, from_hz // 10))  # the transform is circular
    padded_count = max(1, round(padded.size * to_hz / from_hz))
    spectrum = np.fft.rfft(padded)[: padded_count // 2 + 1]
    scaled = np.fft.irfft(spectrum, padded_count) * (padded_count / padded.size)
    return scaled[:count].astype(np.float32)


def speak(text: str, voice: str, path: Path) -> None:
    """Write `text` as speech, 8 kHz mono 16-bit, in a voice of espeak-ng such as "en-gb".

    espeak-ng speaks with its default voice when it does not know the one asked for.
    Raises ProbeError.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise ProbeError("espeak-ng is not installed: sudo apt-get install espeak-ng")
    raw = path.with_suffix(".espeak.wav")
    command = [program, "-v", voice, "-s", "150", "-w", str(raw), "--", text]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != 0 or not raw.exists():
            raise ProbeError(f"espeak-ng failed: {done.stderr.strip() or done.returncode}")
        audio = read_wav(raw)
    finally:
        raw.unlink(missing_ok=True)
    samples = resample(audio.samples[0], audio.rate_hz, RATE_HZ)
    peak = float(np.max(np.abs(samples), initial=0))
    if peak == 0:
        raise ProbeError(f"espeak-ng said nothing for voice {voice!r}")
    write_wav(path, samples * np.float32(0.7 / peak))


def similarity(heard: Samples | Path, source: Samples | Path) -> float:
    """How much of `source` is in `heard`: 0 nothing, 1 all of it.

    Each is one channel at 8000 Hz, or a WAV file of any rate whose first channel it is.

    Both are aligned as a whole, then compared by segments of half a second, each where it
    fits best nearby, so neither a delay nor a jitter buffer's shifts matter, nor loudness;
    missing and foreign speech do. Over G.711 the same speech reaches more than 0.95, another
    speaker or text stays below 0.5. Raises ProbeError, OSError for a file.
    """
    heard, source = _channel(heard), _channel(source)
    length = int(SEGMENT_S * RATE_HZ)
    pieces = [source[at : at + length] for at in range(0, max(source.size - length, 0) + 1, length)]
    powers = np.array([float(np.sum(np.square(piece, dtype=np.float64))) for piece in pieces])
    if heard.size == 0 or powers.max(initial=0) == 0:
        return 0.0
    lag = _best_lag(heard, source)
    reach = int(SEARCH_S * RATE_HZ)
    scores = [
        _best_match(heard, piece, at * length + lag, reach) if power else 0.0
        for at, (piece, power) in enumerate(zip(pieces, powers, strict=True))
    ]
    loud = powers >= AUDIBLE**2 * powers.max()
    return float(np.average(np.array(scores)[loud], weights=np.sqrt(powers[loud])))


def _channel(sound: Samples | Path) -> Samples:
    if not isinstance(sound, Path):
        return sound
    audio = read_wav(sound)
    return resample(audio.samples[0], audio.rate_hz, RATE_HZ)


def _best_lag(heard: Samples, source: Samples) -> int:
    """Where in `heard` the source begins, in samples; may be negative."""
    size = 1 << (heard.size + source.size - 1).bit_length()
    product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(source, size))
    lag = int(np.argmax(np.fft.irfft(product, size)))
    return lag if lag < heard.size else lag - size


def _best_match(heard: Samples, piece: Samples, at: int, reach: int) -> float:
    """The largest normalised correlation of `piece` within `reach` of `at`, 0 to 1."""
    begin, end = at - reach, at + reach + piece.size
    window = np.zeros(end - begin, np.float64)
    inside = heard[max(begin, 0) : max(end, 0)]
    window[max(-begin, 0) :][: inside.size] = inside
    size = 1 << (window.size - 1).bit_length()
    product = np.fft.rfft(window, size) * np.conj(np.fft.rfft(piece.astype(np.float64), size))
    dots = np.fft.irfft(product, size)[: window.size - piece.size + 1]
    sums = np.concatenate(([0.0], np.cumsum(np.square(window))))
    powers = sums[piece.size :] - sums[: -piece.size]
    own = float(np.sum(np.square(piece, dtype=np.float64)))
    # A window far quieter than the loudest has no speech: its noise must not match.
    floor = max(1e-4 * own, 1e-12)
    return float(np.clip(np.max(dots / np.sqrt(own * np.maximum(powers, floor))), 0, 1))
