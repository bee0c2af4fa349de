"""SRTP and SRTCP: the readable reference of native/srtp.pxd, srtp_keys.pxd and replay.pxd.

RFC 3711 (AES-CM with HMAC-SHA1), RFC 6188 (AES-256), RFC 7714 (AES-GCM). The block cipher is
an argument: a server never runs this module, and its tests bring AES along.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from relay.rtp.aes_modes import BlockCipher, counter_mode, gcm_close, gcm_open
from relay.rtp.packet import Unusable

REPLAY_WINDOW = 128
STREAMS = 16
RETIRED = 112
QUIET_NS = 1_000_000_000
ROLL_NS = 327_680_000_000
ROLLS_TRIED = 8
SRTCP_HEADER = 8
HIGHEST_SRTCP_INDEX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a suite in octets."""

    aead: bool
    key: int
    salt: int
    tag: int
    rtcp_tag: int


SHAPES = {
    "AES_CM_128_HMAC_SHA1_80": Shape(False, 16, 14, 10, 10),
    "AES_CM_128_HMAC_SHA1_32": Shape(False, 16, 14, 4, 10),
    "AES_256_CM_HMAC_SHA1_80": Shape(False, 32, 14, 10, 10),
    "AEAD_AES_128_GCM": Shape(True, 16, 12, 16, 16),
    "AEAD_AES_256_GCM": Shape(True, 32, 12, 16, 16),
}


@dataclass(frozen=True, slots=True, repr=False)
class SessionKeys:
    """What is derived for SRTP or for SRTCP (RFC 3711 section 4.3.1)."""

    key: bytes
    auth: bytes
    salt: bytes


def session_keys(
    aes: BlockCipher, suite: str, key: bytes, salt: bytes
) -> tuple[SessionKeys, SessionKeys]:
    """Of SRTP and of SRTCP, for a key derivation rate of 0 (RFC 3711 section 4.3)."""
    shape = SHAPES[suite]
    padded = int.from_bytes(salt.ljust(14, b"\0"), "big")  # RFC 7714 section 11

    def derive(label: int, octets: int) -> bytes:
        iv = (padded ^ label << 48) << 16
        return counter_mode(aes, key, iv.to_bytes(16, "big"), bytes(octets))

    def derive_all(first: int) -> SessionKeys:
        return SessionKeys(
            derive(first, shape.key), derive(first + 1, 20), derive(first + 2, shape.salt)
        )

    return derive_all(0), derive_all(3)


@dataclass(slots=True)
class Replay:
    """Indices that were used, the newest 128 of them (RFC 3711 section 3.3.2)."""

    highest: int | None = None
    used: set[int] = field(default_factory=set)

    def estimate(self, sequence: int) -> int:
        """The likeliest index of a sequence number (RFC 3711 section 3.3.1)."""
        if self.highest is None:
            return sequence
        highest, roc = self.highest, self.highest // 65536
        near = [65536 * r + sequence for r in (roc, roc - 1, roc + 1) if r >= 0]
        return min(near, key=lambda index: abs(index - highest))

    def too_old(self, index: int) -> bool:
        return self.highest is not None and index <= self.highest - REPLAY_WINDOW

    def fresh(self, index: int) -> bool:
        return index not in self.used and not self.too_old(index)

    def mark(self, index: int) -> None:
        self.highest = index if self.highest is None else max(index, self.highest)
        self.used = {i for i in (*self.used, index) if not self.too_old(i)}


@dataclass(slots=True)
class Stream:
    """One SSRC under one key."""

    last_ns: int
    rtp: Replay = field(default_factory=Replay)
    rtcp: Replay = field(default_factory=Replay)
    shift: int = 0
    successor: int | None = None


