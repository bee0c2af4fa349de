"""Rules of a recording's timeline, each in a small story. Times are in ms, audio in ticks."""

from __future__ import annotations

import hashlib
import struct
from itertools import pairwise

import pytest

from relay._native import g711_tables
from relay.media.tap import Block, TapReader, TapRing, Totals
from relay.rtp import g711
from tests.unit.rtp_packets import rtp

MS = 1_000_000
FRAME = 160


class Tape:
    """One recording, with time in ms; the caller's packets are filled with one octet."""

    def __init__(self, companding: int = 0, dual: bool = True, reorder_ms: int = 400) -> None:
        self.ring = TapRing(1 << 20)
        self.reader = TapReader([self.ring], reorder_ms)
        self.reader.start(1, companding, 0, dual)
        self.blocks: list[Block] = []

    def hear(
        self, at_ms: float, seq: int, timestamp: int, octet: int = 1, side: int = 0,
        ssrc: int = 7, payload_type: int = 0,
    ) -> None:  # fmt: skip
        packet = rtp(seq, timestamp, bytes([octet]) * FRAME, ssrc=ssrc, payload_type=payload_type)
        assert self.ring.push(1, side, int(at_ms * MS), packet)

    def talk(self, at_ms: int, seq: int, timestamp: int, packets: int, **more: int) -> None:
        for n in range(packets):
            self.hear(at_ms + 20 * n, seq + n, timestamp + FRAME * n, **more)

    def drain(self, at_ms: int) -> list[Block]:
        self.blocks += self.reader.drain(at_ms * MS)
        return self.blocks

    def end(self, at_ms: int) -> tuple[bytes, Totals]:
        self.reader.stop(1, at_ms * MS)
        self.drain(at_ms)
        totals = self.blocks[-1].totals
        assert totals is not None
        for before, after in pairwise(self.blocks):
            assert after.first_tick == before.first_tick + before.ticks
        return b"".join(block.data for block in self.blocks), totals

    @property
    def gaps(self) -> list[tuple[int, int, int]]:
        return [gap for block in self.blocks for gap in block.gaps]


def runs(channel: bytes) -> list[tuple[int, int]]:
    """(octet, ticks) of each run."""
    out: list[tuple[int, int]] = []
    for octet in channel:
        if out and out[-1][0] == octet:
            out[-1] = (octet, out[-1][1] + 1)
        else:
            out.append((octet, 1))
    return out


def test_caller_left_callee_right_each_anchored_where_it_arrived() -> None:
    tape = Tape()
    tape.hear(10, 0, 5000, octet=1)
    tape.hear(50, 0, 99999, octet=2, side=1)
    data, totals = tape.end(100)
    assert runs(data[0::2]) == [(0xFF, 80), (1, 160), (0xFF, 560)]
    assert runs(data[1::2]) == [(0xFF, 400), (2, 160), (0xFF, 240)]
    assert totals.recorded == (1, 1)
    assert tape.gaps == []  # silence before the first and after the last is not a gap


def test_jitter_does_not_move_audio() -> None:
    tape = Tape()
    for n, jitter in enumerate([0, 15, 3, 19, 0, 40]):
        tape.hear(20 * n + jitter, n, n * FRAME, octet=n + 1)
    data, _ = tape.end(120)
    assert runs(data[0::2]) == [(n, 160) for n in range(1, 7)]


def test_loss_is_silence_and_a_gap_also_across_blocks() -> None:
    tape = Tape()
    tape.talk(0, 0, 0, 19)
    tape.talk(500, 25, 25 * FRAME, 25)
    data, _ = tape.end(1000)
    assert runs(data[0::2]) == [(1, 3040), (0xFF, 960), (1, 4000)]
    assert tape.gaps == [(3040, 960, 0)]


def test_reordered_inside_the_window_lands_in_place_later_is_late() -> None:
    tape = Tape()
    tape.hear(0, 0, 0)
    tape.talk(60, 3, 3 * FRAME, 17)
    tape.hear(390, 1, FRAME, octet=2)
    tape.talk(400, 20, 20 * FRAME, 33)
    tape.hear(1100, 2, 2 * FRAME, octet=3)  # its block left at 800 ms
    data, totals = tape.end(1100)
    assert runs(data[0::2])[:3] == [(1, 160), (2, 160), (0xFF, 160)]
    assert totals.late == (1, 0)
    assert totals.recorded == (52, 0)


