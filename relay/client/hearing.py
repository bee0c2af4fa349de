"""What arrives of the other side: measured, its keys read, its sound handed to who listens.

Of what aiortc keeps to itself the receiver's `_handle_rtp_packet` is used.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket

from relay.client.description import Codec, Description
from relay.client.keypad import KeyEar
from relay.client.recording import Sound, sound_of
from relay.rtp.stats import StreamStats

SILENCE = {Codec.PCMU: b"\xff" * 160, Codec.PCMA: b"\xd5" * 160, Codec.OPUS: b"\xf8\xff\xfe"}
FORGET_AFTER = 256  # packets whose arrival is remembered


@dataclass(slots=True)
class _Heard:
    """The voice packets of the other side, as far as their timing is remembered."""

    origin: int | None = None
    timestamp: int = 0
    after: int = 0  # packets since that timestamp that were no voice
    arrivals: OrderedDict[int, float] = field(default_factory=OrderedDict)


class Hearing:
    """One call's incoming audio. `ours` and `sending` are kept true by its `Media`."""

    def __init__(self, on_key: Callable[[str, int], None]) -> None:
        """`on_key` is told each key and how long it was pressed, in milliseconds."""
        self.ours: Description | None = None
        self.sending: Codec | None = None
        self.stats = StreamStats()
        self._heard = _Heard()
        self._ear = KeyEar(on_key)
        self._listeners: list[Callable[[Sound], None]] = []
        self._listening: asyncio.Task[None] | None = None
        self._receive: Any = None

    def start(self, receiver: Any) -> None:
        """Stand before aiortc's receiver, and behind its decoder."""
        self._receive = receiver._handle_rtp_packet
        receiver._handle_rtp_packet = self._received
        self._listening = asyncio.create_task(self._listen(receiver.track))

    async def close(self) -> None:
        """Idempotent."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    def listen(self, listener: Callable[[Sound], None]) -> None:
        """`listener` gets every piece of sound from now on."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Sound], None]) -> None:
        """No more; also when it never listened."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def _received(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        """Every RTP packet, before aiortc's receiver."""
        assert self.ours is not None, "there is a description of ours"
        codec = self.ours.codecs.get(packet.payload_type)
        clock_hz = codec.clock_hz if codec is not None else self._key_clock(packet.payload_type)
        if not clock_hz:
            return
        now_ns = time.monotonic_ns()
        self.stats.feed(
            packet.ssrc,
            packet.sequence_number,
            packet.timestamp,
            len(packet.payload),
            now_ns,
            clock_hz,
            codec is not None,
        )
        if codec is None:
            self._ear.heard(packet.ssrc, packet.timestamp, packet.payload, clock_hz)
            packet = self._stand_in(packet)
        else:
            self._ear.idle(clock_hz)
            self._note(packet.timestamp, now_ns / 1e9)
        await self._receive(packet, arrival_time_ms)

    def _key_clock(self, payload_type: int) -> int:
        assert self.ours is not None, "there is a description of ours"
        return next((c for c, number in self.ours.keys.items() if number == payload_type), 0)

    def _note(self, timestamp: int, arrived_at: float) -> None:
        heard = self._heard
        if heard.origin is None:
            heard.origin = timestamp
        heard.timestamp, heard.after = timestamp, 0
        heard.arrivals[timestamp] = arrived_at
        while len(heard.arrivals) > FORGET_AFTER:
            heard.arrivals.popitem(last=False)

    def _stand_in(self, packet: RtpPacket) -> RtpPacket:
        """Silence with a key's sequence number: a hole would hold up aiortc's jitter buffer."""
        assert self.ours is not None, "there is a description of ours"
        codec = self.sending if self.sending in self.ours.codecs.values() else self.ours.codec
        assert codec is not None
        self._heard.after += 1
        packet.payload_type = self.ours.payload_type(codec)
        packet.payload = SILENCE[codec]
        packet.timestamp = (self._heard.timestamp + self._heard.after) & 0xFFFFFFFF
        return packet

    async def _listen(self, track: Any) -> None:
        """Take every decoded frame, so that none piles up; nobody may be listening."""
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if self._listeners:
                sound = sound_of(frame, self._arrival(frame.pts or 0))
                for listener in list(self._listeners):
                    listener(sound)

    def _arrival(self, at: int) -> float:
        heard = self._heard
        return heard.arrivals.get(((heard.origin or 0) + at) & 0xFFFFFFFF, time.monotonic())
