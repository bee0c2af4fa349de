"""Keys pressed, from RFC 4733 telephone events: the readable reference of native/dtmf.pxd.

A press is known by its RTP timestamp: however many end packets arrive, it is reported
once, at its end. When all end packets are lost, the next press or a silence ends it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SILENCE_MS = 400
SEGMENT_TICKS = 65535  # a longer press continues under a new timestamp (section 2.5.1.3)
KEYS = (*"0123456789*#ABCD", "flash")


@dataclass(frozen=True, slots=True)
class Press:
    """One key press; `ticks` is its length in units of the RTP clock."""

    event: int
    ticks: int


@dataclass(slots=True)
class _Active:
    event: int
    duration: int
    earlier: int  # ticks of the segments before this one


class KeyPresses:
    """The telephone events of one direction. Times are nanoseconds."""

    def __init__(self) -> None:
        self._stream: tuple[int, int] | None = None  # SSRC and timestamp of the last press
        self._active: _Active | None = None
        self._last_ns = 0

    def feed(self, ssrc: int, timestamp: int, payload: bytes, now_ns: int) -> list[Press]:
        """One telephone-event packet; returns the presses that it completes."""
        if len(payload) < 4 or payload[0] >= len(KEYS):
            return []
        event, flags, duration = struct.unpack_from("!BBH", payload)
        presses: list[Press] = []
        if self._stream is None or ssrc != self._stream[0] or self._newer(timestamp) > 0:
            presses = self._begin(ssrc, timestamp, event, duration)
        elif self._newer(timestamp) < 0 or self._active is None or self._active.event != event:
            return []  # the end packet of an earlier press, or a repeat of a reported one
        else:
            self._active.duration = max(self._active.duration, duration)
        self._last_ns = now_ns
        return presses + self._finish() if flags & 0x80 else presses

    def on_timer(self, now_ns: int) -> list[Press]:
        """The press whose end was lost, once it has been quiet for SILENCE_MS."""
        if now_ns >= self._last_ns + SILENCE_MS * 1_000_000:
            return self._finish()
        return []

    def _newer(self, timestamp: int) -> int:
        assert self._stream is not None, "asked only once a stream is known"
        return (timestamp - self._stream[1] + 2**31) % 2**32 - 2**31

    def _begin(self, ssrc: int, timestamp: int, event: int, duration: int) -> list[Press]:
        before = self._active
        continues = (
            before is not None
            and self._stream is not None
            and self._stream[0] == ssrc
            and before.event == event
            and before.duration == SEGMENT_TICKS
            and self._newer(timestamp) == SEGMENT_TICKS
        )
        presses = [] if continues else self._finish()
        earlier = before.earlier + SEGMENT_TICKS if before is not None and continues else 0
        self._stream = (ssrc, timestamp)
        self._active = _Active(event, duration, earlier)
        return presses

    def _finish(self) -> list[Press]:
        active, self._active = self._active, None
        if active is None:
            return []
        return [Press(active.event, active.earlier + active.duration)]