class Srtp:
    """One master key in one direction. What cannot be opened or closed raises `Unusable`."""

    def __init__(
        self,
        aes: BlockCipher,
        suite: str,
        key: bytes,
        salt: bytes,
        mki: bytes = b"",
        session: SessionKeys | None = None,
    ) -> None:
        self._aes = aes
        self._shape = SHAPES[suite]
        self._mki = mki
        self._rtp, self._rtcp = session_keys(aes, suite, key, salt)
        if session is not None:
            self._rtp = self._rtcp = session
        self._streams: dict[int, Stream] = {}
        self._retired: set[int] = set()
        self._srtcp_index = 0

    # -- opening ---------------------------------------------------------------------

    def open(self, packet: bytes, now_ns: int = 0) -> bytes:
        """An RTP packet out of SRTP (RFC 3711 section 3.3)."""
        start, sequence, ssrc = _rtp_header(packet)
        if start + self._shape.tag + len(self._mki) > len(packet):
            raise Unusable("srtp_too_short")
        stream = self._streams.get(ssrc)
        estimate = sequence if stream is None else stream.rtp.estimate(sequence)
        for roll in range(_rolls(stream, now_ns)):
            index = estimate + 65536 * roll
            plain = self._authentic(packet, start, ssrc, index)
            if plain is not None:
                break
        else:
            raise Unusable("srtp_authentication_failed")
        stream = stream or self._new_stream(ssrc, now_ns, "srtp_replayed")
        if not stream.rtp.fresh(index):
            raise Unusable("srtp_replayed")
        stream.rtp.mark(index)
        stream.last_ns = now_ns
        return plain

    def _authentic(self, packet: bytes, start: int, ssrc: int, index: int) -> bytes | None:
        tag = self._shape.tag
        end = len(packet) - tag - len(self._mki)
        iv = self._iv(self._rtp, ssrc, index)
        if self._shape.aead:
            sealed = packet[start : end + tag]
            payload = gcm_open(self._aes, self._rtp.key, iv, packet[:start], sealed)
            return None if payload is None else packet[:start] + payload
        digest = self._digest(self._rtp, packet[:end] + (index >> 16).to_bytes(4, "big"))
        if not hmac.compare_digest(digest[:tag], packet[-tag:]):
            return None
        payload = counter_mode(self._aes, self._rtp.key, iv, packet[start:end])
        return packet[:start] + payload

    def open_rtcp(self, packet: bytes, now_ns: int = 0) -> bytes:
        """An RTCP packet out of SRTCP (RFC 3711 section 3.4), encrypted or not."""
        tag = self._shape.rtcp_tag
        end = len(packet) - tag - 4 - len(self._mki)
        if end < SRTCP_HEADER:
            raise Unusable("srtp_too_short")
        at = end + tag if self._shape.aead else end
        word = packet[at : at + 4]
        index = int.from_bytes(word, "big") & HIGHEST_SRTCP_INDEX
        ssrc = int.from_bytes(packet[4:8], "big")
        head = SRTCP_HEADER if word[0] & 0x80 else end
        iv = self._iv(self._rtcp, ssrc, index)
        if self._shape.aead:
            sealed = packet[head : end + tag]
            rest = gcm_open(self._aes, self._rtcp.key, iv, packet[:head] + word, sealed)
            if rest is None:
                raise Unusable("srtp_authentication_failed")
        else:
            digest = self._digest(self._rtcp, packet[: end + 4])
            if not hmac.compare_digest(digest[:tag], packet[-tag:]):
                raise Unusable("srtp_authentication_failed")
            rest = counter_mode(self._aes, self._rtcp.key, iv, packet[head:end])
        stream = self._streams.get(ssrc) or self._new_stream(ssrc, now_ns, "srtp_replayed")
        if not stream.rtcp.fresh(index):
            raise Unusable("srtp_replayed")
        stream.rtcp.mark(index)
        return packet[:head] + rest

    # -- closing ---------------------------------------------------------------------

    def close(self, packet: bytes, now_ns: int = 0) -> bytes:
        """An RTP packet into SRTP; no index is ever used twice."""
        start, sequence, ssrc = _rtp_header(packet)
        stream = self._streams.get(ssrc) or self._new_stream(ssrc, now_ns, "srtp_too_many_streams")
        index = _next_index(stream, sequence)
        stream.rtp.mark(index)
        stream.last_ns = now_ns
        head = packet[:2] + (index % 65536).to_bytes(2, "big") + packet[4:start]
        iv = self._iv(self._rtp, ssrc, index)
        if self._shape.aead:
            return head + gcm_close(self._aes, self._rtp.key, iv, head, packet[start:]) + self._mki
        closed = head + counter_mode(self._aes, self._rtp.key, iv, packet[start:])
        digest = self._digest(self._rtp, closed + (index >> 16).to_bytes(4, "big"))
        return closed + self._mki + digest[: self._shape.tag]

    def close_rtcp(self, packet: bytes) -> bytes:
        """An RTCP packet into SRTCP, encrypted."""
        if self._srtcp_index == HIGHEST_SRTCP_INDEX:
            raise Unusable("srtp_key_exhausted")
        self._srtcp_index += 1
        head, rest = packet[:SRTCP_HEADER], packet[SRTCP_HEADER:]
        word = (self._srtcp_index | 2**31).to_bytes(4, "big")
        iv = self._iv(self._rtcp, int.from_bytes(packet[4:8], "big"), self._srtcp_index)
        if self._shape.aead:
            return (
                head
                + gcm_close(self._aes, self._rtcp.key, iv, head + word, rest)
                + word
                + self._mki
            )
        closed = head + counter_mode(self._aes, self._rtcp.key, iv, rest) + word
        digest = self._digest(self._rtcp, closed)
        return closed + self._mki + digest[: self._shape.rtcp_tag]

    # -- parts -----------------------------------------------------------------------

    def _new_stream(self, ssrc: int, now_ns: int, retired: str) -> Stream:
        if ssrc in self._retired:
            raise Unusable(retired)
        if len(self._streams) == STREAMS:
            oldest = min(self._streams, key=lambda other: self._streams[other].last_ns)
            quiet = now_ns - self._streams[oldest].last_ns >= QUIET_NS
            if not quiet or len(self._retired) == RETIRED:
                raise Unusable("srtp_too_many_streams")
            self._retired.add(oldest)
            del self._streams[oldest]
        stream = self._streams[ssrc] = Stream(now_ns)
        return stream

    def _iv(self, keys: SessionKeys, ssrc: int, index: int) -> bytes:
        """RFC 3711 section 4.1.1 (16 octets), RFC 7714 sections 8.1 and 9.1 (12 octets)."""
        salt = int.from_bytes(keys.salt, "big")
        if self._shape.aead:
            return (salt ^ ssrc << 48 ^ index).to_bytes(12, "big")
        return (salt << 16 ^ ssrc << 64 ^ index << 16).to_bytes(16, "big")

    @staticmethod
    def _digest(keys: SessionKeys, data: bytes) -> bytes:
        return hmac.new(keys.auth, data, hashlib.sha1).digest()


