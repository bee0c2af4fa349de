"""STUN Binding requests and the responses to them (RFC 8489), as far as ICE needs them.

Strict in: what is not exactly a Binding request with a right FINGERPRINT is nothing at all.
"""

from __future__ import annotations

import hmac
import ipaddress
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

COOKIE = 0x2112A442
BINDING_REQUEST, BINDING_SUCCESS, BINDING_ERROR = 0x0001, 0x0101, 0x0111
USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, UNKNOWN_ATTRIBUTES = 0x0006, 0x0008, 0x0009, 0x000A
XOR_MAPPED_ADDRESS, PRIORITY, USE_CANDIDATE = 0x0020, 0x0024, 0x0025
FINGERPRINT, ICE_CONTROLLED, ICE_CONTROLLING = 0x8028, 0x8029, 0x802A
# Of those that must be understood (below 0x8000); the rest of them has no place in a check.
_UNDERSTOOD = {USERNAME, MESSAGE_INTEGRITY, PRIORITY, USE_CANDIDATE}
_SIZES = {
    MESSAGE_INTEGRITY: 20,
    PRIORITY: 4,
    USE_CANDIDATE: 0,
    FINGERPRINT: 4,
    ICE_CONTROLLED: 8,
    ICE_CONTROLLING: 8,
}
_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")
_FINGERPRINT_XOR = 0x5354554E  # "STUN"
_REASONS = {420: b"Unknown Attribute", 487: b"Role Conflict"}
MAX_REQUEST_OCTETS = 1280  # no check is near it
MOST_UNKNOWN = 16

Address = tuple[str, int]


class Request(NamedTuple):
    """A connectivity check. Nothing of it is to be believed before `is_signed_with`.

    `unknown` are attributes that must be understood and are not (RFC 8489 section 6.3);
    `controlled` is true when the sender claims that role.
    """

    transaction: bytes
    username: str
    priority: int
    use_candidate: bool
    controlled: bool
    unknown: tuple[int, ...]
    signed: bytes  # what MESSAGE-INTEGRITY covers, with the length that it was made with
    integrity: bytes

    def is_signed_with(self, password: str) -> bool:
        """In constant time (RFC 8489 section 9.1.3)."""
        return hmac.compare_digest(self.integrity, _integrity(self.signed, password))


def read_request(data: bytes) -> Request | None:
    """None for whatever is no Binding request with USERNAME, MESSAGE-INTEGRITY and a right
    FINGERPRINT as its last attribute."""
    if not _HEADER.size <= len(data) <= MAX_REQUEST_OCTETS:
        return None
    kind, length, cookie, transaction = _HEADER.unpack_from(data)
    if kind != BINDING_REQUEST or cookie != COOKIE or length != len(data) - _HEADER.size:
        return None
    found: dict[int, bytes] = {}
    unknown: list[int] = []
    signed = b""
    position = _HEADER.size
    for attribute, value, position in _attributes(data):
        if attribute in found or _SIZES.get(attribute, len(value)) != len(value):
            continue  # only the first of a kind counts (RFC 8489 section 14)
        if MESSAGE_INTEGRITY in found and attribute != FINGERPRINT:
            continue  # nothing proves it
        found[attribute] = value
        if attribute == MESSAGE_INTEGRITY:
            signed = _shortened(data, position)
        elif attribute < 0x8000 and attribute not in _UNDERSTOOD:
            unknown.append(attribute)
        elif attribute == FINGERPRINT:
            break
    if not signed or not _has_fingerprint(data, position) or USERNAME not in found:
        return None
    return Request(
        transaction,
        found[USERNAME].decode("utf-8", "replace"),
        int.from_bytes(found.get(PRIORITY, b""), "big"),
        USE_CANDIDATE in found,
        ICE_CONTROLLED in found,
        tuple(unknown[:MOST_UNKNOWN]),
        signed,
        found[MESSAGE_INTEGRITY],
    )


def success(transaction: bytes, source: Address, password: str) -> bytes:
    """The answer to a good check: where we saw it come from (RFC 8489 section 14.2)."""
    mapped = _xor_address(source, transaction)
    return _signed(BINDING_SUCCESS, transaction, [(XOR_MAPPED_ADDRESS, mapped)], password)


def error(transaction: bytes, code: int, password: str, unknown: Iterable[int] = ()) -> bytes:
    """420 with the attributes that are not understood, or 487 (RFC 8445 section 7.3.1.1)."""
    attributes = [(ERROR_CODE, bytes((0, 0, code // 100, code % 100)) + _REASONS[code])]
    if unknown:
        octets = b"".join(attribute.to_bytes(2, "big") for attribute in unknown)
        attributes.append((UNKNOWN_ATTRIBUTES, octets))
    return _signed(BINDING_ERROR, transaction, attributes, password)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Type, value and where it begins, of each attribute that is whole."""
    position = _HEADER.size
    while position + _ATTRIBUTE.size <= len(data):
        attribute, size = _ATTRIBUTE.unpack_from(data, position)
        begin = position + _ATTRIBUTE.size
        after = begin + size + -size % 4
        if after > len(data):
            return
        yield attribute, data[begin : begin + size], position
        position = after


def _shortened(data: bytes, position: int) -> bytes:
    """What is before the attribute at `position`, with a length that ends after that one
    (MESSAGE-INTEGRITY; RFC 8489 section 14.5)."""
    length = position - _HEADER.size + _ATTRIBUTE.size + _SIZES[MESSAGE_INTEGRITY]
    return data[:2] + length.to_bytes(2, "big") + data[4:position]


def _has_fingerprint(data: bytes, position: int) -> bool:
    """Whether the attribute at `position` is the last one and the right FINGERPRINT."""
    if position + _ATTRIBUTE.size + _SIZES[FINGERPRINT] != len(data):
        return False
    return data[position:] == _fingerprint(data[:position])


def _fingerprint(message: bytes) -> bytes:
    """The attribute for a message whose length already counts it (RFC 8489 section 14.7)."""
    crc = zlib.crc32(message) ^ _FINGERPRINT_XOR
    return _attribute(FINGERPRINT, crc.to_bytes(4, "big"))


def _integrity(message: bytes, password: str) -> bytes:
    return hmac.digest(password.encode(), message, "sha1")


def _signed(
    kind: int, transaction: bytes, attributes: list[tuple[int, bytes]], password: str
) -> bytes:
    """A message with MESSAGE-INTEGRITY and FINGERPRINT."""
    body = b"".join(_attribute(*each) for each in attributes)
    message = _HEADER.pack(kind, len(body) + 24, COOKIE, transaction) + body
    body += _attribute(MESSAGE_INTEGRITY, _integrity(message, password))
    message = _HEADER.pack(kind, len(body) + 8, COOKIE, transaction) + body
    return message + _fingerprint(message)


def _attribute(attribute: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(attribute, len(value)) + value + bytes(-len(value) % 4)


def _xor_address(source: Address, transaction: bytes) -> bytes:
    host, port = source
    packed = ipaddress.ip_address(host).packed
    pad = COOKIE.to_bytes(4, "big") + transaction
    family = 1 if len(packed) == 4 else 2
    mapped = bytes(a ^ b for a, b in zip(packed, pad, strict=False))
    return struct.pack("!BBH", 0, family, port ^ COOKIE >> 16) + mapped
