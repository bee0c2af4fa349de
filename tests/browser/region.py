"""A region with voice clients beside its two trunks, and a wire to it that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.probe.certificates import Pair
from relay.probe.remote import Setup
from tests.browser.conftest import Browsers
from tests.browser.driver import Page
from tests.interop import voice_clients
from tests.interop.region import Party, Region, free_port, parties, region
from tests.interop.voice_clients import token

OUTSIDE = "+35315550199"  # a number of the carrier's


@dataclass(slots=True)
class VoiceRegion:
    """The relay, and where browsers reach it; `wire` stands before it when there is one."""

    region: Region
    at: Party
    secure: bool
    http: Party
    wire: Wire | None = None

    @property
    def url(self) -> str:
        scheme = "wss" if self.secure else "ws"
        return f"{scheme}://{self.wire.at if self.wire else self.at}"

    def uri(self, user: str) -> str:
        return f"sip:{user}@{self.region.relay.host}"

    def phone(self, side: str, voices: dict[str, Path], tmp_path: Path, **more: Any) -> Setup:
        """A pjsua2 phone at the PBX's or the carrier's place, with bob's voice."""
        own = {"pbx": self.region.pbx, "carrier": self.region.carrier}[side]
        heard = tmp_path / f"{side}-heard.wav"
        return Setup(side, own.host, own.port, play=voices["bob"], record=heard, **more)

    async def sign_in(self, browsers: Browsers, browser: str, library: str, **more: Any) -> Page:
        """A page of this browser whose phone is registered as the browser's name."""
        page = await browsers.test_page(browser, library)
        given = {"token": token(browser), "uri": self.uri(browser), "url": self.url, **more}
        await page.run("start", **given)
        await page.wait("registered")
        return page


@contextmanager
def voice_region(
    tmp_path: Path,
    origin: str,
    pair: Pair,
    secure: bool = True,
    account: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[VoiceRegion]:
    """`origin` is where the pages come from; `account` are more keys of it, as TOML has them."""
    everyone = parties()
    host = everyone[0].host
    at, http = Party(host, free_port(host)), Party(host, free_port(host))
    sip = {"tls": pair.tls, "websocket": {"origins": [origin, f"http://{http}"]}}
    listen = f"{'wss' if secure else 'ws'}:{at}"
    more = f'[http]\nlisten = "{http}"\n{voice_clients.account(account or {})}'
    with region(
        tmp_path, everyone=everyone, listen=(listen,), sip=sip, more=more, **options
    ) as running:
        yield VoiceRegion(running, at, secure, http)


@dataclass(slots=True)
class Wire:
    """A TCP relay between a page and the region, which breaks on command."""

    at: Party
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """Both ends see their connection reset; new ones may come."""
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def wire(to: VoiceRegion) -> AsyncIterator[Wire]:
    """Pages that sign in meanwhile come over it."""
    made = Wire(Party("127.0.0.1", free_port("127.0.0.1")))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made._writers.add(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            made._writers.discard(writer)
            writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection(to.at.host, to.at.port)
        await asyncio.gather(copy(reader, inner[1]), copy(inner[0], writer))

    server = await asyncio.start_server(join, made.at.host, made.at.port)
    to.wire = made
    try:
        yield made
    finally:
        to.wire = None
        server.close()
        made.cut()
