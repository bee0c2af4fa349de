"""How well a call is heard, from the packets that arrived here."""

from __future__ import annotations

from dataclasses import dataclass

from relay.rtp.stats import StreamStats, mos


@dataclass(frozen=True, slots=True)
class Figures:
    """What one side of a call received, and what the other reports.

    `mos` is an estimate after ITU-T G.107 from loss and jitter (1 to 4.4). `round_trip_ms` and
    `peer_lost` come from the other side's RTCP: None until it sent a report.
    """

    packets: int = 0
    lost: int = 0
    late: int = 0
    duplicate: int = 0
    jitter_ms: float = 0.0
    largest_gap_ms: float = 0.0
    mos: float = 1.0
    sent: int = 0
    round_trip_ms: float | None = None
    peer_lost: int | None = None

    @property
    def loss_percent(self) -> float:
        expected = self.packets - self.duplicate + self.lost
        return 100.0 * self.lost / expected if expected else 0.0


def figures(
    stats: StreamStats,
    clock_hz: int,
    sent: int,
    round_trip_s: float | None,
    peer_lost: int | None,
) -> Figures:
    """The figures of one moment."""
    jitter_ms = stats.jitter * 1000 / clock_hz
    return Figures(
        stats.packets,
        stats.lost,
        stats.late,
        stats.duplicate,
        jitter_ms,
        stats.largest_gap_ns / 1e6,
        mos(stats.lost, stats.expected, jitter_ms) if stats.expected else 1.0,
        sent,
        None if round_trip_s is None else round_trip_s * 1000,
        peer_lost,
    )
