"""RTP packets for the tests of the tap, the timeline and the recorder."""

from __future__ import annotations

import struct


def rtp(
    seq: int,
    timestamp: int,
    payload: bytes,
    *,
    ssrc: int = 0x1234,
    payload_type: int = 0,
) -> bytes:
    """One packet (RFC 3550 section 5.1); counters are taken modulo their width."""
    return (
        struct.pack(
            "!BBHII", 0x80, payload_type, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc & 0xFFFFFFFF
        )
        + payload
    )
