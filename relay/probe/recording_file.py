"""Reads a recording of the relay without the relay: a G.711 WAV into 16-bit channels."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

PCMA, PCMU = 6, 7  # WAVE format tags
RATE_HZ = 8000


def _ulaw() -> npt.NDArray[np.int16]:
    """ITU-T G.711 mu-law: 256 octets to linear."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 0x0F).astype(int) << 3) + 0x84) << ((code & 0x70).astype(int) >> 4)
    return np.where(code & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(np.int16)


def _alaw() -> npt.NDArray[np.int16]:
    """ITU-T G.711 A-law: 256 octets to linear."""
    code = (np.arange(256) ^ 0x55).astype(int)
    segment, step = (code & 0x70) >> 4, (code & 0x0F) << 4
    magnitude = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


TABLES = {PCMU: _ulaw(), PCMA: _alaw()}


def read(path: Path) -> npt.NDArray[np.int16]:
    """Linear samples, shape (frames, channels). Raises ValueError for another format."""
    octets = path.read_bytes()
    if octets[:4] != b"RIFF" or octets[8:12] != b"WAVE":
        raise ValueError(f"{path}: not a WAV file")
    at, tag, channels = 12, 0, 0
    while at + 8 <= len(octets):
        name, size = struct.unpack_from("<4sI", octets, at)
        if name == b"fmt ":
            tag, channels = struct.unpack_from("<HH", octets, at + 8)
        if name == b"data":
            if tag not in TABLES:
                raise ValueError(f"{path}: format {tag} is not G.711")
            data = np.frombuffer(octets[at + 8 : at + 8 + size], np.uint8)
            whole = len(data) - len(data) % channels
            return TABLES[tag][data[:whole]].reshape(-1, channels)
        at += 8 + size + size % 2
    raise ValueError(f"{path}: no audio in it")


def split_channels(path: Path, directory: Path) -> list[Path]:
    """Write each channel as a WAV of its own (16 bit, mono, 8 kHz); returns their paths."""
    paths = []
    for number, samples in enumerate(read(path).T):
        channel = directory / f"{path.stem}-{number}.wav"
        with wave.open(str(channel), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes(samples.astype("<i2").tobytes())
        paths.append(channel)
    return paths