def test_duplicates_are_counted_and_change_nothing() -> None:
    tape = Tape()
    for n in range(10):
        tape.hear(20 * n, n, n * FRAME, octet=n)
        tape.hear(20 * n + 5, n, n * FRAME, octet=99)
    data, totals = tape.end(200)
    assert 99 not in data
    assert totals.duplicate == (10, 0)


def test_a_new_ssrc_is_anchored_anew() -> None:
    tape = Tape()
    tape.talk(0, 0, 0, 5)
    tape.talk(200, 9000, 123456789, 5, ssrc=8, octet=2)
    data, totals = tape.end(300)
    assert runs(data[0::2]) == [(1, 800), (0xFF, 800), (2, 800)]
    assert totals.restarts == (1, 0)
    assert tape.gaps == [(800, 800, 0)]


def test_hold_with_frozen_timestamps_resumes_where_it_is_heard() -> None:
    """A PBX that resumes with the next timestamp after 10 s of hold: no audio is lost."""
    tape = Tape()
    tape.talk(0, 0, 0, 5)
    tape.talk(10_000, 5, 5 * FRAME, 5, octet=2)
    data, totals = tape.end(10_100)
    assert runs(data[0::2]) == [(1, 800), (0xFF, 79_200), (2, 800)]
    assert (totals.jumps, totals.late) == ((1, 0), (0, 0))
    assert tape.gaps == [(800, 79_200, 0)]


def test_hold_with_running_timestamps_needs_no_new_anchor() -> None:
    tape = Tape()
    tape.talk(0, 0, 0, 5)
    tape.talk(10_000, 5, 80_000, 5, octet=2)
    data, totals = tape.end(10_100)
    assert runs(data[0::2]) == [(1, 800), (0xFF, 79_200), (2, 800)]
    assert totals.jumps == (0, 0)


def test_a_stalled_network_keeps_what_is_not_too_late() -> None:
    """600 ms arrive in one burst: nothing is anchored anew, what has left is late."""
    tape = Tape()
    tape.talk(0, 0, 0, 50)
    for n in range(50, 80):
        tape.hear(1600 + n / 100, n, n * FRAME, octet=2)
    tape.talk(1620, 80, 80 * FRAME + FRAME, 20, octet=3)
    data, totals = tape.end(2040)
    # At 1600 ms the blocks up to 1200 ms have left.
    assert runs(data[0::2]) == [(1, 8000), (0xFF, 1600), (2, 3200), (0xFF, 160), (3, 3200),
                                (0xFF, 160)]  # fmt: skip
    assert (totals.jumps, totals.late) == ((0, 0), (10, 0))


def test_a_timestamp_from_the_future_makes_no_silence() -> None:
    """The arrival clock rules: a hostile stream costs neither memory nor disk."""
    tape = Tape()
    for n in range(500):
        tape.hear(n * 0.1, n, (n * 0x13579BDF) & 0xFFFFFFFF)
    data, totals = tape.end(50)
    assert len(data) <= 2 * (400 + 1600 + FRAME)
    assert sum(totals.recorded) + sum(totals.late) == 500


@pytest.mark.parametrize(("seq", "timestamp"), [(65534, 0), (0, 0xFFFFFF00), (65530, 0x7FFFFF00)])
def test_counters_wrap(seq: int, timestamp: int) -> None:
    tape = Tape()
    tape.talk(0, seq, timestamp, 50)
    data, totals = tape.end(1000)
    assert runs(data[0::2]) == [(1, 8000)]
    assert totals.jumps == totals.restarts == (0, 0)


def test_the_other_law_is_converted_and_other_payloads_are_counted() -> None:
    tape = Tape(companding=8)
    tape.hear(0, 0, 0, octet=0x10, payload_type=0)
    tape.hear(20, 1, 160, octet=0x35, payload_type=8)
    tape.hear(40, 2, 320, payload_type=101)
    tape.hear(60, 3, 480, payload_type=13)
    data, totals = tape.end(40)
    assert runs(data[0::2]) == [(g711.converted(0, 8)[0x10], 160), (0x35, 160)]
    assert runs(data[1::2]) == [(0xD5, 320)]
    assert totals.other == (2, 0)


