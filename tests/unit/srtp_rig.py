"""What the SRTP tests share: keys, AES for the reference, libsrtp as the other side."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import cast

import pylibsrtp
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pylibsrtp import _binding

from relay import _native
from relay.rtp import srtp
from relay.rtp.packet import Unusable
from relay.sdp.description import SUITES, LegMedia, MediaAddress, SrtpKey, SrtpKeys
from tests.unit.media_rig import PCMU, Peer

SUITE_NAMES = sorted(SUITES)


@functools.lru_cache(maxsize=256)
def _encryptor(key: bytes):  # type: ignore[no-untyped-def]
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor()


def aes(key: bytes, block: bytes) -> bytes:
    """One block of AES, for the reference."""
    return cast(bytes, _encryptor(key).update(block))


def fresh_key(suite: str = "AES_CM_128_HMAC_SHA1_80", mki: bytes = b"") -> SrtpKey:
    """A random master key."""
    shape = SUITES[suite]
    return SrtpKey(suite, os.urandom(shape.key_octets), os.urandom(shape.salt_octets), mki)


def native(key: SrtpKey, sends: bool, srtcp_index: int = 0) -> _native.Srtp:
    """This key in the engine's hands."""
    return _native.Srtp(key.suite, key.key, key.salt, sends, key.mki, None, srtcp_index)


class Reference:
    """The readable reference with the hooks' way to say that a packet is dropped."""

    def __init__(self, key: SrtpKey) -> None:
        self._srtp = srtp.Srtp(aes, key.suite, key.key, key.salt, key.mki)

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        def call(*arguments: object) -> bytes | str:
            try:
                return cast(bytes, getattr(self._srtp, name)(*arguments))
            except Unusable as drop:
                return drop.code

        return call


_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}


def libsrtp(key: SrtpKey, sends: bool) -> pylibsrtp.Session:
    """libsrtp with the same master key."""
    inbound = pylibsrtp.Policy.SSRC_ANY_INBOUND
    policy = pylibsrtp.Policy(
        ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND if sends else inbound,
        srtp_profile=_PROFILES.get(key.suite, _PROFILES["AES_CM_128_HMAC_SHA1_80"]),
    )
    policy.window_size = 128
    if key.suite not in _PROFILES:  # pylibsrtp names no profile for it, libsrtp has the suite
        _use_aes_256_cm(policy)
    padded = key.key + key.salt
    policy.key = padded + bytes(max(0, 30 - len(padded)))
    return pylibsrtp.Session(policy)


def _use_aes_256_cm(policy: pylibsrtp.Policy) -> None:
    library = ctypes.CDLL(_binding.__file__)
    for part in (policy._policy.rtp, policy._policy.rtcp):
        address = int(_binding.ffi.cast("intptr_t", _binding.ffi.addressof(part)))
        library.srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(ctypes.c_void_p(address))


class Phone:
    """A peer that speaks SRTP with libsrtp; `key` is what it sends with, `ours` what we do."""

    def __init__(self, peer: Peer, suite: str = "AES_CM_128_HMAC_SHA1_80") -> None:
        self.peer = peer
        self.rekey(suite)

    def rekey(self, suite: str = "AES_CM_128_HMAC_SHA1_80") -> None:
        """Other keys both ways; libsrtp forgets all state."""
        self.key, self.ours = fresh_key(suite), fresh_key(suite)
        self.sending, self.receiving = libsrtp(self.key, True), libsrtp(self.ours, False)

    def leg(self, **more: object) -> LegMedia:
        """The description that its SDP would give."""
        return self.peer.leg(srtp=SrtpKeys((self.key,), self.ours), **more)

    def packet(self, payload_type: int = PCMU, payload: bytes = b"\xff" * 160) -> bytes:
        """The stream's next packet, closed."""
        return self.sending.protect(self.peer.next_packet(payload_type, payload))

    def send(
        self, to: MediaAddress, payload_type: int = PCMU, payload: bytes = b"\xff" * 160
    ) -> bytes:
        """Send the next packet; returns what it holds."""
        plain = self.peer.next_packet(payload_type, payload)
        self.peer.send(to, self.sending.protect(plain))
        return plain

    def hear(self) -> bytes:
        """The next packet that arrived, opened."""
        return self.receiving.unprotect(self.peer.rtp.recv(4096))
