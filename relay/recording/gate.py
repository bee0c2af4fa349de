"""The only way from the client of a bucket to the network: a proxy of our own, on loopback.

The client looks names up and follows redirects by itself. Through here (HTTP CONNECT, RFC 9110
section 9.3.6) it reaches one host and port, and of its addresses those inside the region; TLS is
between the client and that host. A password keeps other users of this machine out.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import socket
from contextlib import suppress

from relay.errors import OutsideRegion
from relay.residency.boundary import Boundary, Use

MOST_HEAD_OCTETS = 8192
PIECE_OCTETS = 1 << 16
CONNECT_S = 5.0
_HOST = "127.0.0.1"


class Gate:
    """Serves in one event loop, from `open` to `close`.

    `refused` is the last address outside that the host's name led to, None when there was none
    since the last connection that was made.
    """

    def __init__(self, host: str, port: int, boundary: Boundary) -> None:
        self._host = host
        self._port = port
        self._boundary = boundary
        self._server: asyncio.Server | None = None
        self._password = secrets.token_urlsafe(24)
        self._open: set[asyncio.Task[None]] = set()
        self.refused: OutsideRegion | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """For a client, its password in it."""
        return f"http://store:{self._password}@{_HOST}:{self.port}"

    @property
    def authorization(self) -> str:
        """The value of its Proxy-Authorization."""
        return "Basic " + base64.b64encode(f"store:{self._password}".encode()).decode()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, _HOST, 0, limit=MOST_HEAD_OCTETS)

    async def close(self) -> None:
        """Ends what runs, too."""
        if self._server is not None:
            self._server.close()
            for task in tuple(self._open):
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            self._server = None

    async def addresses(self) -> list[str]:
        """Those of the host that may be used, all of them at once or none: a name that leads
        outside, too, is not to be trusted. Raises OutsideRegion, OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        hosts = list(dict.fromkeys(str(each[4][0]) for each in found))
        for host in hosts:
            self._boundary.admit(Use.STORE, host)
        return hosts

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._tunnel(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # its client sees the end
        finally:
            self._open.discard(task)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(CONNECT_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = self._judge(head)
        if status is None:
            try:
                remote = await self._connect()
            except OutsideRegion as error:
                self.refused, status = error, "403 Outside the region"
            except OSError as error:
                status = f"502 {error.strerror or 'No answer in time'}"
        if status is not None:
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return
        self.refused = None
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        there, back = remote
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, back))
                both.create_task(_pump(there, writer))
        except* OSError:
            pass  # one end was cut
        finally:
            back.close()

    def _judge(self, head: str) -> str | None:
        """The status of a refusal; None when it is our client and it wants our host."""
        request, *fields = head.split("\r\n")
        shown = next(
            (
                value.strip()
                for name, _, value in (field.partition(":") for field in fields)
                if name.lower() == "proxy-authorization"
            ),
            "",
        )
        if not hmac.compare_digest(shown.encode("latin-1"), self.authorization.encode()):
            return "407 Not ours"
        if not request.startswith(f"CONNECT {self._host}:{self._port} "):
            return "403 Another host"
        return None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first address that answers, in time. Raises OutsideRegion, OSError."""
        failure: OSError = ConnectionError("no address")
        for host in await self.addresses():
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await asyncio.open_connection(host, self._port, limit=PIECE_OCTETS)
            except OSError as error:  # a timeout is one, too
                failure = error
        raise failure


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """From one end to the other until the first one ends."""
    while piece := await source.read(PIECE_OCTETS):
        target.write(piece)
        await target.drain()
    with suppress(OSError):
        target.write_eof()
