"""Figures of one direction (RFC 3550 appendix A): the readable reference of native/stats.pxd.

Also the mean opinion score, computed from our own RTP, so it needs no report of a peer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_DROPOUT = 3000  # RFC 3550 A.1
MAX_MISORDER = 100
_FRAME_MS = 20.0  # packetisation of G.711 as nearly everybody uses it
_LOSS_ROBUSTNESS = 25.1  # Bpl of G.711 with packet loss concealment, ITU-T G.113 appendix I


def mos(lost: int, expected: int, jitter_ms: float, network_ms: float = 0.0) -> float:
    """Mean opinion score of G.711 after ITU-T G.107, from loss and delay.

    The delay that is ours to know is one frame and a playout buffer of twice the jitter
    (at least one frame); the network's own is added where it was measured. Loss counts as
    random.
    """
    delay_ms = _FRAME_MS + max(2 * jitter_ms, _FRAME_MS) + network_ms
    delay_impairment = 0.024 * delay_ms + max(0.0, 0.11 * (delay_ms - 177.3))
    loss_percent = 100.0 * lost / expected if expected else 0.0
    loss_impairment = 95.0 * loss_percent / (loss_percent + _LOSS_ROBUSTNESS)
    r = 93.2 - delay_impairment - loss_impairment
    if r <= 0:
        return 1.0
    return 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6


@dataclass(slots=True)
class _Stream:
    """One SSRC from its first packet on, or from a restart of its numbers."""

    ssrc: int
    base: int
    highest: int  # extended: without wrapping at 65536
    unique: int = 0
    seen: set[int] = field(default_factory=set)  # extended numbers of the last 128

    @property
    def expected(self) -> int:
        return self.highest - self.base + 1

    @property
    def lost(self) -> int:
        return max(0, self.expected - self.unique)

    def mark(self, extended: int) -> bool:
        """Note an arrival; False when that packet had arrived before."""
        self.highest = max(self.highest, extended)
        self.base = min(self.base, extended)
        self.seen = {number for number in self.seen if number > self.highest - 128}
        if extended in self.seen:
            return False
        self.seen.add(extended)
        self.unique += 1
        return True


class StreamStats:
    """What arrived in one direction; adds up over SSRC changes. Times are nanoseconds.

    Lost is expected minus received without duplicates, so a duplicate hides no loss.
    """

    def __init__(self) -> None:
        self.packets = self.octets = self.late = self.duplicate = self.streams = 0
        self.jitter = 0.0  # in timestamp units
        self.largest_gap_ns = 0
        self._ended_lost = self._ended_expected = 0
        self._stream: _Stream | None = None
        self._bad_sequence: int | None = None
        self._transit: int | None = None
        self._last_ns = 0

    @property
    def expected(self) -> int:
        return self._ended_expected + (self._stream.expected if self._stream else 0)

    @property
    def lost(self) -> int:
        return self._ended_lost + (self._stream.lost if self._stream else 0)

    def feed(
        self,
        ssrc: int,
        sequence: int,
        timestamp: int,
        octets: int,
        now_ns: int,
        clock_hz: int = 8000,
        timed: bool = True,
    ) -> None:
        """Count a packet. `timed` is False for telephone events: their timestamp stands still."""
        self.packets += 1
        self.octets += octets
        self._sequence(ssrc, sequence)
        if self._last_ns:
            self.largest_gap_ns = max(self.largest_gap_ns, now_ns - self._last_ns)
        self._last_ns = now_ns
        if timed:
            self._jitter(timestamp, now_ns, clock_hz)

    def _restart(self, ssrc: int, sequence: int) -> _Stream:
        self._ended_lost, self._ended_expected = self.lost, self.expected
        self.streams += 1
        self._bad_sequence = self._transit = None
        self._stream = _Stream(ssrc, sequence, sequence)
        return self._stream

    def _sequence(self, ssrc: int, sequence: int) -> None:
        stream = self._stream
        if stream is None or ssrc != stream.ssrc:
            stream = self._restart(ssrc, sequence)
        ahead = (sequence - stream.highest) % 65536
        if MAX_DROPOUT <= ahead <= 65536 - MAX_MISORDER:
            if self._bad_sequence != sequence:
                # Perhaps a stray: believed when its successor follows (RFC 3550 A.1).
                self._bad_sequence = (sequence + 1) % 65536
                return
            stream = self._restart(ssrc, sequence - 1)
            stream.mark(sequence - 1)
            ahead = 1
        extended = stream.highest + (ahead if ahead < MAX_DROPOUT else ahead - 65536)
        behind = extended < stream.highest
        if not stream.mark(extended):
            self.duplicate += 1
        elif behind:
            self.late += 1

    def _jitter(self, timestamp: int, now_ns: int, clock_hz: int) -> None:
        arrival = now_ns // 1000 * clock_hz // 1_000_000
        transit = (arrival - timestamp) % 2**32
        if self._transit is not None:
            difference = (transit - self._transit + 2**31) % 2**32 - 2**31
            self.jitter += (abs(difference) - self.jitter) / 16
        self._transit = transit
