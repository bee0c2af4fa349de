"""DTLS 1.2 records as far as they can be read from outside (RFC 6347 section 4.1, 4.2.2).

What OpenSSL is given has passed `is_plausible`: it reserves memory for a handshake message as
soon as one fragment claims a length.
"""

from __future__ import annotations

from collections.abc import Iterator

HANDSHAKE, CLIENT_HELLO = 22, 1
MAX_MESSAGE_OCTETS = 8192  # a chain of certificates is below
_RECORD, _MESSAGE = 13, 12  # octets of the headers


def is_plausible(datagram: bytes) -> bool:
    """Whether it is whole records, and no message in clear is longer than a handshake has."""
    octets = 0
    for record in _records(datagram):
        octets += len(record)
        if record[0] == HANDSHAKE and record[3:5] == b"\0\0" and not _is_small(record):
            return False
    return 0 < octets == len(datagram)


def is_client_hello(datagram: bytes) -> bool:
    """Whether it begins a handshake: nothing else makes an association."""
    return (
        len(datagram) > _RECORD + _MESSAGE
        and datagram[0] == HANDSHAKE
        and datagram[3:5] == b"\0\0"
        and datagram[_RECORD] == CLIENT_HELLO
    )


def datagrams(flight: bytes, most_octets: int) -> list[bytes]:
    """What OpenSSL wrote at once, as datagrams of whole records."""
    found: list[bytes] = []
    for record in _records(flight):
        if found and len(found[-1]) + len(record) <= most_octets:
            found[-1] += record
        else:
            found.append(record)
    return found


def _records(data: bytes) -> Iterator[bytes]:
    """Whole records; what is left of a broken one is not among them."""
    position = 0
    while position + _RECORD <= len(data):
        end = position + _RECORD + int.from_bytes(data[position + 11 : position + 13], "big")
        if end > len(data):
            return
        yield data[position:end]
        position = end


def _is_small(record: bytes) -> bool:
    """Of each message that begins in the record, whether its whole length is acceptable."""
    position = _RECORD
    while position < len(record):
        if position + _MESSAGE > len(record):
            return False
        total = int.from_bytes(record[position + 1 : position + 4], "big")
        if total > MAX_MESSAGE_OCTETS:
            return False
        position += _MESSAGE + int.from_bytes(record[position + 9 : position + 12], "big")
    return position == len(record)
