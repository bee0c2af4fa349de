"""Keys in both directions as telephone events (RFC 4733), which aiortc does not know.

Sent ones take the place of voice packets of the same stream, one for one: so the sequence
numbers go on without a gap, and what aiortc encrypts is a stream as any other.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from relay.rtp.dtmf import KEYS, KeyPresses

PACKET_MS = 20
ENDS = 3  # RFC 4733 section 2.5.1.4: the last packet is sent three times
VOLUME = 10  # -10 dBm0
SHORTEST_MS, LONGEST_MS = 40, 1000  # the duration has 16 bits: 1.3 s at 48000 Hz


@dataclass(slots=True)
class _Press:
    event: int
    packets: int
    done: asyncio.Future[None]
    sent: int = 0
    timestamp: int = 0


class Keypad:
    """Turns voice packets of ours into telephone events while a key is pressed."""

    def __init__(self, payload_type: int, clock_hz: int) -> None:
        self._payload_type = payload_type
        self._ticks = clock_hz * PACKET_MS // 1000
        self._waiting: deque[_Press] = deque()
        self._pause = 0  # voice packets until the next press may begin

    def press(self, keys: str, duration_ms: int) -> asyncio.Future[None]:
        """Queue keys; done when the last one was sent. Raises ValueError for what is no key."""
        loop = asyncio.get_running_loop()
        packets = max(SHORTEST_MS, min(duration_ms, LONGEST_MS)) // PACKET_MS
        events = [event_of(key) for key in keys]
        presses = [_Press(event, packets, loop.create_future()) for event in events]
        self._waiting.extend(presses)
        if presses:
            return presses[-1].done
        done: asyncio.Future[None] = loop.create_future()
        done.set_result(None)
        return done

    def passing(self, packet: bytes) -> bytes:
        """A voice packet that is about to be sent, or the event that goes in its place."""
        if not self._waiting:
            return packet
        if self._pause:
            self._pause -= 1
            return packet
        press = self._waiting[0]
        first, _, sequence, timestamp = struct.unpack_from("!BBHI", packet)
        if press.sent == 0:
            press.timestamp = timestamp
        press.sent += 1
        ended = press.sent >= press.packets
        duration = min(press.sent, press.packets) * self._ticks
        marker = 0x80 if press.sent == 1 else 0
        head = struct.pack(
            "!BBHI", first & ~0x20, marker | self._payload_type, sequence, press.timestamp
        )
        event = struct.pack("!BBH", press.event, (0x80 if ended else 0) | VOLUME, duration)
        if press.sent >= press.packets + ENDS - 1:
            self._waiting.popleft()
            self._pause = SHORTEST_MS // PACKET_MS + 1
            if not press.done.done():
                press.done.set_result(None)
        return head + packet[8 : _payload_at(packet)] + event

    def close(self) -> None:
        """Nobody waits for keys that will not be sent."""
        for press in self._waiting:
            press.done.cancel()
        self._waiting.clear()


class KeyEar:
    """Tells the keys that the other side presses from its packets."""

    def __init__(self, on_key: Callable[[str, int], None]) -> None:
        self._on_key = on_key
        self._presses = KeyPresses()

    def heard(self, ssrc: int, timestamp: int, payload: bytes, clock_hz: int) -> None:
        """A packet of a telephone event."""
        for press in self._presses.feed(ssrc, timestamp, payload, time.monotonic_ns()):
            self._tell(press.event, press.ticks, clock_hz)

    def idle(self, clock_hz: int) -> None:
        """Another packet: a press whose end was lost is over."""
        for press in self._presses.on_timer(time.monotonic_ns()):
            self._tell(press.event, press.ticks, clock_hz)

    def _tell(self, event: int, ticks: int, clock_hz: int) -> None:
        self._on_key(KEYS[event], round(ticks * 1000 / clock_hz))


def event_of(key: str) -> int:
    """The event number of a key. Raises ValueError."""
    try:
        return KEYS.index(key.upper())
    except ValueError:
        raise ValueError(f"{key!r} is no key of a telephone: 0-9 * # A-D") from None


def _payload_at(packet: bytes) -> int:
    at = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        at += 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
    return at
