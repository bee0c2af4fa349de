"""How recordings are encrypted: Tink's streaming AEAD (AES256_GCM_HKDF), segment by segment.

A file is a header (its own length in one octet, 32 octets of salt, 7 of nonce prefix) and segments
of one size, the header counted into the first: ciphertext and a tag of 16 octets each. The key of
a file is HKDF-SHA256 of the recording's data key, by the salt, for the associated data; a nonce is
the prefix, the segment's number in 4 octets, and 1 for the last segment, else 0. So segments can
be read at random, none can be moved, and a file that lacks its end shows it.

Tink's own stream holds back 128 KiB, eight seconds of audio: hence this writer. A segment is a
quarter of a second of G.711 (2,048 octets a channel), and is written as soon as it is full.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.errors import NotAuthentic
from relay.recording.sink import Sink

FORMAT = "AES256_GCM_HKDF"
KEY_OCTETS = 32
SEGMENT_OCTETS = 2048
"""Of ciphertext, a channel: with two channels it is Tink's AES256_GCM_HKDF_4KB."""
SALT_OCTETS = 32
PREFIX_OCTETS = 7
HEADER_OCTETS = 1 + SALT_OCTETS + PREFIX_OCTETS
TAG_OCTETS = 16
MOST_SEGMENTS = 2**32


class SegmentCipher:
    """Seals and opens the segments of one file; `segment` is their size in octets.

    `context` is the associated data: which recording of which region it is.
    """

    def __init__(self, data_key: bytes, context: str, segment: int, header: bytes) -> None:
        if len(header) != HEADER_OCTETS or header[0] != HEADER_OCTETS:
            raise NotAuthentic("is not encrypted as recordings are")
        self.header = header
        self._prefix = header[1 + SALT_OCTETS :]
        salt = header[1 : 1 + SALT_OCTETS]
        self._aead = AESGCM(HKDF(SHA256(), KEY_OCTETS, salt, context.encode()).derive(data_key))
        self.layout = Layout(segment)

    def seal(self, number: int, plain: bytes, last: bool = False) -> bytes:
        """Each number once: two segments of one nonce would betray both."""
        return self._aead.encrypt(self._nonce(number, last), plain, None)

    def open(self, number: int, sealed: bytes, last: bool = False) -> bytes:
        """Raises NotAuthentic."""
        try:
            return self._aead.decrypt(self._nonce(number, last), sealed, None)
        except (InvalidTag, ValueError):
            raise NotAuthentic(f"segment {number} was changed, or is another recording's") from None

    def _nonce(self, number: int, last: bool) -> bytes:
        return self._prefix + number.to_bytes(4, "big") + (b"\1" if last else b"\0")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the segments of a file stand, and which octets of audio are in which of them."""

    segment: int

    def begin(self, number: int) -> int:
        """Where a segment begins in the file."""
        return number * self.segment if number else HEADER_OCTETS

    def plain(self, number: int) -> int:
        """The first octet in clear that is in it."""
        return number and number * (self.segment - TAG_OCTETS) - HEADER_OCTETS

    def room(self, number: int) -> int:
        """How many octets in clear it takes."""
        return self.plain(number + 1) - self.plain(number)

    def holding(self, octet: int) -> int:
        """The segment that this octet in clear is in."""
        return (octet + HEADER_OCTETS) // (self.segment - TAG_OCTETS)

    def whole(self, size: int) -> tuple[int, int]:
        """Of a file of `size` octets: how many full segments, and what stands behind them."""
        if size < HEADER_OCTETS:
            return 0, 0
        full = size // self.segment
        return full, size - (full * self.segment or HEADER_OCTETS)


def new_header() -> bytes:
    """With a fresh salt and nonce prefix."""
    return bytes([HEADER_OCTETS]) + os.urandom(SALT_OCTETS + PREFIX_OCTETS)


class EncryptedSink:
    """A sink around a sink: nothing leaves it in clear. Raises what the sink raises."""

    def __init__(self, sink: Sink, data_key: bytes, context: str, segment: int) -> None:
        header = new_header()
        self._cipher = SegmentCipher(data_key, context, segment, header)
        self._sink = sink
        self._digest = hashlib.sha256()
        self._held = bytearray()
        self._number = 0
        self._room = self._cipher.layout.room(0)
        self.octets = 0
        self.sealed = False  # whether the last segment is there
        self._write(header)

    @property
    def sha256(self) -> str:
        """Of the encrypted octets so far, in hexadecimal."""
        return self._digest.hexdigest()

    def append(self, octets: bytes) -> None:
        """Writes each segment that is full now; the rest waits for the next octets."""
        held = self._held
        held += octets
        sealed = []
        while len(held) >= self._room:
            sealed.append(self._seal(bytes(held[: self._room])))
            del held[: self._room]
            self._room = self._cipher.layout.room(self._number)
        if sealed:
            self._write(b"".join(sealed))

    def close(self) -> None:
        """Write the last segment, which may be empty, and close the sink."""
        try:
            self._write(self._seal(bytes(self._held), last=True))
            self.sealed = True
        finally:
            self._held.clear()
            self._sink.close()

    def _seal(self, plain: bytes, last: bool = False) -> bytes:
        number = self._number
        if number >= MOST_SEGMENTS:
            raise OSError(0, "the recording is too long")
        self._number = number + 1
        return self._cipher.seal(number, plain, last)

    def _write(self, octets: bytes) -> None:
        self._sink.append(octets)
        self._digest.update(octets)
        self.octets += len(octets)
