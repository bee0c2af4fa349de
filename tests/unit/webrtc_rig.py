"""What the tests of WebRTC legs share: checks, DTLS-like octets, and keys put in by hand."""

from __future__ import annotations

import struct

from relay.call.ports import Side
from relay.sdp.description import Fingerprint, IceDtls, LegMedia, SrtpKeys
from tests.unit.media_rig import Peer, Rig
from tests.unit.srtp_rig import Phone

LOOPBACK = ("127.0.0.0/8", "::1/128")
UFRAG = "Ab3+"
DTLS = bytes([22, 0xFE, 0xFD]) + bytes(40)  # a handshake record as far as anybody looks
COOKIE = 0x2112A442


def attribute(kind: int, value: bytes) -> bytes:
    """One STUN attribute (RFC 8489 section 14)."""
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def stun(attributes: bytes = b"", kind: int = 0x0001) -> bytes:
    """A STUN message."""
    return struct.pack("!HHI", kind, len(attributes), COOKIE) + bytes(range(12)) + attributes


def check(ufrag: str = UFRAG, theirs: str = "peer") -> bytes:
    """An ICE check as far as the engine looks at it (RFC 8445 section 7.2.2)."""
    more = attribute(0x0024, bytes(4)) + attribute(0x8029, bytes(8))
    return stun(more + attribute(0x0006, f"{ufrag}:{theirs}".encode()))


def ice(ufrag: str = UFRAG) -> IceDtls:
    """What an offer/answer agreed on."""
    digest = Fingerprint("sha-256", bytes(32))
    return IceDtls(ufrag, "p" * 24, "peer", "q" * 24, (digest,))


class Browser(Phone):
    """A WebRTC peer whose keys are put in without DTLS."""

    def leg(self, ufrag: str = UFRAG, **more: object) -> LegMedia:
        return self.peer.leg(remote=None, webrtc=ice(ufrag), **more)

    def keys(self) -> SrtpKeys:
        """What DTLS would have given us."""
        return SrtpKeys((self.key,), self.ours)


def webrtc_caller(r: Rig, suite: str = "AEAD_AES_128_GCM") -> Browser:
    """A WebRTC caller and a plain callee, described; neither path nor keys yet."""
    browser = Browser(r.caller, suite)
    r.call.update(Side.CALLER, browser.leg())
    r.call.update(Side.CALLEE, r.callee.leg())
    return browser


def secured_caller(r: Rig, suite: str = "AEAD_AES_128_GCM") -> Browser:
    """The same when ICE and DTLS are done."""
    browser = webrtc_caller(r, suite)
    r.call.select(Side.CALLER, (r.caller.host, r.caller.port))
    r.call.secure(Side.CALLER, browser.keys())
    return browser


def waiting(r: Rig) -> list[tuple[int, int, bytes, tuple[str, int]]]:
    """What the workers have for Python now."""
    return [packet for worker in r.engine._workers for packet in worker.packets()]


def at(peer: Peer) -> tuple[str, int]:
    """Where a peer's RTP socket is."""
    return peer.host, peer.port
