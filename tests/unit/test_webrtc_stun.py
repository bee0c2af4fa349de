"""STUN (RFC 8489) against the vectors of RFC 5769 and against aioice's codec."""

from __future__ import annotations

import aioice.stun
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.webrtc import stun
from tests.vectors import stun as vectors

PASSWORD = "a" * 24


def check(**attributes: object) -> bytes:
    """A check as aioice writes it."""
    message = aioice.stun.Message(
        aioice.stun.Method.BINDING,
        aioice.stun.Class.REQUEST,
        attributes={"USERNAME": "here:there", "PRIORITY": 7, **attributes},
    )
    message.add_message_integrity(PASSWORD.encode())
    return bytes(message)


def with_fingerprint(message: bytes) -> bytes:
    """The message, ended with a right FINGERPRINT."""
    length = len(message) - 20 + 8
    message = message[:2] + length.to_bytes(2, "big") + message[4:]
    crc = aioice.stun.message_fingerprint(message)
    return message + b"\x80\x28\x00\x04" + crc.to_bytes(4, "big")


def test_the_request_of_rfc_5769_is_read_and_proved() -> None:
    """Section 2.1."""
    request = stun.read_request(vectors.REQUEST)
    assert request is not None
    assert request.transaction == vectors.TRANSACTION
    assert request.username == "evtj:h6vY"
    assert request.priority == 0x6E0001FF
    assert request.controlled
    assert not request.use_candidate
    assert request.unknown == ()
    assert request.is_signed_with(vectors.PASSWORD)
    assert not request.is_signed_with(vectors.PASSWORD + "x")


@pytest.mark.parametrize(
    ("source", "mapped"),
    [(vectors.IPV4, vectors.IPV4_MAPPED), (vectors.IPV6, vectors.IPV6_MAPPED)],
)
def test_a_response_has_the_address_as_rfc_5769_writes_it(
    source: tuple[str, int], mapped: bytes
) -> None:
    """Sections 2.2 and 2.3; the whole of it is what aioice takes."""
    response = stun.success(vectors.TRANSACTION, source, vectors.PASSWORD)
    assert mapped in response
    message = aioice.stun.parse_message(response)  # checks the FINGERPRINT
    assert message.message_class is aioice.stun.Class.RESPONSE
    assert message.attributes["XOR-MAPPED-ADDRESS"] == source
    assert message.check_message_integrity(vectors.PASSWORD.encode())


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(min_size=12, max_size=12))
def test_aioice_reads_every_address(host: object, port: int, transaction: bytes) -> None:
    message = aioice.stun.parse_message(stun.success(transaction, (str(host), port), PASSWORD))
    assert message.attributes["XOR-MAPPED-ADDRESS"] == (str(host), port)
    assert message.check_message_integrity(PASSWORD.encode())


def test_an_error_names_what_was_not_understood() -> None:
    """RFC 8489 section 14.9; aioice has no UNKNOWN-ATTRIBUTES."""
    response = stun.error(vectors.TRANSACTION, 420, PASSWORD, (0x0003, 0x7F01))
    message = aioice.stun.parse_message(response)
    assert message.attributes["ERROR-CODE"] == (420, "Unknown Attribute")
    assert bytes.fromhex("000a000400037f01") in response
    assert message.check_message_integrity(PASSWORD.encode())


def test_a_check_of_aioice_is_read() -> None:
    request = stun.read_request(check(**{"USE-CANDIDATE": None, "ICE-CONTROLLING": 9}))
    assert request is not None
    assert (request.username, request.priority) == ("here:there", 7)
    assert request.use_candidate
    assert not request.controlled
    assert request.is_signed_with(PASSWORD)


def test_what_must_be_understood_and_is_not_is_listed() -> None:
    request = stun.read_request(check(**{"CHANGE-REQUEST": 6}))
    assert request is not None
    assert request.unknown == (0x0003,)


def test_what_follows_message_integrity_is_not_believed() -> None:
    """RFC 8489 section 14.5: anyone could have added it."""
    whole = check()
    added = with_fingerprint(whole[:-8] + b"\x00\x25\x00\x00")  # USE-CANDIDATE
    request = stun.read_request(added)
    assert request is not None
    assert request.is_signed_with(PASSWORD)
    assert not request.use_candidate


def test_only_the_first_attribute_of_a_kind_counts() -> None:
    """RFC 8489 section 14: an old one is not replaced by a later one."""
    signed = aioice.stun.parse_message(check())
    twice = bytes(signed)[:-32] + b"\x00\x24\x00\x04\x00\x00\x00\xff"
    request = stun.read_request(with_fingerprint(twice + b"\x00\x08\x00\x14" + bytes(20)))
    assert request is not None
    assert request.priority == 7


@pytest.mark.parametrize(
    "message",
    [
        b"",
        check()[:-1],
        check() + b"\0",
        check()[:-8],  # no FINGERPRINT, and a length that is too high
        bytes((*(whole := with_fingerprint(check()))[:-1], whole[-1] ^ 0xFF)),
        bytes((*(whole := check())[:-1], whole[-1] ^ 1)),
        b"\x01\x01" + check()[2:],  # a response
        b"\x00\x11" + check()[2:],  # an indication
        check()[:4] + b"\0\0\0\0" + check()[8:],  # no cookie
        with_fingerprint(check()[:20]),  # nothing but a FINGERPRINT
        with_fingerprint(check()[:-32]),  # no MESSAGE-INTEGRITY
        stun.success(vectors.TRANSACTION, vectors.IPV4, PASSWORD),
        with_fingerprint(check()[:-8] + b"\x00\x24\x00\x09\x00"),  # longer than the message
    ],
)
def test_what_is_no_whole_check_is_nothing(message: bytes) -> None:
    assert stun.read_request(message) is None


@given(st.binary(max_size=200))
def test_garbage_raises_nothing(data: bytes) -> None:
    assert stun.read_request(data) is None
    assert stun.read_request(check()[:20] + data) is None


@given(st.integers(0, len(check()) - 9), st.integers(1, 255))
def test_a_changed_octet_is_never_taken(position: int, difference: int) -> None:
    """FINGERPRINT finds accidents; what is made on purpose fails MESSAGE-INTEGRITY."""
    message = bytearray(check())
    message[position] ^= difference
    assert stun.read_request(bytes(message)) is None
    forged = stun.read_request(with_fingerprint(bytes(message[:-8])))
    if position not in (2, 3):  # the length, which `with_fingerprint` puts right
        assert forged is None or not forged.is_signed_with(PASSWORD)
