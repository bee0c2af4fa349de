"""Where the sound of a recording begins and ends: the silence around it can be left out."""

from __future__ import annotations

import numpy as np

from relay.recording.formats import linear
from relay.recording.wav import RATE_HZ

FRAME = RATE_HZ // 50
"""Sample frames that are judged together: 20 ms."""
QUIET = 100.0
"""The root mean square below which 20 ms are silence: -50 dB of full scale, above the comfort
noise that telephones make."""
KEPT = RATE_HZ // 5
"""Of the silence next to sound so much stays: a soft onset is no silence."""


def first_sound(octets: bytes, codec: str, channels: int) -> int | None:
    """The sample frame at which the first 20 ms with sound on any channel begin; None: all is
    silent."""
    loud = _loud(octets, codec, channels)
    return int(loud[0]) * FRAME if loud.size else None


def last_sound(octets: bytes, codec: str, channels: int) -> int | None:
    """The sample frame at which the last 20 ms with sound end, or None."""
    loud = _loud(octets, codec, channels)
    return min(int(loud[-1] + 1) * FRAME, len(octets) // channels) if loud.size else None


def _loud(octets: bytes, codec: str, channels: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    samples = linear(octets, codec).astype(np.float32).reshape(-1, channels)
    missing = -len(samples) % FRAME
    samples = np.pad(samples, ((0, missing), (0, 0)))
    power = (samples.reshape(-1, FRAME, channels) ** 2).mean(axis=1).max(axis=1)
    return np.flatnonzero(power >= QUIET**2)
