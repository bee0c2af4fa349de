"""The formats that a recording is played in: what is stored is G.711, the others are made of it.

WAV with G.711 is what was recorded, octet by octet. WAV with PCM and FLAC hold the same samples
as 16-bit linear ones; Ogg-Opus is smaller and not the same.
"""

from __future__ import annotations

import io
import struct
from enum import Enum
from functools import cache

import numpy as np
import soundfile
from numpy.typing import NDArray

from relay.recording.wav import RATE_HZ
from relay.rtp.g711 import PCMA, PCMU, SILENCE, expand

Linear = NDArray[np.int16]
LAWS = {"PCMU": PCMU, "PCMA": PCMA}
_PCM = struct.Struct("<4sI4s4sIHHIIHH4sI")


class Format(Enum):
    """The value is what the API and the commands call it."""

    WAV = "wav"
    PCM = "wav-pcm"
    FLAC = "flac"
    OGG = "ogg"

    @property
    def media_type(self) -> str:
        return _MEDIA_TYPES[self]

    @property
    def ending(self) -> str:
        """Of a file's name."""
        return "wav" if self is Format.PCM else self.value


_MEDIA_TYPES = {
    Format.WAV: "audio/wav",
    Format.PCM: "audio/wav",
    Format.FLAC: "audio/flac",
    Format.OGG: 'audio/ogg; codecs="opus"',
}
_ENCODERS = {Format.FLAC: ("FLAC", "PCM_16"), Format.OGG: ("OGG", "OPUS")}


@cache
def _expanded(codec: str) -> Linear:
    """The 256 octets of a law as linear samples."""
    return np.array([expand(octet, LAWS[codec]) for octet in range(256)], np.int16)


def linear(octets: bytes, codec: str) -> Linear:
    """G.711 as 16-bit samples, one an octet; `codec` is "PCMU" or "PCMA"."""
    return _expanded(codec)[np.frombuffer(octets, np.uint8)]


def pcm_header(channels: int, frames: int) -> bytes:
    """The 44 octets before 16-bit PCM of so many sample frames."""
    size = 2 * channels * frames
    return _PCM.pack(
        *(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, channels),
        *(RATE_HZ, 2 * RATE_HZ * channels, 2 * channels, 16, b"data", size),
    )


class Encoder:
    """A recording as FLAC or Ogg-Opus, made of interleaved G.711 as it comes. Takes its time: not
    for a loop."""

    def __init__(self, codec: str, channels: int, form: Format) -> None:
        self._codec, self._channels = codec, channels
        self._made = io.BytesIO()
        container, subtype = _ENCODERS[form]
        self._file = soundfile.SoundFile(
            self._made, "w", RATE_HZ, channels, format=container, subtype=subtype
        )

    def add(self, octets: bytes) -> None:
        """Whole sample frames."""
        self._file.write(linear(octets, self._codec).reshape(-1, self._channels))

    def end(self) -> memoryview:
        """All of it."""
        if not self._file.frames:  # nothing at all is no file
            self.add(bytes([SILENCE[LAWS[self._codec]]]) * self._channels)
        self._file.close()
        return self._made.getbuffer()
