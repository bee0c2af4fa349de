"""A recording as its listener has it: in one format, from any octet to any other.

What is read is decrypted on the way and stays in memory: no file ever holds it in clear. WAV
needs only the part that is asked for; FLAC and Ogg-Opus are made whole first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Protocol

from relay.errors import TooLong
from relay.recording import trim, wav
from relay.recording.formats import Encoder, Format, linear, pcm_header

SCANNED = 30 * wav.RATE_HZ
"""Sample frames that are read at once."""
LONGEST_S = {Format.FLAC: 6 * 3600, Format.OGG: 3600}
"""What is longer is played as WAV only: the others are made in memory, before the first octet is
sent; an hour of Opus takes a minute or two."""


class Octets(Protocol):
    """A recording's container in clear, as it was written."""

    @property
    def size(self) -> int: ...

    async def read(self, start: int, end: int) -> bytes:
        """From `start` up to, not including, `end`. Raises RelayError."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The sample frames of a recording, from `first` on."""

    source: Octets
    codec: str
    channels: int
    first: int
    frames: int

    @staticmethod
    def of(source: Octets, codec: str, channels: int) -> Sound:
        """All of it. What a crash left of a last sample frame is none."""
        octets = max(0, source.size - wav.HEADER_OCTETS)
        return Sound(source, codec, channels, 0, octets // channels)

    async def read(self, start: int, end: int) -> bytes:
        """Interleaved G.711 of the sample frames from `start` up to `end`."""
        at = wav.HEADER_OCTETS + self.first * self.channels
        return await self.source.read(at + start * self.channels, at + end * self.channels)

    async def blocks(self) -> AsyncIterator[bytes]:
        """All of it, a part at a time: what is decrypted at once holds up the loop."""
        for at in range(0, self.frames, SCANNED):
            yield await self.read(at, min(at + SCANNED, self.frames))

    async def trimmed(self) -> Sound:
        """Without the silence before and after; all of it when there is nothing else."""
        begin = await self._first_sound()
        if begin is None:
            return self
        end = await self._last_sound()
        begin, end = max(0, begin - trim.KEPT), min(self.frames, end + trim.KEPT)
        return replace(self, first=self.first + begin, frames=end - begin)

    async def _first_sound(self) -> int | None:
        for at in range(0, self.frames, SCANNED):
            block = await self.read(at, min(at + SCANNED, self.frames))
            found = trim.first_sound(block, self.codec, self.channels)
            if found is not None:
                return at + found
        return None

    async def _last_sound(self) -> int:
        for at in reversed(range(0, self.frames, SCANNED)):
            block = await self.read(at, min(at + SCANNED, self.frames))
            found = trim.last_sound(block, self.codec, self.channels)
            if found is not None:
                return at + found
        return self.frames


class Playback(Protocol):
    """What is sent to the listener: `size` octets of `media_type`."""

    @property
    def media_type(self) -> str: ...
    @property
    def size(self) -> int: ...

    async def read(self, start: int, end: int) -> bytes:
        """From `start` up to, not including, `end`. Raises RelayError."""


async def play(sound: Sound, form: Format, trimmed: bool = False) -> Playback:
    """Raises TooLong, and what the source raises."""
    if trimmed:
        sound = await sound.trimmed()
    if form in (Format.WAV, Format.PCM):
        return _Mapped(sound, form)
    longest_s = LONGEST_S[form]
    if sound.frames > longest_s * wav.RATE_HZ:
        raise TooLong(
            f"{form.value} is made in memory, of {longest_s // 3600} h at most: "
            f"ask for {Format.WAV.value}"
        )
    encoder = Encoder(sound.codec, sound.channels, form)
    async for block in sound.blocks():
        await asyncio.to_thread(encoder.add, block)
    return _Made(form.media_type, await asyncio.to_thread(encoder.end))


@dataclass(frozen=True, slots=True)
class _Made:
    """A format that was made whole."""

    media_type: str
    octets: memoryview

    @property
    def size(self) -> int:
        return len(self.octets)

    async def read(self, start: int, end: int) -> bytes:
        return bytes(self.octets[start:end])


class _Mapped:
    """WAV: a header with the true sizes, then each sample where it can be computed."""

    def __init__(self, sound: Sound, form: Format) -> None:
        self.media_type = form.media_type
        self._form = form
        self._sound = sound
        self._width = 1 if form is Format.WAV else 2
        make = pcm_header if form is Format.PCM else self._g711_header
        self._head = make(sound.channels, sound.frames)
        self._data = sound.frames * sound.channels * self._width

    @property
    def size(self) -> int:
        return len(self._head) + self._data + self._data % 2  # RIFF chunks are even

    async def read(self, start: int, end: int) -> bytes:
        end = min(end, self.size)
        head = len(self._head)
        found = self._head[start:end]
        if end > max(start, head):
            found += await self._samples(max(start, head) - head, end - head)
        return found

    async def _samples(self, start: int, end: int) -> bytes:
        frame = self._width * self._sound.channels
        first, last = start // frame, min(-(-end // frame), self._sound.frames)
        octets = await self._sound.read(first, last) if last > first else b""
        if self._form is Format.PCM:
            octets = linear(octets, self._sound.codec).astype("<i2").tobytes()
        at = first * frame
        octets += b"\0" * (end - at - len(octets))  # the padding
        return octets[start - at : end - at]

    def _g711_header(self, channels: int, frames: int) -> bytes:
        return wav.header(self._sound.codec, channels, frames)
