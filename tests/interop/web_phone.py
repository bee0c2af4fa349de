"""A voice client by hand: SIP over a real WebSocket, no voice. Scripted as a scenario's phone."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

import jwt
from websockets.asyncio.client import ClientConnection, connect

from relay.sip import transaction as layer
from relay.sip.fields import Headers
from relay.sip.message import Request
from relay.sip.parser import parse
from tests.interop.region import DEADLINE_S
from tests.scenario.world import SERVER, Phone, webrtc

SECRET = secrets.token_hex(32)
TICK_S = 0.05  # how late its timers may be


def token(identity: str, **claims: Any) -> str:
    """An access token of the account `app`, for a minute."""
    now = int(time.time())
    said: dict[str, Any] = {
        "iss": "app",
        "sub": identity,
        "region": "t1",
        "iat": now,
        "exp": now + 60,
        "jti": secrets.token_hex(8),
        "out": True,
        "in": True,
    }
    return jwt.encode(said | claims, SECRET, "HS256", headers={"kid": "k1"})


class WebPhone(Phone):
    """One device of a voice client; `url` is where the relay listens."""

    def __init__(self, url: str, identity: str, **claims: Any) -> None:
        super().__init__(self, "device.invalid")  # type: ignore[arg-type]  # a world of its own
        self.url = url
        self.identity = identity
        self.relay = SERVER
        self.contact = f"<sip:{secrets.token_hex(4)}@{secrets.token_hex(6)}.invalid;transport=ws>"
        self.instance = f"urn:uuid:{secrets.token_hex(16)}"
        self.registrations = 0
        self._token = token(identity, **claims)
        self._socket: ClientConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    # --- what a scenario's world is

    @property
    def now(self) -> float:
        return time.monotonic()

    def describe(self, port: int, offer: bool = False) -> bytes:
        return webrtc("actpass" if offer else "active")

    def transmit(self, output: layer.Send) -> None:
        if self._socket is not None:
            self._tasks.append(asyncio.create_task(self._write(self._socket, output.data)))

    # --- the connection

    async def __aenter__(self) -> WebPhone:
        await self.connect()
        await self.register()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        socket = await connect(self.url, subprotocols=["sip"], compression=None)  # type: ignore[list-item]
        self._socket = socket
        self._tasks += [
            asyncio.create_task(self._read(socket)),
            asyncio.create_task(self._wake(socket)),
        ]

    def cut(self) -> None:
        """Its network is gone: no closing handshake."""
        assert self._socket is not None
        self._socket.transport.abort()
        self._socket = None

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def register(self) -> None:
        """Show the token and bind this device (RFC 8898, RFC 5626)."""
        self.registrations += 1
        name = f"<sip:{self.identity}@relay.invalid>"
        register = Request(
            "REGISTER",
            "sip:relay.invalid",
            Headers(
                [
                    ("Max-Forwards", "70"),
                    ("From", f"{name};tag={secrets.token_hex(4)}"),
                    ("To", name),
                    ("Call-ID", self.instance),
                    ("CSeq", f"{self.registrations} REGISTER"),
                    ("Contact", f'{self.contact};+sip.instance="<{self.instance}>";reg-id=1'),
                    ("Authorization", f"Bearer {self._token}"),
                    ("Supported", "outbound, gruu"),
                    ("Expires", "300"),
                ]
            ),
        )
        self.send(register)
        await self.until(lambda: len(self.statuses("REGISTER")) == self.registrations)
        assert self.statuses("REGISTER")[-1] == 200, self.responses[-1].encode()

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for it; fails at the deadline."""
        async with asyncio.timeout(DEADLINE_S):
            while not done():
                self._changed.clear()
                await self._changed.wait()

    # --- inside

    async def _read(self, socket: ClientConnection) -> None:
        async for data in socket:
            octets = data.encode() if isinstance(data, str) else data
            if octets.strip():
                self.layer.receive(parse(octets), SERVER, self.now)
                self.settle()
                self._changed.set()

    async def _wake(self, socket: ClientConnection) -> None:
        while socket is self._socket:
            await asyncio.sleep(TICK_S)
            self.on_timer(self.now)
            self.settle()

    async def _write(self, socket: ClientConnection, data: bytes) -> None:
        await socket.send(data.decode())
