"""G.711 in a WAV file: format tag 7 (mu-law) or 6 (A-law), 8000 Hz, one octet a sample.

Layout (RIFF, "Multimedia Programming Interface" 1991): `fmt ` of 18 octets, `fact` with the
sample frames, `data`. What is stored is encrypted as it is written, so its sizes read 0xFFFFFFFF,
as streams have them; who plays it puts the true ones there.
"""

from __future__ import annotations

import struct

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
    """A container: header first, then interleaved octets.

    `codec` is "PCMU" or "PCMA". Raises what the sink raises.
    """

    def __init__(self, sink: Sink, codec: str, channels: int) -> None:
        self._sink = sink
        sink.append(header(codec, channels, None))

    def write(self, data: bytes) -> None:
        """Add whole sample frames."""
        self._sink.append(data)

    def close(self) -> None:
        """The sizes stay unknown: nothing before the end can be changed."""
        self._sink.close()


def frames(octets: int, channels: int) -> int:
    """The whole sample frames in a stored file of so many octets in clear."""
    return max(0, octets - HEADER_OCTETS) // channels


def completed(stored: bytes) -> bytes:
    """The file with its true sizes, padded to an even length. Raises ValueError when it is not a
    WAV file of ours."""
    channels, codec = _parse(stored[:HEADER_OCTETS])
    count = frames(len(stored), channels)
    size = count * channels
    data = stored[HEADER_OCTETS : HEADER_OCTETS + size]
    return header(codec, channels, count) + data + b"\0" * (size % 2)


def _parse(head: bytes) -> tuple[int, str]:
    if len(head) < HEADER_OCTETS:
        raise ValueError("too short for a recording")
    fields = _HEADER.unpack(head)
    tag, channels = fields[5], fields[6]
    codec = next((name for name, known in TAGS.items() if known == tag), None)
    marks = (fields[0], fields[2], fields[3], fields[12], fields[15])
    if (
        codec is None
        or channels not in (1, 2)
        or marks != (b"RIFF", b"WAVE", b"fmt ", b"fact", b"data")
    ):
        raise ValueError("not a recording of this relay")
    return channels, codec
