"""A registrar and proxy for voice clients of a test: SIP over WebSocket, nothing anchored.

Requests go to who registered the name or wrote the Contact; clients speak to each other
directly. What it answers to REGISTER and INVITE may be set; a client's connection can be cut.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from secrets import token_hex

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse
from websockets.typing import Subprotocol

from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.uri import SipUri


def token(identity: str, lives_s: float = 3600.0) -> str:
    """A JWT that nobody has signed: the switchboard does not look."""
    claims = {"iss": "app", "sub": identity, "region": "t1", "exp": time.time() + lives_s}

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.none"


@dataclass
class Switchboard:
    """`seen` has each request as it came; `refuse` may answer one in the peers' place.

    While it is not `reachable` it lets nobody connect.
    """

    port: int = 0
    seen: list[Request] = field(default_factory=list)
    refuse: Callable[[Request], Response | None] = lambda request: None
    expires_s: int = 600
    reachable: bool = True
    attempts: int = 0
    _sockets: dict[str, ServerConnection] = field(default_factory=dict)
    _branches: dict[str, ServerConnection] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def of(self, method: str) -> list[Request]:
        return [request for request in self.seen if request.method == method]

    async def wait(self, method: str, count: int = 1, deadline_s: float = 15.0) -> Request:
        """The `count`-th request of this method."""
        async with asyncio.timeout(deadline_s):
            while len(self.of(method)) < count:
                await self._changed.wait()
        return self.of(method)[count - 1]

    async def attempted(self, count: int, deadline_s: float = 15.0) -> None:
        """Until so many connections were asked for."""
        async with asyncio.timeout(deadline_s):
            while self.attempts < count:
                await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def admit(self, socket: ServerConnection, request: HttpRequest) -> HttpResponse | None:
        self.attempts += 1
        self._wake()
        return None if self.reachable else socket.respond(503, "not now\n")

    async def serve(self, socket: ServerConnection) -> None:
        try:
            async for data in socket:
                message = parse(data if isinstance(data, bytes) else data.encode())
                if isinstance(message, Request):
                    await self._request(message, socket)
                else:
                    await self._response(message)
        except ConnectionClosed:
            pass

    async def _request(self, request: Request, source: ServerConnection) -> None:
        self.seen.append(request)
        self._wake()
        response = self.refuse(request)
        if response is None and request.method == "REGISTER":
            response = self._register(request, source)
        if response is not None:
            if request.method != "ACK":
                await source.send(response.encode().decode())
            return
        target = self._sockets.get(SipUri.parse(request.uri).user or "")
        if target is None:
            await source.send(request.response(404, None, token_hex(4)).encode().decode())
            return
        branch = f"z9hG4bK{token_hex(8)}"
        if request.method in ("CANCEL", "ACK"):  # a CANCEL goes the way of its INVITE
            branch = f"z9hG4bK{request.via.branch}" if request.method == "CANCEL" else branch
        if request.method == "INVITE":
            branch = f"z9hG4bK{request.via.branch}"
        self._branches[branch] = source
        request.headers.prepend("Via", f"SIP/2.0/WS switchboard.invalid;branch={branch}")
        await target.send(request.encode().decode())

    def _register(self, request: Request, source: ServerConnection) -> Response:
        contact = request.contact
        assert contact is not None and isinstance(contact.uri, SipUri)
        for uri in (contact.uri, request.to.uri):
            assert isinstance(uri, SipUri)
            self._sockets[uri.user or ""] = source
        response = request.response(200, None, token_hex(4))
        response.headers.add("Contact", f"{contact};expires={self.expires_s}")
        return response

    async def _response(self, response: Response) -> None:
        target = self._branches.get(response.via.branch or "")
        response.headers.raw.pop(response.headers.names().index("Via"))
        response.headers.typed.pop("Via", None)
        if target is not None:
            try:
                await target.send(response.encode().decode())
            except ConnectionClosed:
                pass


@asynccontextmanager
async def switchboard() -> AsyncIterator[Switchboard]:
    """One that listens."""
    board = Switchboard()
    async with serve(
        board.serve,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol("sip")],
        compression=None,
        process_request=board.admit,
    ) as server:
        board.port = next(iter(server.sockets)).getsockname()[1]
        yield board
