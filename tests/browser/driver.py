"""Chromium seen from asyncio: pages that are told what to do, and what they report.

Node runs web/test/driver.mjs, one JSON object a line each way.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from relay.probe.audio import RATE_HZ, Samples, read_wav, resample

ROOT = Path(__file__).parents[2]
DRIVER = ROOT / "web/test/driver.mjs"
DEADLINE_S = 20.0
LATE_S = 1.0
"""How much later than it is said a word may be heard."""
SAME = 0.7
"""Similarity of a voice that passed a browser's jitter buffer, which stretches and shortens speech
when the machine is busy: 0.8 to 0.95. Another voice reaches 0.3."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    # A page has no other address to send from than the region's.
    "--allow-loopback-in-peer-connection",
)
Event = dict[str, Any]


class BrowserError(Exception):
    """What the driver could not do, or what did not happen in time."""


@dataclass(slots=True)
class Driver:
    """The Node process. `events` is everything that pages reported, in order."""

    process: asyncio.subprocess.Process
    events: list[Event] = field(default_factory=list)
    _answers: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls) -> Driver:
        process = await asyncio.create_subprocess_exec(
            *("node", str(DRIVER)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=64 * 1024 * 1024,  # what a page heard is one line
        )
        driver = cls(process)
        driver._reader = asyncio.create_task(driver._read())
        return driver

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for text in self.process.stdout:
            line = json.loads(text)
            if "id" in line:
                self._answer(line)
            else:
                self.events.append(line)
                self.wake()
        for future in self._answers.values():
            future.set_exception(BrowserError("the driver ended"))

    def _answer(self, line: Event) -> None:
        future = self._answers.pop(line["id"])
        if future.cancelled():
            return
        if "error" in line:
            future.set_exception(BrowserError(line["error"]))
        else:
            future.set_result(line["result"])

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        await self._changed.wait()

    async def do(self, verb: str, /, deadline_s: float = DEADLINE_S, **given: Any) -> Any:
        """One command, done. Raises BrowserError."""
        number = next(self._numbers)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        assert self.process.stdin is not None
        command = {"id": number, "do": verb, **given}
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        try:
            return await asyncio.wait_for(future, deadline_s)
        except TimeoutError:
            raise BrowserError(f"{verb} {given}: not done in {deadline_s:g} s") from None

    async def launch(self, browser: str, microphone: Path, *flags: str) -> None:
        """A Chromium whose microphone plays this WAV once for each stream that is opened."""
        program = shutil.which("chromium")
        file = f"--use-file-for-fake-audio-capture={microphone}%noloop"
        await self.do("launch", 60, browser=browser, program=program, flags=[*FLAGS, *flags, file])

    async def stop(self) -> None:
        """All browsers end with it."""
        assert self.process.stdin is not None and self._reader is not None
        self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), DEADLINE_S)
        await self._reader


@dataclass(slots=True)
class Page:
    """One page, with cookies and storage of its own."""

    driver: Driver
    name: str

    @property
    def events(self) -> list[Event]:
        return [event for event in self.driver.events if event.get("page") == self.name]

    def _find(self, event: str, fields: Event) -> list[Event]:
        wanted = {"event": event, **fields}
        return [seen for seen in self.events if wanted.items() <= seen.items()]

    async def wait(
        self, event: str, deadline_s: float = DEADLINE_S, count: int = 1, **fields: Any
    ) -> Event:
        """The `count`-th such event, past ones included. Raises BrowserError."""
        try:
            async with asyncio.timeout(deadline_s):
                while len(found := self._find(event, fields)) < count:
                    await self.driver.changed()
        except TimeoutError:
            told = "\n".join(json.dumps(event)[:400] for event in self.events[-30:])
            raise BrowserError(
                f"{self.name}: no {event} {fields} in {deadline_s:g} s; it said:\n{told}"
            ) from None
        return found[count - 1]

    async def do(self, verb: str, /, deadline_s: float = DEADLINE_S, **given: Any) -> Any:
        return await self.driver.do(verb, deadline_s, page=self.name, **given)

    async def run(self, verb: str, deadline_s: float = DEADLINE_S, **given: Any) -> Any:
        """A verb of a test page's `window.phone`."""
        return await self.do("run", deadline_s, verb=verb, given=given)

    async def heard(self) -> Samples:
        """What it heard since `clear`, at 8000 Hz."""
        heard = await self.run("heard")
        flat = np.frombuffer(base64.b64decode(heard["samples"]), "<i2").astype(np.float32)
        return resample(flat / np.float32(32768), heard["rate"], RATE_HZ)

    async def hear(self, *voices: Path) -> Samples:
        """What it hears for as long as the longest of these lasts."""
        seconds = max(read_wav(voice).duration_s for voice in voices) + LATE_S
        await self.run("listen", seconds + DEADLINE_S, seconds=seconds)
        return await self.heard()

    def problems(self) -> list[str]:
        """What a page's own code threw."""
        return [event["text"] for event in self._find("problem", {})]

    async def close(self) -> None:
        await self.do("close")
