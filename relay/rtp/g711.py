"""G.711 companding (ITU-T G.711), straight from its definition: the reference of the tables.

Laws are named by their RTP payload type (RFC 3551): 0 is PCMU (mu-law), 8 PCMA (A-law).
Linear samples are 16-bit signed integers.
"""

from __future__ import annotations

from functools import cache

PCMU = 0
PCMA = 8
SILENCE = {PCMU: 0xFF, PCMA: 0xD5}


def expand(octet: int, law: int) -> int:
    """The linear sample of one octet."""
    if law == PCMU:
        inverted = octet ^ 0xFF
        magnitude = ((2 * (inverted & 15) + 33) << (inverted >> 4 & 7)) - 33
        return -4 * magnitude if inverted & 0x80 else 4 * magnitude
    toggled = octet ^ 0x55
    segment, step = toggled >> 4 & 7, toggled & 15
    magnitude = 2 * step + 1 if segment == 0 else (2 * step + 33) << (segment - 1)
    return 8 * magnitude if toggled & 0x80 else -8 * magnitude


def compress(linear: int, law: int) -> int:
    """The octet of one linear sample, saturated."""
    if law == PCMU:
        magnitude = min(abs(linear), 32635) + 132
        segment = magnitude.bit_length() - 8
        sign = 0x80 if linear < 0 else 0
        return (sign | segment << 4 | (magnitude >> (segment + 3) & 15)) ^ 0xFF
    magnitude = (~linear if linear < 0 else linear) >> 3
    segment = max(0, magnitude.bit_length() - 5)
    sign = 0 if linear < 0 else 0x80
    return (sign | segment << 4 | (magnitude >> max(1, segment) & 15)) ^ 0x55


@cache
def converted(source: int, target: int) -> bytes:
    """The 256 octets of one law in another."""
    if source == target:
        return bytes(range(256))
    return bytes(compress(expand(octet, source), target) for octet in range(256))


def convert(payload: bytes, source: int, target: int) -> bytes:
    """The same audio in another law, an octet a sample."""
    return payload.translate(converted(source, target))


def mix(left: bytes, right: bytes, law: int) -> bytes:
    """Both sides in one channel: the saturated sum. Idle octets add nothing."""
    value = [expand(octet, law) for octet in range(256)]
    if law == PCMA:
        value[0xD5] = value[0x55] = 0  # plus and minus one half step
    sums = (value[a] + value[b] for a, b in zip(left, right, strict=True))
    # The native table is indexed by 14 bits: the low two never matter to either law.
    return bytes(compress(max(-32768, min(32767, s)) & ~3, law) for s in sums)
