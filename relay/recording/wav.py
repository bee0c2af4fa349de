"""G.711 in a WAV file: format tag 7 (mu-law) or 6 (A-law), 8000 Hz, one octet a sample.

Layout (RIFF, "Multimedia Programming Interface" 1991): `fmt ` of 18 octets, `fact` with the
sample frames, `data`. While a file is being written its sizes read 0xFFFFFFFF, as streams
have them; closing, or `repair` after a crash, puts the true ones there.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from relay.recording.sink import Sink

HEADER_OCTETS = 58
RATE_HZ = 8000
UNKNOWN = 0xFFFFFFFF
TAGS = {"PCMU": 7, "PCMA": 6}
_HEADER = struct.Struct("<4sI4s4sIHHIIHHH4sII4sI")


def header(codec: str, channels: int, frames: int | None) -> bytes:
    """The first HEADER_OCTETS of a file; `frames` None while they are not known."""
    size = UNKNOWN if frames is None else frames * channels
    riff = UNKNOWN if frames is None else HEADER_OCTETS - 8 + size + size % 2
    return _HEADER.pack(
        *(b"RIFF", min(riff, UNKNOWN), b"WAVE"),
        *(b"fmt ", 18, TAGS[codec], channels, RATE_HZ, RATE_HZ * channels, channels, 8, 0),
        *(b"fact", 4, UNKNOWN if frames is None else frames),
        *(b"data", min(size, UNKNOWN)),
    )


class WavFile:
    """A container: header first, then interleaved octets, at the end the true sizes.

    `codec` is "PCMU" or "PCMA". Raises what the sink raises.
    """

    def __init__(self, sink: Sink, codec: str, channels: int) -> None:
        self._sink = sink
        self._codec = codec
        self._channels = channels
        self._octets = 0
        sink.append(header(codec, channels, None))

    def write(self, data: bytes) -> None:
        """Add whole sample frames."""
        self._sink.append(data)
        self._octets += len(data)

    def close(self) -> None:
        """Pad to an even length and complete the header."""
        try:
            if self._octets % 2:
                self._sink.append(b"\0")
        finally:
            frames = self._octets // self._channels
            self._sink.close(header(self._codec, self._channels, frames))


def repair(path: Path) -> float:
    """Complete the header of a file whose writer died; returns its duration in seconds.

    A file that is whole already stays as it is. Raises ValueError when it is not a WAV file
    of ours, OSError.
    """
    with path.open("r+b") as file:
        head = file.read(HEADER_OCTETS)
        channels, codec, frames = _parse(head, path)
        total = os.fstat(file.fileno()).st_size
        size = frames * channels
        if frames != UNKNOWN and total == HEADER_OCTETS + size + size % 2:
            return frames / RATE_HZ
        frames = (total - HEADER_OCTETS) // channels
        size = frames * channels
        file.truncate(HEADER_OCTETS + size)
        file.seek(HEADER_OCTETS + size)
        file.write(b"\0" * (size % 2))
        file.seek(0)
        file.write(header(codec, channels, frames))
    return frames / RATE_HZ


def _parse(head: bytes, path: Path) -> tuple[int, str, int]:
    if len(head) < HEADER_OCTETS:
        raise ValueError(f"{path}: too short for a recording")
    fields = _HEADER.unpack(head)
    tag, channels, frames = fields[5], fields[6], fields[14]
    codec = next((name for name, known in TAGS.items() if known == tag), None)
    marks = (fields[0], fields[2], fields[3], fields[12], fields[15])
    if (
        codec is None
        or channels not in (1, 2)
        or marks != (b"RIFF", b"WAVE", b"fmt ", b"fact", b"data")
    ):
        raise ValueError(f"{path}: not a recording of this relay")
    return channels, codec, frames
