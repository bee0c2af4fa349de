"""The slow reference of a recording's timeline (native/timeline.pxd), for tests.

Same rules, plain data structures: a dict from tick to octet for each side, no blocks. Time
is nanoseconds of the monotonic clock, always an argument; a tick is 1/8000 s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from relay.rtp.g711 import SILENCE, convert, mix

TICK_NS = 125_000
BLOCK_TICKS = 1600
SKEW_TICKS = 1600
"""200 ms: a timestamp that disagrees more with the arrival clock is not believed."""
REMEMBERED = 64


@dataclass(slots=True)
class Waiting:
    """A packet behind the clock; the next one tells whether it was late or its clock jumped."""

    position: int
    arrival: int
    timestamp: int
    audio: bytes


@dataclass(slots=True)
class Channel:
    """One side: its audio by tick, its stream's anchor, its counts."""

    octets: dict[int, int] = field(default_factory=dict)
    recent: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    ssrc: int | None = None
    ref_tick: int = 0
    ref_timestamp: int = 0
    waiting: Waiting | None = None
    recorded: int = 0
    late: int = 0
    duplicate: int = 0
    other: int = 0
    restarts: int = 0
    jumps: int = 0

    def gaps(self) -> list[tuple[int, int]]:
        """(start, ticks) of each silence between two pieces of this side's audio."""
        ticks = sorted(self.octets)
        return [
            (before + 1, after - before - 1)
            for before, after in pairwise(ticks)
            if after - before > 1
        ]


def signed(delta: int) -> int:
    """A difference of two 32-bit timestamps, -2^31 to 2^31 - 1."""
    return ((delta + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


class Timeline:
    """One recording. `companding` is 0 (PCMU) or 8 (PCMA), the law of the result."""

    def __init__(self, companding: int, began_ns: int, dual: bool, reorder_ms: int = 400) -> None:
        self.companding = companding
        self.began_ns = began_ns
        self.dual = dual
        self.window = reorder_ms * 8
        self.emitted = 0
        self.channels = (Channel(), Channel())

    def clock(self, now_ns: int) -> int:
        """The tick that a time falls into."""
        return max(0, now_ns - self.began_ns) // TICK_NS

    def advance(self, tick: int) -> None:
        """Close every block that the clock is the reorder window past."""
        while tick - self.emitted >= BLOCK_TICKS + self.window:
            self.emitted += BLOCK_TICKS

    def feed(self, side: int, packet: bytes, now_ns: int) -> None:
        """Lay one RTP packet (RFC 3550 section 5.1) that arrived at `now_ns`."""
        arrival = self.clock(now_ns)
        self.advance(arrival)
        channel = self.channels[side]
        audio = self.audio(packet)
        if not audio:
            channel.other += 1
            return
        seq = int.from_bytes(packet[2:4], "big")
        timestamp = int.from_bytes(packet[4:8], "big")
        ssrc = int.from_bytes(packet[8:12], "big")
        if channel.recent.get(seq % REMEMBERED) == (seq, timestamp, ssrc):
            channel.duplicate += 1
            return
        channel.recent[seq % REMEMBERED] = (seq, timestamp, ssrc)
        position = self.position(channel, arrival, ssrc, timestamp, audio)
        if position is not None:
            self.place(channel, position, audio)

    def audio(self, packet: bytes) -> bytes:
        """The payload in this recording's law; empty when there is no G.711 audio in it."""
        if len(packet) < 12 or packet[0] >> 6 != 2 or packet[1] & 0x7F not in (0, 8):
            return b""
        start = 12 + 4 * (packet[0] & 15)
        if packet[0] & 0x10 and start + 4 <= len(packet):
            start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
        end = len(packet) - (packet[-1] if packet[0] & 0x20 else 0)
        payload = packet[start : max(end, 0)]
        return convert(payload, packet[1] & 0x7F, self.companding)

    def position(
        self, channel: Channel, arrival: int, ssrc: int, timestamp: int, audio: bytes
    ) -> int | None:
        """Where the packet goes; None when it has to wait for the next one to tell."""
        if ssrc != channel.ssrc:
            self.resolve(channel)
            channel.restarts += channel.ssrc is not None
            channel.ssrc = ssrc
            channel.ref_tick, channel.ref_timestamp = arrival, timestamp
            return arrival
        delta = signed(timestamp - channel.ref_timestamp)
        position = channel.ref_tick + delta
        skew = position - arrival
        if skew > SKEW_TICKS:
            self.resolve(channel)
            channel.jumps += 1
            channel.ref_tick, channel.ref_timestamp = arrival, timestamp
            return arrival
        if skew < -(SKEW_TICKS if delta > 0 else self.window):
            waiting = channel.waiting
            if waiting is None or not at_pace(waiting, arrival, timestamp):
                self.resolve(channel)
                channel.waiting = Waiting(position, arrival, timestamp, audio)
                return None
            channel.jumps += 1
            waiting.position = waiting.arrival
            self.resolve(channel)
            position = waiting.arrival + signed(timestamp - waiting.timestamp)
            channel.ref_tick, channel.ref_timestamp = position, timestamp
            return position
        self.resolve(channel)
        if delta > 0:
            channel.ref_tick, channel.ref_timestamp = position, timestamp
        return position

    def resolve(self, channel: Channel) -> None:
        """Lay the waiting packet, if there is one, where its position says."""
        waiting, channel.waiting = channel.waiting, None
        if waiting is not None:
            self.place(channel, waiting.position, waiting.audio)

    def place(self, channel: Channel, position: int, audio: bytes) -> None:
        """Write what is not before the open block; later audio replaces earlier."""
        if position + len(audio) <= self.emitted:
            channel.late += 1
            return
        channel.recorded += 1
        for tick, octet in enumerate(audio, position):
            if tick >= self.emitted:
                channel.octets[tick] = octet

    def finish(self, now_ns: int) -> bytes:
        """The whole recording's octets: interleaved left and right, or both mixed."""
        end = self.clock(now_ns)
        self.advance(end)
        for channel in self.channels:
            self.resolve(channel)
        end = max([end, *(tick + 1 for c in self.channels for tick in c.octets)])
        silence = SILENCE[self.companding]
        left, right = (
            bytes(channel.octets.get(tick, silence) for tick in range(end))
            for channel in self.channels
        )
        if not self.dual:
            return mix(left, right, self.companding)
        return bytes(octet for pair in zip(left, right, strict=True) for octet in pair)


def at_pace(waiting: Waiting, arrival: int, timestamp: int) -> bool:
    """Did a packet follow the waiting one about as its timestamps say (no burst)?"""
    by_timestamp = signed(timestamp - waiting.timestamp)
    by_clock = arrival - waiting.arrival
    return (
        by_timestamp > 0
        and 2 * by_clock >= by_timestamp
        and abs(by_clock - by_timestamp) <= SKEW_TICKS  # nor far ahead of the clock
    )
