"""What a datagram is: the readable reference of native/packet.pxd.

RFC 7983 tells protocols apart by the first octet, RFC 5761 RTP from RTCP by the second,
RFC 3550 section 5.1 says what an RTP packet looks like. A datagram that cannot be used
raises `Unusable` with the engine's drop code.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

MAX_DATAGRAM_OCTETS = 2048


class Kind(Enum):
    RTP = "rtp"
    RTCP = "rtcp"


class Unusable(ValueError):
    """A datagram that the engine drops; `code` is the name of its drop counter."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One RTP packet. `payload` excludes CSRCs, the header extension and padding."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload_at: int
    payload: bytes


def demux(data: bytes) -> Kind:
    """Which protocol a datagram is of (RFC 7983 section 7). Raises Unusable."""
    if not data:
        raise Unusable("short")
    if len(data) > MAX_DATAGRAM_OCTETS:
        raise Unusable("oversized")
    first = data[0]
    if first <= 3:
        raise Unusable("stun")
    if 20 <= first <= 63:
        raise Unusable("dtls")
    if first <= 79:
        raise Unusable("not_rtp")
    if not 128 <= first <= 191:
        raise Unusable("bad_version")
    if len(data) < 2:
        raise Unusable("short")
    return Kind.RTCP if 192 <= data[1] <= 223 else Kind.RTP


def parse(data: bytes) -> RtpPacket:
    """An RTP packet (RFC 3550 section 5.1 and 5.3.1). Raises Unusable."""
    if len(data) < 12:
        raise Unusable("short")
    first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", data)
    if first >> 6 != 2:
        raise Unusable("bad_version")
    start = 12 + 4 * (first & 0x0F)
    if first & 0x10:
        start += 4 + 4 * _extension_words(data, start)
    end = len(data) - _padding(data, first)
    if start > end:
        raise Unusable("malformed")
    return RtpPacket(
        second & 0x7F, bool(second >> 7), sequence, timestamp, ssrc, start, data[start:end]
    )


def build(
    payload_type: int,
    sequence: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    marker: bool = False,
) -> bytes:
    """A plain RTP packet without CSRCs, extension or padding."""
    second = payload_type | (0x80 if marker else 0)
    return struct.pack("!BBHII", 0x80, second, sequence, timestamp, ssrc) + payload


def _extension_words(data: bytes, at: int) -> int:
    if at + 4 > len(data):
        raise Unusable("malformed")
    return int(struct.unpack_from("!H", data, at + 2)[0])


def _padding(data: bytes, first: int) -> int:
    if not first & 0x20:
        return 0
    if data[-1] == 0:
        raise Unusable("malformed")
    return data[-1]
