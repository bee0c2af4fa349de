"""The way of a call's packets (ICE, RFC 8445), which may be made anew while the call goes on.

aiortc has no ICE restart: its transport holds one aioice connection for good. A `Path` takes
that transport's place below aiortc's DTLS. Its connections come one after the other; what
any of them receives is read here, and what is sent goes over the one that stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aioice import Candidate, Connection

from relay.client.description import Ice
from relay.client.errors import MediaFailed

CONNECT_TIMEOUT_S = 10.0


class _Agent(Connection):
    """An ICE agent on given local addresses: aioice's own choice leaves out the loopback."""

    def __init__(self, controlling: bool, addresses: list[str]) -> None:
        super().__init__(ice_controlling=controlling)
        self._addresses = addresses

    async def gather_candidates(self) -> None:
        if not self._local_candidates_start:
            self._local_candidates_start = True
            self._local_candidates += await self.get_component_candidates(
                component=1, addresses=self._addresses
            )
            self._local_candidates_end = True


class Path:
    """What aiortc's DTLS transport needs of an ICE transport, and `restart`.

    `on_lost` is called when the other side's consent has run out (RFC 7675); nothing is
    received then until a new path stands.
    """

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._standing: _Agent | None = None
        self._next: _Agent | None = None
        self._received: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._pumps: set[asyncio.Task[None]] = set()
        self._closed = False
        self.remote: Ice | None = None

    @property
    def role(self) -> str:
        agent = self._next or self._standing
        return "controlling" if agent is None or agent.ice_controlling else "controlled"

    async def gather(self, addresses: list[str], controlling: bool = True) -> Ice:
        """Candidates at these local addresses, for the first path or one that is to follow."""
        await self._forget_next()
        agent = self._next = _Agent(controlling, addresses)
        await agent.gather_candidates()
        if not agent.local_candidates:
            raise MediaFailed(f"no socket could be bound at {', '.join(addresses)}")
        return _ice(agent)

    def local(self) -> Ice:
        """Our credentials and candidates as last gathered."""
        agent = self._next or self._standing
        assert agent is not None, "gathered before"
        return _ice(agent)

    @property
    def stands(self) -> bool:
        return self._standing is not None and self._standing._nominated != {}

    def awaits(self, remote: Ice) -> bool:
        """Whether a new path was gathered, and these credentials are not those of the old one."""
        return self._next is not None and not remote.same_as(self.remote)

    async def connect(self, remote: Ice) -> None:
        """Check the candidates, and use what works. Raises MediaFailed."""
        agent = self._next
        assert agent is not None, "gathered before"
        self.remote = remote
        agent.remote_is_lite = remote.lite
        if remote.lite:
            agent.ice_controlling = True  # RFC 8445 section 6.1.1
        agent.remote_username, agent.remote_password = remote.username, remote.password
        for candidate in remote.candidates:
            await agent.add_remote_candidate(candidate)
        await agent.add_remote_candidate(None)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await agent.connect()
        except (ConnectionError, TimeoutError):
            await self._forget_next()
            where = ", ".join(f"{each.host}:{each.port}" for each in remote.candidates)
            raise MediaFailed(f"no audio path to {where or 'nowhere'} (ICE)") from None
        if self._closed:
            await agent.close()
            return
        before, self._standing, self._next = self._standing, agent, None
        pump = asyncio.create_task(self._pump(agent))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        if before is not None:
            await before.close()

    async def close(self) -> None:
        """Close every socket. Idempotent."""
        self._closed = True
        await self._forget_next()
        if self._standing is not None:
            await self._standing.close()
        self._received.put_nowait(None)
        await asyncio.gather(*self._pumps, return_exceptions=True)

    # --- for aiortc's DTLS transport ------------------------------------------------------

    async def _recv(self) -> bytes:
        data = await self._received.get()
        if data is None:
            self._received.put_nowait(None)
            raise ConnectionError("the path is closed")
        return data

    async def _send(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionError("the path is closed")
        if self.stands and self._standing is not None:
            try:
                await self._standing.send(data)
            except ConnectionError:
                pass  # lost, as the pump says; packets are lost on the way, too

    async def _pump(self, agent: _Agent) -> None:
        try:
            while True:
                self._received.put_nowait(await agent.recv())
        except ConnectionError:
            if agent is self._standing and not self._closed:
                self._on_lost()

    async def _forget_next(self) -> None:
        agent, self._next = self._next, None
        if agent is not None:
            await agent.close()


def _ice(agent: _Agent) -> Ice:
    candidates: tuple[Candidate, ...] = tuple(agent.local_candidates)
    return Ice(agent.local_username, agent.local_password, candidates=candidates)
