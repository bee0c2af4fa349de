"""The native timeline against its slow reference, over networks that Hypothesis makes up."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.media.tap import Block, TapReader, TapRing
from relay.rtp.timeline import Timeline
from tests.unit.rtp_packets import rtp

MS = 1_000_000
BEGAN = 7_000_000_000


@dataclass(frozen=True)
class Sent:
    side: int
    at_ns: int
    packet: bytes


@st.composite
def streams(draw: st.DrawFn, side: int) -> list[Sent]:
    """One side's packets in order of arrival: paced, then disturbed step by step."""
    seq = draw(st.sampled_from([0, 100, 65530]))
    timestamp = draw(st.sampled_from([0, 160, 0xFFFFFF00, 0x7FFFFF00]))
    ssrc = draw(st.integers(1, 3))
    law = draw(st.sampled_from([0, 8]))
    octets = draw(st.sampled_from([80, 160, 240]))
    at_ms = draw(st.integers(0, 300))
    sent: list[Sent] = []
    for step in draw(st.lists(STEPS, min_size=1, max_size=60)):
        kind, amount = step
        delay = 0
        if kind == "ssrc":
            ssrc, seq, timestamp = ssrc + 1, seq + amount * 77, timestamp + amount * 99991
        elif kind == "jump":
            timestamp += amount * draw(st.sampled_from([37, 160, 9001]))
        elif kind == "hold":
            at_ms += amount * 40
        elif kind == "pause":
            at_ms += amount * 40
            timestamp += amount * 320
        elif kind == "stall":
            delay = amount * 10
        elif kind == "law":
            law ^= 8
        packet_type = 101 if kind == "event" else law
        payload = bytes((seq * 7 + i * 3) & 0xFF for i in range(octets))
        packet = rtp(seq, timestamp, payload, ssrc=ssrc, payload_type=packet_type)
        if kind != "loss":
            sent.append(Sent(side, BEGAN + (at_ms + delay) * MS, packet))
        if kind == "duplicate":
            sent.append(Sent(side, BEGAN + (at_ms + amount * 3) * MS, packet))
        seq += 1
        timestamp += octets
        at_ms += octets // 8
    return sent


KINDS = ["plain"] * 8 + [
    "loss", "duplicate", "ssrc", "jump", "hold", "pause", "stall", "law", "event",
]  # fmt: skip
STEPS = st.tuples(st.sampled_from(KINDS), st.integers(-120, 120)).map(
    lambda s: s if s[0] in ("jump", "ssrc") else (s[0], abs(s[1]))
)


def joined(blocks: list[Block]) -> bytes:
    """The blocks as one recording, checking that they follow each other."""
    tick = 0
    for block in blocks:
        assert block.first_tick == tick
        tick += block.ticks
    return b"".join(block.data for block in blocks)


@settings(max_examples=150, deadline=None)
@given(
    caller=streams(0),
    callee=streams(1),
    companding=st.sampled_from([0, 8]),
    dual=st.booleans(),
    reorder_ms=st.sampled_from([0, 100, 400, 500]),
    drain_every=st.integers(1, 40),
)
def test_native_and_reference_make_the_same_recording(
    caller: list[Sent],
    callee: list[Sent],
    companding: int,
    dual: bool,
    reorder_ms: int,
    drain_every: int,
) -> None:
    arrivals = sorted(caller + callee, key=lambda sent: sent.at_ns)
    ring = TapRing(1 << 20)
    reader = TapReader([ring], reorder_ms)
    reader.start(9, companding, BEGAN, dual)
    reference = Timeline(companding, BEGAN, dual, reorder_ms)
    blocks: list[Block] = []
    for count, sent in enumerate(arrivals):
        assert ring.push(9, sent.side, sent.at_ns, sent.packet)
        reference.feed(sent.side, sent.packet, sent.at_ns)
        if count % drain_every == 0:
            blocks += reader.drain(sent.at_ns)
    end = arrivals[-1].at_ns if arrivals else BEGAN
    reader.stop(9, end)
    blocks += reader.drain(end)
    data = reference.finish(end)

    assert joined(blocks) == data
    totals = blocks[-1].totals
    assert totals is not None
    for name in ("recorded", "late", "duplicate", "other", "restarts", "jumps"):
        expected = tuple(getattr(channel, name) for channel in reference.channels)
        assert getattr(totals, name) == expected, name
    gaps = [gap for block in blocks for gap in block.gaps]
    for side in (0, 1):
        listed = [(start, ticks) for start, ticks, channel in gaps if channel == side]
        assert listed == reference.channels[side].gaps()
        assert totals.gaps[side] == len(listed)
        assert totals.gap_ticks[side] == sum(ticks for _, ticks in listed)
    accounted = sum(
        sum(pair) for pair in (totals.recorded, totals.late, totals.duplicate, totals.other)
    )
    assert accounted == len(arrivals)
