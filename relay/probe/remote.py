"""Drives an endpoint process (`relay.probe.endpoint`) from asyncio."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.probe.wav_file import ProbeError

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setup:
    """How an endpoint is started; see `relay.probe.endpoint.arguments`."""

    name: str
    bind: str
    port: int
    media_port: int = 4000
    user: str = "probe"
    transport: str = "udp"
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    codec: str = "PCMU"
    srtp: str = "off"
    srtp_suites: tuple[str, ...] = ()
    play: Path | None = None
    record: Path | None = None
    ring_s: float = 0.0
    refuse: int | None = None
    log: Path | None = None
    username: str | None = None
    password: str | None = None

    def arguments(self) -> list[str]:
        pairs = {
            "--bind": self.bind,
            "--port": self.port,
            "--media-port": self.media_port,
            "--user": self.user,
            "--transport": self.transport,
            "--certificate": self.certificate,
            "--key": self.key,
            "--ca": self.ca,
            "--codec": self.codec,
            "--srtp": self.srtp,
            "--srtp-suites": ",".join(self.srtp_suites),
            "--play": self.play,
            "--record": self.record,
            "--ring-s": self.ring_s,
            "--refuse": self.refuse,
            "--log": self.log,
            "--username": self.username,
            "--password": self.password,
        }
        return [f"{key}={value}" for key, value in pairs.items() if value is not None]


@dataclass(slots=True)
class Endpoint:
    """One running endpoint. `events` keeps everything that it reported, in order."""

    setup: Setup
    process: asyncio.subprocess.Process
    events: list[Event] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _reader: asyncio.Task[None] | None = None
    _ended: bool = False

    @classmethod
    async def start(cls, setup: Setup, deadline_s: float = 20.0) -> Endpoint:
        """Start the process and wait until it listens. Raises ProbeError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "relay.probe.endpoint",
            *setup.arguments(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        endpoint = cls(setup, process)
        endpoint._reader = asyncio.create_task(endpoint._read())
        await endpoint.wait("ready", deadline_s)
        return endpoint

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.startswith(b"{"):
                self.events.append(json.loads(line))
                self._wake()
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def send(self, do: str, **fields: Any) -> None:
        """Give one command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        await self.process.stdin.drain()

    def find(self, event: str, **fields: Any) -> Event | None:
        """The first event so far with this name and these fields."""
        wanted = {"event": event, **fields}
        for seen in self.events:
            if wanted.items() <= seen.items():
                return seen
        return None

    async def wait(self, event: str, deadline_s: float = 10.0, **fields: Any) -> Event:
        """Wait for the first such event, past ones included. Raises ProbeError."""
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    changed = self._changed
                    if (found := self.find(event, **fields)) is not None:
                        return found
                    if self._ended:
                        raise ProbeError(f"{self.setup.name} ended before {event} {fields}")
                    await changed.wait()
        except TimeoutError:
            last = self.events[-1] if self.events else "nothing"
            raise ProbeError(
                f"{self.setup.name}: no {event} {fields} within {deadline_s:g} s; last: {last}"
            ) from None

    async def stop(self, deadline_s: float = 10.0) -> None:
        """Quit; kill when it does not. Idempotent."""
        if self.process.returncode is None:
            try:
                await self.send("quit")
                await asyncio.wait_for(self.process.wait(), deadline_s)
            except (TimeoutError, ConnectionError):
                self.process.kill()
                await self.process.wait()
        if self._reader is not None:
            await self._reader
