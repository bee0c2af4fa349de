"""The native timeline against its slow reference, over networks that Hypothesis makes up."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import Phase, example, given, settings
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


KINDS = ("loss", "duplicate", "ssrc", "jump", "hold", "pause", "stall", "late", "law", "event")


def network(rng: Random, side: int) -> list[Sent]:
    """One side's packets: paced 10 to 30 ms apart, then disturbed in every way we know."""
    seq = rng.choice([0, 100, 65530])
    timestamp = rng.choice([0, 160, 0xFFFFFF00, 0x7FFFFF00])
    ssrc = rng.randint(1, 3)
    law = rng.choice([0, 8])
    octets = rng.choice([80, 160, 240])
    at_ms = rng.uniform(0, 300)
    stalled_until = 0.0
    disturbed = rng.choice([0.02, 0.1, 0.3])
    sent: list[Sent] = []
    for _ in range(rng.randint(1, 200)):
        kind = rng.choice(KINDS) if rng.random() < disturbed else "plain"
        delay = rng.uniform(0, 5)
        if kind == "ssrc":
            ssrc, seq, timestamp = ssrc + 1, rng.getrandbits(16), rng.getrandbits(32)
        elif kind == "jump":
            timestamp += rng.choice([rng.randint(-8000, 8000), rng.getrandbits(31)])
        elif kind == "hold":
            at_ms += rng.uniform(0, 2000)
        elif kind == "pause":
            pause_ms = rng.randint(0, 2000)
            at_ms += pause_ms
            timestamp += pause_ms * 8
        elif kind == "stall":
            stalled_until = at_ms + rng.uniform(0, 1800)
        elif kind == "late":
            delay = rng.uniform(0, 1800)
        elif kind == "law":
            law ^= 8
        payload_type = 101 if kind == "event" else law
        payload = rng.randbytes(octets)
        packet = rtp(seq, timestamp, payload, ssrc=ssrc, payload_type=payload_type)
        arrival_ns = BEGAN + int(max(at_ms + delay, stalled_until) * MS)
        if kind != "loss":
            sent.append(Sent(side, arrival_ns, packet))
        if kind == "duplicate":
            sent.append(Sent(side, arrival_ns + rng.randint(0, 300) * MS, packet))
        seq += 1
        timestamp += octets
        at_ms += octets / 8
    return sent


def joined(blocks: list[Block]) -> bytes:
    """The blocks as one recording, checking that they follow each other."""
    tick = 0
    for block in blocks:
        assert block.first_tick == tick
        tick += block.ticks
    return b"".join(block.data for block in blocks)


@example(  # a packet "at pace" that its timestamp put 1.5 s ahead of the clock
    rng=Random(94746), companding=8, dual=True, reorder_ms=500, drain_every=23
)
@settings(max_examples=120, deadline=None, phases=(Phase.reuse, Phase.generate))
@given(
    rng=st.integers(0, 1 << 32).map(Random),
    companding=st.sampled_from([0, 8]),
    dual=st.booleans(),
    reorder_ms=st.sampled_from([0, 100, 400, 500]),
    drain_every=st.integers(1, 40),
)
def test_native_and_reference_make_the_same_recording(
    rng: Random,
    companding: int,
    dual: bool,
    reorder_ms: int,
    drain_every: int,
) -> None:
    arrivals = sorted(network(rng, 0) + network(rng, 1), key=lambda sent: sent.at_ns)
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
