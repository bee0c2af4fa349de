"""Figures by hand: RFC 3550 appendix A and the opinion score of G.107."""

from __future__ import annotations

import pytest

from relay.rtp.stats import StreamStats, mos

MS = 1_000_000


def fed(sequences: list[int], ssrc: int = 1, stats: StreamStats | None = None) -> StreamStats:
    stats = stats or StreamStats()
    for index, sequence in enumerate(sequences):
        stats.feed(ssrc, sequence % 65536, index * 160, 160, (index + 1) * 20 * MS)
    return stats


def test_a_wrap_of_the_sequence_number_is_no_loss() -> None:
    stats = fed([65534, 65535, 0, 1])
    assert (stats.expected, stats.lost, stats.streams) == (4, 0, 1)


def test_lost_late_and_duplicate_packets() -> None:
    stats = fed([1, 2, 4, 3, 3, 8])
    assert (stats.expected, stats.lost, stats.late, stats.duplicate) == (8, 3, 1, 1)


def test_a_duplicate_hides_no_loss() -> None:
    assert fed([1, 1, 3]).lost == 1


def test_an_ssrc_change_adds_no_bogus_loss() -> None:
    stats = fed([100, 101, 103])
    fed([40000, 40001], ssrc=2, stats=stats)
    assert (stats.packets, stats.expected, stats.lost, stats.streams) == (5, 6, 1, 2)


def test_a_restarted_sender_is_believed_at_its_second_packet() -> None:
    stats = fed([100, 101, 30000, 30001, 30002])
    assert (stats.lost, stats.expected, stats.streams) == (0, 5, 2)


def test_a_stray_sequence_number_is_no_loss() -> None:
    stats = fed([100, 101, 30000, 102, 103])
    assert (stats.lost, stats.expected, stats.streams) == (0, 4, 1)


def test_jitter_of_a_steady_stream_is_zero_and_of_an_uneven_one_rfc_3550_a_8() -> None:
    assert fed([1, 2, 3, 4]).jitter == 0
    stats = StreamStats()
    for index, arrival_ms in enumerate([20, 40, 70, 80]):  # 10 ms late, then back in time
        stats.feed(1, index, index * 160, 160, arrival_ms * MS)
    first = 80 / 16
    assert stats.jitter == pytest.approx(first + (80 - first) / 16)


def test_the_largest_gap() -> None:
    stats = StreamStats()
    for index, arrival_ms in enumerate([20, 40, 540, 560]):
        stats.feed(1, index, index * 160, 160, arrival_ms * MS)
    assert stats.largest_gap_ns == 500 * MS


def test_mos_falls_with_loss_and_jitter_and_stays_in_its_scale() -> None:
    clean = mos(0, 1000, 0.0)
    assert clean == pytest.approx(4.39, abs=0.02)  # G.107 default R of 93.2, less 40 ms
    losses = [mos(lost, 1000, 0.0) for lost in (0, 10, 50, 200, 1000)]
    assert losses == sorted(losses, reverse=True)
    assert mos(0, 1000, 200.0) < clean
    assert mos(1000, 1000, 5000.0) == 1.0
    assert mos(0, 0, 0.0) == clean
