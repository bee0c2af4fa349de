"""The two ends of a probe's call: a voice client (aiortc) or a SIP phone (pjsua2).

Each says the marks as soon as audio flows and listens for those of the other.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from relay.probe.marks import Marks, marks_in
from relay.probe.quality import Direction, middle

RING_DEADLINE_S = 30.0
TAIL_S = 0.4  # for what is still on its way or in a jitter buffer


@dataclass(frozen=True, slots=True)
class WebRtc:
    """A voice client at a region's wss: URL."""

    url: str
    token: str
    codec: str = "PCMU"
    trust: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Sip:
    """A SIP phone of our own at `bind`; the caller sends to `relay` (host:port)."""

    bind: str
    port: int
    relay: str = ""
    transport: str = "udp"
    user: str = "probe"
    username: str | None = None
    password: str | None = None
    codec: str = "PCMU"
    media_port: int = 4000


@dataclass(frozen=True, slots=True)
class Dialled:
    """How long until it rang, and until audio flowed."""

    post_dial_ms: float | None
    setup_ms: float


class End(Protocol):
    """One end. `said_at` is when its first frame was encoded, None where nobody knows."""

    said_at: float | None

    async def open(self) -> None: ...

    async def call(self, number: str) -> Dialled: ...

    async def take(self) -> None: ...

    async def said(self) -> None: ...

    async def heard(self, name: str, said_at: float | None, sent: int) -> Direction: ...

    async def hang_up(self) -> None: ...

    async def close(self) -> None: ...


def end_of(plan: WebRtc | Sip, marks: Path, scratch: Path, name: str) -> End:
    """The end of a plan. Raises ImportError when its extra is not installed."""
    if isinstance(plan, WebRtc):
        return WebRtcEnd(plan, marks)
    return SipEnd(plan, marks, scratch / f"{name}.wav", name)


class WebRtcEnd:
    """A voice client of the SDK."""

    def __init__(self, plan: WebRtc, marks: Path) -> None:
        from relay.client import Client, Codec

        self.said_at: float | None = None
        codec = Codec[plan.codec]
        self._client = Client(plan.url, plan.token, codecs=(codec,), trust=plan.trust)
        self._file = marks
        self._marks = Marks()
        self._call: Any = None
        self._listening: asyncio.Task[None] | None = None
        self._playback: Any = None

    async def open(self) -> None:
        await self._client.__aenter__()

    async def call(self, number: str) -> Dialled:
        began = time.monotonic()
        self._call = await self._client.call(number)
        await self._call.ringing(RING_DEADLINE_S)
        rang_ms = (time.monotonic() - began) * 1000
        await self._call.answered(RING_DEADLINE_S)
        self._talk()
        return Dialled(rang_ms, (time.monotonic() - began) * 1000)

    async def take(self) -> None:
        self._call = await self._client.incoming()
        await self._call.answer()
        self._talk()

    def _talk(self) -> None:
        self._listening = asyncio.create_task(self._listen())
        self._playback = self._call.play(self._file)

    async def _listen(self) -> None:
        async for sound in self._call.audio():
            self._marks.hear(sound.pcm, sound.rate_hz, sound.arrived_at)

    async def said(self) -> None:
        await self._playback
        self.said_at = self._playback.started_at

    async def heard(self, name: str, said_at: float | None, sent: int) -> Direction:
        figures = await self._call.figures()
        delay_ms = middle(self._marks.delays_ms(said_at)) if said_at is not None else None
        if delay_ms is None and figures.round_trip_ms is not None:
            delay_ms = figures.round_trip_ms / 2
        return Direction(
            name,
            self._call.codec.value if self._call.codec else "",
            figures.packets,
            figures.lost,
            figures.jitter_ms,
            delay_ms,
            figures.round_trip_ms,
            len(self._marks.heard_at),
            sent,
        )

    async def hang_up(self) -> None:
        if self._call is not None:
            await self._call.hang_up()

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        await self._client.close()


class SipEnd:
    """A pjsua2 phone in a process of its own; its delay is half the round trip of its RTCP."""

    def __init__(self, plan: Sip, marks: Path, recording: Path, name: str) -> None:
        from relay.probe.remote import Endpoint, Setup

        if importlib.util.find_spec("pjsua2") is None:
            raise ImportError("no pjsua2", name="pjsua2")
        self.said_at: float | None = None
        self._plan = plan
        self._recording = recording
        self._start: Callable[..., Any] = Endpoint.start
        self._setup = Setup(
            name,
            plan.bind,
            plan.port,
            media_port=plan.media_port,
            user=plan.user,
            transport=plan.transport,
            codec=plan.codec,
            play=marks,
            record=recording,
            username=plan.username,
            password=plan.password,
        )
        self._phone: Any = None

    async def open(self) -> None:
        self._phone = await self._start(self._setup)

    async def call(self, number: str) -> Dialled:
        began = time.monotonic()
        uri = f"sip:{number}@{self._plan.relay};transport={self._plan.transport}"
        await self._phone.send("call", uri=uri)
        seen = asyncio.create_task(self._phone.wait("state", RING_DEADLINE_S, state="early"))
        answer = asyncio.create_task(self._phone.wait("state", RING_DEADLINE_S, state="confirmed"))
        refused = asyncio.create_task(
            self._phone.wait("state", RING_DEADLINE_S, state="disconnected")
        )
        try:
            await asyncio.wait((answer, refused), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                end = refused.result()
                raise Refusal(f"{end['status']} {end['reason']}")
            answer.result()
            setup_ms = (time.monotonic() - began) * 1000
            rang = self._phone.find("state", state="early")
            calling = self._phone.find("state", state="calling")
            rang_ms = (rang["at"] - calling["at"]) * 1000 if rang and calling else None
            return Dialled(rang_ms, setup_ms)
        finally:
            for task in (seen, answer, refused):
                task.cancel()
            await asyncio.gather(seen, answer, refused, return_exceptions=True)

    async def take(self) -> None:
        await self._phone.wait("state", RING_DEADLINE_S, state="confirmed")

    async def said(self) -> None:
        await self._phone.wait("played", 600.0)

    async def heard(self, name: str, said_at: float | None, sent: int) -> Direction:
        before = sum(event["event"] == "figures" for event in self._phone.events)
        await self._phone.send("figures")
        async with asyncio.timeout(5):
            while True:
                found = [event for event in self._phone.events if event["event"] == "figures"]
                if len(found) > before:
                    break
                await asyncio.sleep(0.02)
        figures = found[-1]
        round_trip_ms = figures["round_trip_ms"]
        return Direction(
            name,
            self._plan.codec,
            figures["received"],
            figures["lost"],
            figures["jitter_ms"],
            None if round_trip_ms is None else round_trip_ms / 2,
            round_trip_ms,
            0,  # counted in the recording, once it is closed
            sent,
        )

    async def hang_up(self) -> None:
        if self._phone is not None and self._phone.find("state", state="disconnected") is None:
            await self._phone.send("hangup")
            await self._phone.wait("bye", 5.0)

    def marks_heard(self) -> int:
        """After the call: how many marks the recording has."""
        return marks_in(self._recording)

    async def close(self) -> None:
        if self._phone is not None:
            await self._phone.stop()


class Refusal(Exception):
    """The call was refused; the text is status and reason."""