def _next_index(stream: Stream, sequence: int) -> int:
    """The index of a packet that is sent; a sender that started anew is continued."""
    index = stream.rtp.estimate((sequence + stream.shift) % 65536)
    if stream.rtp.fresh(index):
        stream.successor = None
        return index
    if stream.rtp.too_old(index) and stream.rtp.highest is not None:
        if stream.successor == sequence:
            stream.successor = None
            stream.shift = (stream.rtp.highest + 1 - sequence) % 65536
            return stream.rtp.highest + 1
        stream.successor = (sequence + 1) % 65536
    raise Unusable("srtp_number_repeated")


def _rolls(stream: Stream | None, now_ns: int) -> int:
    """How many values of the ROC are tried: more after a long silence."""
    if stream is None or stream.rtp.highest is None:
        return 2
    return min(ROLLS_TRIED, 1 + max(0, now_ns - stream.last_ns) // ROLL_NS)


def _rtp_header(packet: bytes) -> tuple[int, int, int]:
    """Where the payload starts, the sequence number and the SSRC (RFC 3550 section 5.1)."""
    if len(packet) < 12:
        raise Unusable("short")
    start = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    if start > len(packet):
        raise Unusable("malformed")
    return start, int.from_bytes(packet[2:4], "big"), int.from_bytes(packet[8:12], "big")
