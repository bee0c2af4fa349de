"""The engine's SRTP against its readable reference and against libsrtp, packet by packet."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pylibsrtp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.sdp.description import SUITES, SrtpKey
from tests.unit.srtp_rig import SUITE_NAMES, Reference, fresh_key, libsrtp, native

S = 1_000_000_000


@st.composite
def keys(draw: st.DrawFn, mki: bool = False) -> SrtpKey:
    name = draw(st.sampled_from(SUITE_NAMES))
    shape = SUITES[name]
    key = draw(st.binary(min_size=shape.key_octets, max_size=shape.key_octets))
    salt = draw(st.binary(min_size=shape.salt_octets, max_size=shape.salt_octets))
    return SrtpKey(name, key, salt, draw(st.binary(max_size=8)) if mki else b"")


@st.composite
def rtp_packets(draw: st.DrawFn, sequence: int | None = None, ssrc: int | None = None) -> bytes:
    """Any RTP packet: CSRCs, an extension, padding, payloads of 0 to 400 octets."""
    csrcs = draw(st.lists(st.integers(0, 2**32 - 1), max_size=3))
    extension = draw(st.none() | st.binary(max_size=16).map(lambda x: x[: len(x) // 4 * 4]))
    first = 0x80 | (0x10 if extension is not None else 0) | len(csrcs)
    if sequence is None:
        sequence = draw(st.integers(0, 65535))
    if ssrc is None:
        ssrc = draw(st.integers(0, 2**32 - 1))
    head = struct.pack(
        "!BBHII", first, draw(st.integers(0, 255)), sequence, draw(st.integers(0, 2**32 - 1)), ssrc
    )
    head += b"".join(struct.pack("!I", csrc) for csrc in csrcs)
    if extension is not None:
        head += struct.pack("!HH", 0xBEDE, len(extension) // 4) + extension
    return head + draw(st.binary(max_size=400))


@st.composite
def rtcp_packets(draw: st.DrawFn) -> bytes:
    words = draw(st.integers(1, 40))
    rest = draw(st.binary(min_size=4 * words - 4, max_size=4 * words - 4))
    kind, ssrc = draw(st.integers(200, 204)), draw(st.integers(0, 2**32 - 1))
    return struct.pack("!BBHI", 0x80, kind, words, ssrc) + rest


# How the sequence number goes on from packet to packet, and how long the pause before it was.
steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *(1, 1, 1, 1, 2, 0, -1, -3, 60, -60, 127, -127, -128, 400, -400),
                *(20000, 32767, 32768, 32769, -20000, -32768, 65535),
            ]
        ),
        st.sampled_from([0, 0, 0, 0, 20_000_000, S, 400 * S, 3000 * S]),
        st.integers(0, 1),  # which SSRC
    ),
    max_size=40,
)


def walk(stream: list[tuple[int, int, int]], sequence: int) -> list[tuple[int, int, int]]:
    """(sequence number, now in ns, SSRC) of each packet."""
    found, now_ns, at = [], S, [sequence, sequence // 2]
    for step, pause_ns, which in stream:
        at[which] = (at[which] + step) % 65536
        now_ns += pause_ns
        found.append((at[which], now_ns, 77 + which))
    return found


def small(sequence: int, ssrc: int) -> bytes:
    return struct.pack("!BBHII", 0x80, 0, sequence, 0, ssrc) + b"audio"


@settings(max_examples=150, deadline=None)
@given(keys(mki=True), rtp_packets(), rtcp_packets())
def test_any_packet_as_the_reference_does_it(key: SrtpKey, rtp: bytes, rtcp: bytes) -> None:
    closed = native(key, True).close(rtp)
    assert closed == Reference(key).close(rtp)
    assert native(key, False).open(closed) == Reference(key).open(closed) == rtp
    closed = native(key, True).close_rtcp(rtcp)
    assert closed == Reference(key).close_rtcp(rtcp)
    assert native(key, False).open_rtcp(closed) == Reference(key).open_rtcp(closed) == rtcp


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SUITE_NAMES).map(fresh_key), steps, st.integers(0, 65535))
def test_any_stream_as_the_reference_closes_and_opens_it(
    key: SrtpKey, stream: list[tuple[int, int, int]], sequence: int
) -> None:
    sender, receiver = native(key, True), native(key, False)
    slow_sender, slow_receiver = Reference(key), Reference(key)
    for number, now_ns, ssrc in walk(stream, sequence):
        packet = small(number, ssrc)
        closed = sender.close(packet, now_ns)
        assert closed == slow_sender.close(packet, now_ns)
        if isinstance(closed, bytes):
            opened = receiver.open(closed, now_ns)
            assert opened == slow_receiver.open(closed, now_ns)
            # What we send, a receiver that hears all of it opens: numbers may be continued.
            assert isinstance(opened, bytes)
            assert opened[4:] == packet[4:]
            assert receiver.open(closed, now_ns) == "srtp_replayed"


@settings(max_examples=300, deadline=None)
@given(keys(), rtp_packets(), rtcp_packets())
def test_any_packet_as_libsrtp_does_it(key: SrtpKey, rtp: bytes, rtcp: bytes) -> None:
    closed = native(key, True).close(rtp)
    assert isinstance(closed, bytes)
    assert closed == libsrtp(key, True).protect(rtp)
    assert native(key, False).open(closed) == libsrtp(key, False).unprotect(closed) == rtp
    sender, other = native(key, True), libsrtp(key, True)
    receiver, there = native(key, False), libsrtp(key, False)
    for _ in range(3):
        closed = sender.close_rtcp(rtcp)
        assert isinstance(closed, bytes)
        theirs = other.protect_rtcp(rtcp)
        assert receiver.open_rtcp(theirs) == rtcp
        assert there.unprotect_rtcp(closed) == rtcp
        assert len(closed) == len(theirs)
        assert receiver.open_rtcp(theirs) == "srtp_replayed"


def code(call: Callable[[bytes], bytes], packet: bytes) -> bytes | str:
    """libsrtp's verdict in our words."""
    try:
        return call(packet)
    except pylibsrtp.Error as error:
        return "srtp_replayed" if "replay" in str(error) else "srtp_authentication_failed"


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SUITE_NAMES).map(fresh_key),
    st.lists(st.sampled_from([1, 1, 1, 1, 2, 5, 100, 1000, 30000]), min_size=1, max_size=40),
    st.lists(st.integers(0, 39), max_size=12),
    st.integers(0, 32767),
)
def test_streams_that_wrap_are_opened_like_libsrtp_opens_them(
    key: SrtpKey, gaps: list[int], repeats: list[int], sequence: int
) -> None:
    """Both ways over roll-overs, with packets late or repeated by up to the window's size."""
    sender, libsrtp_receiver = native(key, True), libsrtp(key, False)
    libsrtp_sender, receiver = libsrtp(key, True), native(key, False)
    packets = []
    for gap in gaps:
        sequence += gap
        packets.append(small(sequence % 65536, 5))
    from_us = [sender.close(packet) for packet in packets]
    from_libsrtp = [libsrtp_sender.protect(packet) for packet in packets]
    assert from_us == from_libsrtp
    delivered = [*range(len(packets))]
    for at in repeats:
        delivered.insert(min(at + 3, len(delivered)), min(at, len(packets) - 1))
    for at in delivered:
        closed = from_us[at]
        assert isinstance(closed, bytes)
        ours, theirs = receiver.open(closed), code(libsrtp_receiver.unprotect, closed)
        # libsrtp's window is as long as ours, and it calls an old estimate a replay, too.
        assert isinstance(ours, str) == isinstance(theirs, str)
        if isinstance(ours, bytes):
            assert ours == theirs == packets[at]


