"""The tap ring: bounded, lock-free, drops counted, records intact across the wrap."""

from __future__ import annotations

import threading

import pytest

from relay.media.tap import TapReader, TapRing
from tests.unit.rtp_packets import rtp

MS = 1_000_000


def test_a_full_ring_refuses_and_counts_for_the_ring_and_for_the_tap() -> None:
    ring = TapRing(8192)
    reader = TapReader([ring])
    reader.start(1, 0, 0, True)
    reader.start(2, 0, 0, True)
    packets = [rtp(n, n * 160, bytes([n]) * 160) for n in range(60)]
    taken = [ring.push(1 + n % 2, 0, n * 20 * MS, packet) for n, packet in enumerate(packets)]
    # 16 octets of record + 172 of packet, padded to 16: 192 each.
    assert sum(taken) == 8192 // 192
    assert ring.dropped == 60 - 8192 // 192
    reader.stop(1)
    reader.stop(2)
    totals = {block.tap: block.totals for block in reader.drain(1200 * MS) if block.totals}
    assert [totals[tap].dropped for tap in (1, 2)] == [taken[0::2].count(False), 9]
    assert sum(sum(t.recorded) for t in totals.values()) == 8192 // 192
    assert ring.used == 0
    assert ring.push(1, 0, 0, packets[0])


def test_drops_before_the_start_belong_to_nobody() -> None:
    ring = TapRing(8192)
    while ring.push(5, 0, 0, rtp(0, 0, bytes(1000))):
        pass
    reader = TapReader([ring])
    reader.start(5, 0, 0, True)
    reader.stop(5)
    (block,) = reader.drain(MS)
    assert block.totals is not None
    assert block.totals.dropped == 0


@pytest.mark.parametrize("length", [0, 2049, 4000])
def test_a_packet_of_impossible_size_is_refused(length: int) -> None:
    ring = TapRing(8192)
    assert not ring.push(1, 0, 0, bytes(length))
    assert ring.dropped == 1
    assert ring.used == 0


def test_records_of_all_sizes_survive_the_wrap() -> None:
    """A small ring goes round hundreds of times; every octet arrives in its place."""
    ring = TapRing(8192)
    reader = TapReader([ring], 0)
    reader.start(1, 0, 0, False)
    expected, data, tick = bytearray(), bytearray(), 0
    for n in range(3000):
        payload = bytes((n + i) & 0x7F for i in range(1 + n * 37 % 500))
        assert ring.push(1, 0, tick * 125_000, rtp(n, tick, payload))
        expected += payload
        tick += len(payload)
        if n % 7 == 0:
            data += b"".join(block.data for block in reader.drain(tick * 125_000))
    reader.stop(1)
    data += b"".join(block.data for block in reader.drain(tick * 125_000))
    # Mono: the other side is silent. 0x7F is the negative zero of the mu-law.
    assert data == expected.replace(b"\x7f", b"\xff")


def test_producer_and_reader_run_at_once_and_lose_nothing_uncounted() -> None:
    ring = TapRing(16384)
    reader = TapReader([ring])
    reader.start(1, 0, 0, True)
    total = 20_000
    taken = 0

    def produce() -> None:
        nonlocal taken
        for n in range(total):
            taken += ring.push(1, n & 1, n * 10 * MS, rtp(n // 2, n // 2 * 160, bytes(160)))

    producer = threading.Thread(target=produce)
    producer.start()
    while producer.is_alive():
        reader.drain(0)
    producer.join()
    while ring.used:
        reader.drain(0)
    reader.stop(1)
    totals = reader.drain(total * 10 * MS)[-1].totals
    assert totals is not None
    counted = totals.recorded + totals.late + totals.duplicate + totals.other
    assert sum(counted) == taken
    assert totals.dropped == ring.dropped == total - taken


def test_a_tap_that_is_not_started_yet_waits_a_little_then_goes() -> None:
    ring = TapRing()
    reader = TapReader([ring])
    reader.start(1, 0, 0, True)
    ring.push(2, 0, 10 * MS, rtp(0, 0, bytes(160)))
    assert reader.drain(20 * MS) == []
    assert reader.stray == 0
    reader.start(2, 0, 10 * MS, True)
    ring.push(1, 0, 30 * MS, rtp(0, 0, bytes(160)))
    ring.push(3, 0, 30 * MS, rtp(0, 0, bytes(160)))
    reader.stop(1)
    reader.stop(2)
    # Tap 3 holds the ring up: what stops waits, since packets of it may be behind.
    assert reader.drain(40 * MS) == []
    totals = [b.totals for b in reader.drain(300 * MS) if b.totals]
    assert [t.recorded for t in totals] == [(1, 0), (1, 0)]
    assert reader.stray == 1


def test_a_tap_that_ended_is_a_stray() -> None:
    ring = TapRing()
    reader = TapReader([ring])
    reader.start(1, 0, 0, True)
    reader.stop(1)
    reader.drain(0)
    ring.push(1, 0, 0, rtp(0, 0, bytes(160)))
    assert reader.drain(MS) == []
    assert reader.stray == 1
    assert reader.open == 0


def test_taps_that_share_a_slot_are_kept_apart() -> None:
    ring = TapRing()
    reader = TapReader([ring])
    taps = [1, 1 + 16384, 1 + 2 * 16384]
    for tap in taps:
        reader.start(tap, 0, 0, True)
        ring.push(tap, 0, 0, rtp(0, 0, bytes(80 * (1 + tap // 16384))))
    reader.stop(taps[1])
    (block,) = reader.drain(0)
    assert (block.tap, block.ticks) == (taps[1], 160)
    reader.stop(taps[0])
    reader.stop(taps[2])
    assert [(b.tap, b.ticks) for b in reader.drain(0)] == [(taps[0], 80), (taps[2], 240)]


def test_mistakes_are_said() -> None:
    reader = TapReader([TapRing()])
    reader.start(1, 0, 0, True)
    with pytest.raises(ValueError, match="tap 1 is being recorded"):
        reader.start(1, 0, 0, True)
    with pytest.raises(ValueError, match="companding"):
        reader.start(2, 9, 0, True)
    with pytest.raises(ValueError, match="reorder_ms"):
        TapReader([], 501)
    with pytest.raises(TypeError):
        TapReader([object()])  # type: ignore[list-item]
