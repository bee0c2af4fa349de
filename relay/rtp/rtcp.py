"""RTCP as the engine sees it: the readable reference of `rtcp_view` in native/packet.pxd.

The engine forwards reports and does not depend on them; it only checks that a compound
packet is well formed (RFC 3550 A.2), reduced-size packets included (RFC 5506).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relay.rtp.packet import Unusable


@dataclass(frozen=True, slots=True)
class Compound:
    """The head of the first packet, and how many packets the compound holds."""

    packet_type: int
    count: int
    ssrc: int
    packets: int


def parse(data: bytes) -> Compound:
    """Check a whole compound packet. Raises `Unusable`."""
    if len(data) < 8:
        raise Unusable("short")
    at = packets = 0
    while at < len(data):
        if len(data) - at < 4:
            raise Unusable("malformed")
        first, _, words = struct.unpack_from("!BBH", data, at)
        if first >> 6 != 2:
            raise Unusable("bad_version")
        end = at + 4 * (words + 1)
        padded = bool(first & 0x20)
        if end > len(data) or (padded and end != len(data)):
            raise Unusable("malformed")
        at = end
        packets += 1
    return Compound(data[1], data[0] & 0x1F, int.from_bytes(data[4:8], "big"), packets)


def receiver_report(ssrc: int) -> bytes:
    """An empty receiver report (RFC 3550 section 6.4.2)."""
    return struct.pack("!BBHI", 0x80, 201, 1, ssrc)