@settings(max_examples=300, deadline=None)
@given(keys(), rtp_packets(), rtcp_packets(), st.data())
def test_what_was_changed_never_passes_and_changes_nothing(
    key: SrtpKey, rtp: bytes, rtcp: bytes, data: st.DataObject
) -> None:
    """Truncated, a bit flipped, appended to: refused, and the real packet still passes."""
    receiver, sender = native(key, False), native(key, True)
    for plain, closed, open_it in (
        (rtp, sender.close(rtp), receiver.open),
        (rtcp, sender.close_rtcp(rtcp), receiver.open_rtcp),
    ):
        assert isinstance(closed, bytes)
        bit = data.draw(st.integers(0, 8 * len(closed) - 1))
        flipped = bytearray(closed)
        flipped[bit // 8] ^= 1 << bit % 8
        cut = closed[: data.draw(st.integers(0, len(closed) - 1))]
        longer = closed + data.draw(st.binary(min_size=1, max_size=20))
        for forged in (bytes(flipped), cut, longer):
            assert isinstance(open_it(forged), str)
        assert open_it(closed) == plain
        assert open_it(closed) == "srtp_replayed"


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_every_single_bit_and_every_length_is_authenticated(suite: str) -> None:
    key = fresh_key(suite)
    receiver, sender = native(key, False), native(key, True)
    report = struct.pack("!BBHII", 0x80, 201, 2, 5, 6) + bytes(4)
    for closed, open_it in (
        (sender.close(small(7, 5)), receiver.open),
        (sender.close_rtcp(report), receiver.open_rtcp),
    ):
        assert isinstance(closed, bytes)
        for bit in range(8 * len(closed)):
            flipped = bytearray(closed)
            flipped[bit // 8] ^= 1 << bit % 8
            assert isinstance(open_it(bytes(flipped)), str), bit
        for octets in range(len(closed)):
            assert isinstance(open_it(closed[:octets]), str), octets
        assert isinstance(open_it(closed), bytes)


def test_a_stream_that_was_quiet_for_long_is_found_again_after_roll_overs() -> None:
    """The peer sent on where we could not hear it: 2 x 65536 packets in an hour."""
    key = fresh_key()
    sender, receiver = native(key, True), native(key, False)
    assert isinstance(receiver.open(sender.close(small(100, 5)), S), bytes)
    for number in range(0, 2 * 65536 + 50, 25000):
        sender.close(small((100 + number) % 65536, 5))
    late = sender.close(small(150, 5))
    assert receiver.open(late, 10 * S) == "srtp_authentication_failed"
    assert receiver.open(late, 3600 * S) == small(150, 5)
    assert receiver.open(late, 3600 * S) == "srtp_replayed"
    assert receiver.open(sender.close(small(151, 5)), 3600 * S) == small(151, 5)


def test_a_sender_that_starts_its_numbers_anew_is_continued() -> None:
    """A plain phone may restart under its SSRC; towards SRTP that would be a replay."""
    key = fresh_key("AEAD_AES_128_GCM")
    sender, receiver = native(key, True), libsrtp(key, False)
    for number in range(40000, 40010):
        receiver.unprotect(sender.close(small(number, 5)))
    assert sender.close(small(20000, 5)) == "srtp_number_repeated"
    heard = []
    for number in range(20001, 20010):
        heard.append(receiver.unprotect(sender.close(small(number, 5))))
    assert [int.from_bytes(packet[2:4], "big") for packet in heard] == list(range(40010, 40019))


def test_a_number_is_never_sent_twice() -> None:
    """Two packets under one index would give both away; with GCM even the key."""
    for suite in SUITE_NAMES:
        sender = native(fresh_key(suite), True)
        assert isinstance(sender.close(small(5, 1)), bytes)
        assert sender.close(small(5, 1)) == "srtp_number_repeated"
        assert isinstance(sender.close(small(5, 2)), bytes)


def test_the_srtcp_index_ends_before_it_would_repeat() -> None:
    sender = native(fresh_key(), True, 2**31 - 2)
    report = struct.pack("!BBHI", 0x80, 201, 1, 5)
    assert isinstance(sender.close_rtcp(report), bytes)
    assert sender.close_rtcp(report) == "srtp_key_exhausted"


def test_many_streams_under_one_key() -> None:
    """16 at a time; a quiet one makes room and may not come back, 128 in all."""
    key = fresh_key()
    sender, receiver = native(key, True), native(key, False)
    first = []
    for ssrc in range(128):
        now_ns = (ssrc + 2) * S
        closed = sender.close(small(1, ssrc), now_ns)
        assert receiver.open(closed, now_ns) == small(1, ssrc)
        first.append(closed)
    now_ns = 1000 * S
    for ssrc, closed in enumerate(first):  # none of them is accepted again, however old
        assert receiver.open(closed, now_ns) == "srtp_replayed", ssrc
    assert sender.close(small(1, 500), now_ns) == "srtp_too_many_streams"
    assert sender.close(small(2, 0), now_ns) == "srtp_too_many_streams"
    other = native(key, True)
    assert receiver.open(other.close(small(1, 500)), now_ns) == "srtp_too_many_streams"
    assert receiver.open(sender.close(small(2, 127), now_ns), now_ns) == small(2, 127)


def test_a_flood_of_new_streams_takes_no_room_from_a_live_one() -> None:
    key = fresh_key()
    sender, receiver = native(key, True), native(key, False)
    for number in range(60):
        now_ns = S + number * 20_000_000
        assert isinstance(receiver.open(sender.close(small(number, 7), now_ns), now_ns), bytes)
        for flood in range(20):
            sender.close(small(1, 1000 + 20 * number + flood), now_ns)
