"""What a call says: files one after the other, silence between them, in frames of 20 ms."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import av
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from relay.client.errors import ClientError

FRAME_S = 0.02
BEHIND_S = 0.5  # later than this, what was missed is left out rather than sent in a burst


class Playback:
    """A file being played; `await` it to wait for its end.

    `started_at` is when its first frame was due at the encoder (`time.monotonic`).
    """

    def __init__(self, path: Path, loop: bool = False) -> None:
        self.path = path
        self.loop = loop
        self.started_at: float | None = None
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sound: Iterator[bytes] | None = None
        self._buffer = bytearray()

    def __await__(self) -> Generator[object, None, None]:
        yield from asyncio.shield(self._done).__await__()

    @property
    def done(self) -> bool:
        return self._done.done()

    def stop(self) -> None:
        """Say no more of it."""
        if not self._done.done():
            self._done.set_result(None)

    def frame(self, rate_hz: int, due: float) -> bytes | None:
        """The next 20 ms as 16-bit samples; None at the end."""
        octets = round(FRAME_S * rate_hz) * 2
        if self.started_at is None:
            self.started_at = due
        try:
            while len(self._buffer) < octets:
                if self._sound is None:
                    self._sound = decoded(self.path, rate_hz)
                piece = next(self._sound, None)
                if piece is None and self.loop:
                    self._sound = None
                    continue
                if piece is None:
                    break
                self._buffer += piece
        except (OSError, av.FFmpegError) as error:
            self._fail(error)
        if not self._buffer:
            self.stop()
            return None
        frame = bytes(self._buffer[:octets]).ljust(octets, b"\0")
        del self._buffer[:octets]
        return frame

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(ClientError(f"{self.path} cannot be played: {error}"))


def decoded(path: Path, rate_hz: int) -> Iterator[bytes]:
    """An audio file as mono 16-bit samples. Raises OSError, av.FFmpegError."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            yield from _octets(resampler.resample(frame))
        yield from _octets(resampler.resample(None))


def _octets(frames: list[av.AudioFrame]) -> Iterator[bytes]:
    for frame in frames:
        yield bytes(frame.planes[0])[: 2 * frame.samples]


class Playout(MediaStreamTrack):
    """The audio track that is sent: what `play` was asked for, else silence.

    It never stops, so the packets' numbers and times go on through silence.
    """

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.rate_hz = 8000
        self.muted = False
        self._playing: deque[Playback] = deque()
        self._origin: float | None = None
        self._frames = 0

    def play(self, playback: Playback) -> None:
        self._playing.append(playback)

    def silence(self) -> None:
        """Say nothing more of what was asked for."""
        while self._playing:
            self._playing.popleft().stop()

    def successor(self) -> Playout:
        """Another track that goes on with what this one was to say."""
        other = Playout()
        other.muted = self.muted
        other._playing, self._playing = self._playing, deque()
        return other

    async def recv(self) -> av.AudioFrame:
        """The next frame, when it is time for it."""
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        if self._origin is None:
            self._origin = now
        due = self._origin + self._frames * FRAME_S
        if now < due:
            await asyncio.sleep(due - now)
        elif now > due + BEHIND_S:
            self._frames += int((now - due) / FRAME_S)
            due = now
        samples = round(FRAME_S * self.rate_hz)
        data = self._next(due) or bytes(2 * samples)
        frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
        frame.planes[0].update(bytes(2 * samples) if self.muted else data)
        frame.pts = self._frames * samples
        frame.sample_rate = self.rate_hz
        frame.time_base = Fraction(1, self.rate_hz)
        self._frames += 1
        return frame

    def _next(self, due: float) -> bytes | None:
        while self._playing:
            playback = self._playing[0]
            frame = None if playback.done else playback.frame(self.rate_hz, due)
            if frame is not None:
                return frame
            self._playing.popleft()
        return None