@pytest.mark.parametrize("law", [0, 8])
def test_mono_is_the_sum_and_one_side_alone_is_untouched(law: int) -> None:
    tape = Tape(companding=law, dual=False)
    tape.talk(0, 0, 0, 2, octet=0x90, payload_type=law)
    tape.talk(20, 0, 0, 2, octet=0x91, payload_type=law, side=1)
    loud = g711.compress(32000, law)
    tape.hear(60, 3, 480, octet=loud, payload_type=law)
    tape.hear(60, 2, 320, octet=loud, payload_type=law, side=1)
    data, _ = tape.end(80)
    both = g711.compress(g711.expand(0x90, law) + g711.expand(0x91, law), law)
    assert runs(data) == [(0x90, 160), (both, 160), (0x91, 160), (loud, 160)]


def test_extension_csrc_and_padding_are_not_audio() -> None:
    tape = Tape()
    payload = bytes([5]) * 80
    packet = (
        struct.pack("!BBHII", 0x80 | 0x20 | 0x10 | 2, 0x80, 0, 0, 7)
        + bytes(8)  # two contributing sources
        + struct.pack("!HH", 0xBEDE, 1) + bytes(4)
        + payload + b"\0\0\x03"
    )  # fmt: skip
    assert tape.ring.push(1, 0, 0, packet)
    data, totals = tape.end(0)
    assert runs(data[0::2]) == [(5, 80)]
    assert totals.recorded == (1, 0)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x80",
        b"\x80" * 11,
        struct.pack("!BBHII", 0x40, 0, 0, 0, 7) + b"x" * 160,
        struct.pack("!BBHII", 0x80, 0, 0, 0, 7),
        struct.pack("!BBHII", 0xA0, 0, 0, 0, 7) + b"\xff" * 20,
        struct.pack("!BBHII", 0x8F, 0, 0, 0, 7) + b"x" * 20,
        struct.pack("!BBHII", 0x90, 0, 0, 0, 7) + b"\0\0\xff\xff" + b"x" * 20,
    ],
)
def test_malformed_packets_are_counted_only(packet: bytes) -> None:
    tape = Tape()
    tape.ring.push(1, 0, 0, packet)
    data, totals = tape.end(0)
    assert data == b""
    assert totals.other == (1, 0)


def test_blocks_leave_once_the_window_has_passed() -> None:
    tape = Tape()
    tape.talk(0, 0, 0, 100)
    assert tape.drain(799)  # packets up to 1980 ms were in the ring: their clock counts
    tape = Tape()
    assert tape.drain(599) == []
    assert [(b.first_tick, b.ticks) for b in tape.drain(600)] == [(0, 1600)]
    assert len(tape.drain(800)) == 2


def test_a_reader_that_was_held_up_catches_up_in_bounded_steps() -> None:
    tape = Tape()
    for other in range(2, 6):
        tape.reader.start(other, 0, 0, True)
    hour_ms = 3_600_000
    for tap in range(1, 6):
        tape.ring.push(tap, 0, hour_ms * MS, rtp(0, 0, bytes(160)))
    assert len(tape.drain(hour_ms)) == 17_998
    assert tape.reader.behind
    assert tape.blocks[-1].tap == 1


def test_the_recording_is_as_long_as_the_call() -> None:
    tape = Tape()
    tape.talk(0, 0, 0, 5)
    data, _ = tape.end(3000)
    assert len(data) == 2 * 24_000


def test_g711_tables_are_the_reference_and_the_standard() -> None:
    digests = []
    for law, (linear, octet, convert) in zip((0, 8), g711_tables(), strict=True):
        assert linear == [g711.expand(value, law) for value in range(256)]
        assert octet == bytes(g711.compress((n << 2) - 32768, law) for n in range(16384))
        assert convert == g711.converted(8 - law, law)
        digests.append(hashlib.sha256(struct.pack("<256h", *linear)).hexdigest()[:16])
        for value in range(256):
            if (law, value) != (0, 0x7F):  # negative zero
                assert octet[(linear[value] + 32768) >> 2] == value
    # Of CPython's audioop.ulaw2lin and alaw2lin.
    assert digests == ["3dab54339e520bb2", "e04788d110e58ff8"]
