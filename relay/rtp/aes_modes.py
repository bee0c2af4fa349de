"""Counter mode and GCM over a block cipher: the parts of the SRTP reference that are not SRTP.

Slow and readable. The block cipher is an argument, see relay/rtp/srtp.py.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

BlockCipher = Callable[[bytes, bytes], bytes]  # (key, block of 16 octets) -> block
GCM_TAG = 16
_POLYNOMIAL = 0xE1 << 120


def counter_mode(aes: BlockCipher, key: bytes, iv: bytes, data: bytes) -> bytes:
    """AES-CM: data XOR the cipher of iv, iv + 1 … (RFC 3711 section 4.1.1)."""
    start = int.from_bytes(iv, "big")
    stream = b"".join(
        aes(key, ((start + i) % 2**128).to_bytes(16, "big")) for i in range((len(data) + 15) // 16)
    )
    return _xor(data, stream)


def gcm_close(aes: BlockCipher, key: bytes, iv: bytes, clear: bytes, data: bytes) -> bytes:
    """GCM with an IV of 12 octets (NIST SP 800-38D): the ciphertext, then its tag."""
    sealed = counter_mode(aes, key, iv + b"\0\0\0\2", data)
    return sealed + _tag(aes, key, iv, clear, sealed)


def gcm_open(aes: BlockCipher, key: bytes, iv: bytes, clear: bytes, data: bytes) -> bytes | None:
    """What was closed, or None when the tag is wrong."""
    sealed, tag = data[:-GCM_TAG], data[-GCM_TAG:]
    if not hmac.compare_digest(tag, _tag(aes, key, iv, clear, sealed)):
        return None
    return counter_mode(aes, key, iv + b"\0\0\0\2", sealed)


def _tag(aes: BlockCipher, key: bytes, iv: bytes, clear: bytes, sealed: bytes) -> bytes:
    lengths = (8 * len(clear)).to_bytes(8, "big") + (8 * len(sealed)).to_bytes(8, "big")
    digest = _ghash(aes(key, bytes(16)), _blocks(clear) + _blocks(sealed) + lengths)
    return _xor(digest, aes(key, iv + b"\0\0\0\1"))


def _ghash(key: bytes, data: bytes) -> bytes:
    """The sum of the blocks times powers of the key in GF(2^128), the leftmost bit being x^0."""
    h, y = int.from_bytes(key, "big"), 0
    for at in range(0, len(data), 16):
        x, y, v = y ^ int.from_bytes(data[at : at + 16], "big"), 0, h
        for bit in range(127, -1, -1):
            if x >> bit & 1:
                y ^= v
            v = v >> 1 ^ (_POLYNOMIAL if v & 1 else 0)
    return y.to_bytes(16, "big")


def _blocks(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _xor(data: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(data, other, strict=False))
