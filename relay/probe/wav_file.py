"""WAV files as samples: 16-bit PCM and G.711 in, 16-bit PCM out.

Samples are float32 arrays from -1 to 1; a file's are of shape (channels, samples).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relay.errors import RelayError
from relay.keys.ring import KeyRing
from relay.recording.decryption import wav_of
from relay.rtp.g711 import PCMA, PCMU, expand

Samples = NDArray[np.float32]

RATE_HZ = 8000
_LAWS = {7: PCMU, 6: PCMA}


class ProbeError(RelayError):
    """Something that the probe needs is missing or unusable; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Audio:
    """A sound: `samples` of shape (channels, samples)."""

    rate_hz: int
    samples: Samples

    @property
    def duration_s(self) -> float:
        return float(self.samples.shape[1] / self.rate_hz)


@cache
def _expanded(law: int) -> Samples:
    return np.array([expand(octet, law) for octet in range(256)], np.float32) / np.float32(32768)


def decode_g711(octets: bytes, law: int) -> Samples:
    """G.711 octets as samples; `law` is the RTP payload type, 0 (PCMU) or 8 (PCMA)."""
    return _expanded(law)[np.frombuffer(octets, np.uint8)]


def read_wav(path: Path) -> Audio:
    """A WAV file of 16-bit PCM or G.711, also one that is still being written.

    Raises ProbeError, OSError.
    """
    return decode_wav(path.read_bytes(), path)


def read_recording(path: Path, keys: Path) -> Audio:
    """A recording of a region, decrypted in memory by the region's keys in a directory.

    Raises RelayError, ValueError, OSError.
    """
    return decode_wav(wav_of(path, KeyRing(keys)), path)


def decode_wav(octets: bytes, path: Path) -> Audio:
    """The octets of a WAV file; `path` is its name in errors. Raises ProbeError."""
    if octets[:4] != b"RIFF" or octets[8:12] != b"WAVE":
        raise ProbeError(f"{path}: not a WAV file")
    at, shape = 12, None
    while at + 8 <= len(octets):
        name, size = struct.unpack_from("<4sI", octets, at)
        if name == b"fmt " and len(octets) >= at + 24:
            shape = struct.unpack_from("<HHIIHH", octets, at + 8)
        elif name == b"data" and shape is not None:
            # A size that is not known yet, as streams have it, reaches beyond the end.
            return _decode(path, octets[at + 8 : at + 8 + size], shape)
        at += 8 + size + size % 2
    raise ProbeError(f"{path}: a WAV file without audio")


def _decode(path: Path, data: bytes, shape: tuple[int, ...]) -> Audio:
    tag, channels, rate_hz, _, align, bits = shape
    if align < 1 or channels < 1 or rate_hz < 1:
        raise ProbeError(f"{path}: a WAV file with an impossible format")
    data = data[: len(data) // align * align]
    if tag in _LAWS and bits == 8:
        flat = decode_g711(data, _LAWS[tag])
    elif tag in (1, 0xFFFE) and bits == 16:
        flat = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    else:
        raise ProbeError(f"{path}: WAV format {tag} with {bits} bits is not read")
    return Audio(rate_hz, np.ascontiguousarray(flat.reshape(-1, channels).T))


def write_wav(path: Path, samples: Samples, rate_hz: int = RATE_HZ) -> None:
    """One channel as 16-bit PCM; louder than 1 is clipped. Raises OSError."""
    data = (np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2").tobytes()
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    path.write_bytes(head + form + struct.pack("<4sI", b"data", len(data)) + data)
