"""The native view, figures and key presses against the readable reference in relay/rtp."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import _native
from relay.rtp import dtmf, packet, rtcp
from relay.rtp.stats import StreamStats

MS = 1_000_000


def reference_view(data: bytes) -> str | tuple[object, ...]:
    try:
        if packet.demux(data) is packet.Kind.RTCP:
            c = rtcp.parse(data)
            return "rtcp", c.packet_type, c.count, c.ssrc, c.packets
        p = packet.parse(data)
    except packet.Unusable as drop:
        return drop.code
    fields = (p.payload_type, int(p.marker), p.sequence, p.timestamp, p.ssrc, p.payload_at)
    return ("rtp", *fields, len(p.payload))


first_octets = st.integers(0, 255) | st.integers(128, 191)
datagrams = st.binary(max_size=80) | st.builds(
    lambda first, second, rest: bytes([first, second]) + rest,
    first_octets,
    st.integers(0, 255) | st.integers(192, 223),
    st.binary(max_size=120),
)
reports = st.builds(
    lambda parts, tail: (
        b"".join(
            struct.pack("!BBH", 0x80 | (0x20 if padded else 0) | count, kind, words)
            + bytes(4 * words)
            for padded, count, kind, words in parts
        )
        + tail
    ),
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 31), st.integers(192, 223), st.integers(0, 6)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([b"", b"", b"\x80", b"\x80\xc8\x00\x00"]),
)


@settings(max_examples=2000, deadline=None)
@given(datagrams | reports)
def test_the_view_of_any_datagram(data: bytes) -> None:
    assert _native.view(data) == reference_view(data)


@pytest.mark.parametrize("first", range(256))
@pytest.mark.parametrize("octets", [0, 1, 2, 7, 8, 11, 12, 20])
def test_the_view_by_first_octet(first: int, octets: int) -> None:
    """RFC 7983 section 7: every value of the first octet has one meaning."""
    data = (bytes([first]) + bytes([0, 0, 1] * 10))[:octets]
    assert _native.view(data) == reference_view(data)


def test_the_view_at_the_size_limit() -> None:
    for octets in (2047, 2048, 2049):
        data = packet.build(0, 1, 1, 1, bytes(octets - 12))
        assert _native.view(data) == reference_view(data)


# Steps of a stream: what happens to the sequence number between two packets.
steps = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 1, 1, 2, 0, -1, -2, 5, 40, -60, 99, -99, 2999, 3000, 30000]),
        st.integers(0, 60),  # ms between arrivals
        st.sampled_from([0] * 9 + [1]),  # SSRC change
        st.booleans(),
    ),
    max_size=120,
)


@settings(max_examples=500, deadline=None)
@given(steps, st.integers(0, 65535), st.integers(0, 2**32 - 1), st.sampled_from([8000, 48000]))
def test_the_figures_of_any_stream(
    stream: list[tuple[int, int, int, bool]], sequence: int, timestamp: int, clock_hz: int
) -> None:
    native, reference = _native.Stats(), StreamStats()
    now_ns, ssrc = 1_000 * MS, 5
    for step, gap_ms, change, timed in stream:
        sequence = (sequence + step) % 65536
        timestamp = (timestamp + 160) % 2**32
        now_ns += gap_ms * MS
        ssrc += change
        native.feed(ssrc, sequence, timestamp, 160, now_ns, clock_hz, timed)
        reference.feed(ssrc, sequence, timestamp, 160, now_ns, clock_hz, timed)
        r = reference
        counts = (r.packets, r.octets, r.expected, r.lost, r.late, r.duplicate, r.streams)
        *native_counts, jitter, largest_gap_ns = native.figures()
        assert tuple(native_counts) == counts
        assert jitter == pytest.approx(reference.jitter, rel=1e-9)
        assert largest_gap_ns == reference.largest_gap_ns


events = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 0, 1600, 65535, -1600, 2**31 - 1]),  # timestamp step
        st.sampled_from([1, 1, 1, 5, 16, 17]),  # event
        st.booleans(),  # end
        st.sampled_from([0, 160, 320, 800, 65535]),
        st.sampled_from([20, 50, 399, 400, 1000]),  # ms since the one before
        st.sampled_from([0] * 9 + [1]),
        st.sampled_from([b"", b"more"]),
    ),
    max_size=60,
)


@settings(max_examples=1000, deadline=None)
@given(events, st.integers(0, 2**32 - 1))
def test_the_keys_of_any_event_packets(
    stream: list[tuple[int, int, bool, int, int, int, bytes]], timestamp: int
) -> None:
    native, reference = _native.Dtmf(), dtmf.KeyPresses()
    now_ns, ssrc = MS, 1
    for step, event, end, duration, gap_ms, change, tail in stream:
        timestamp = (timestamp + step) % 2**32
        now_ns += gap_ms * MS
        ssrc += change
        payload = struct.pack("!BBH", event, 0x80 if end else 0, duration) + tail
        for got, wanted in (
            (native.on_timer(now_ns), reference.on_timer(now_ns)),
            (
                native.feed(ssrc, timestamp, payload, now_ns),
                reference.feed(ssrc, timestamp, payload, now_ns),
            ),
        ):
            assert got == [(press.event, press.ticks) for press in wanted]
    last = now_ns + 500 * MS
    assert native.on_timer(last) == [(p.event, p.ticks) for p in reference.on_timer(last)]
