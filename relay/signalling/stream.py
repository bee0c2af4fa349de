"""SIP over TCP: connections that were accepted, and those that we open (RFC 3261 section 18)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from itertools import count
from typing import cast

from relay.errors import ListenError, MalformedMessage
from relay.signalling.udp import cannot_bind
from relay.sip.message import Request, Response
from relay.sip.parser import KeepAlive, StreamParser
from relay.sip.transaction import Hop

MAX_MESSAGE_OCTETS = 65536
MAX_CONNECTIONS = 4096
MAX_STRANGERS = 256  # of those: connections from an address that is no trunk's
MAX_UNSENT_OCTETS = 1 << 20  # a peer that does not read is cut off
SILENT_S = 32.0  # one that has not sent a whole message by then is cut off; a stranger's anyway
CLOSING_S = 4.0  # for what is written already
CONNECT_S = 4.0


class Connection(asyncio.Protocol):
    """One TCP connection; `link` is the number by which hops name it."""

    def __init__(self, streams: Streams, link: int) -> None:
        self.link = link
        self.hop = Hop("tcp", "", 0, link)
        self._streams = streams
        self._parser = StreamParser(max_octets=MAX_MESSAGE_OCTETS)
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._deadline: asyncio.TimerHandle | None = None
        self.trusted = False  # opened by us, or by a trunk

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if peer is not None:  # else it is gone already
            self.hop = Hop("tcp", peer[0], peer[1], self.link)
        if peer is None or not self._streams.opened(self):
            self._transport.abort()
            return
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(SILENT_S, self._streams.cut, self, "silent")
        for data in self._unsent:
            self._transport.write(data)
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        if self._parser.broken:
            return
        items = self._parser.feed(data)
        if items and self.trusted and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        for item in items:
            if isinstance(item, KeepAlive):
                self.send(b"\r\n")  # RFC 5626 section 4.4.1: the pong
            else:
                self._streams.receive(item, self.hop)
        if self._parser.broken:
            self._streams.cut(self, "malformed")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._streams.closed(self)

    def send(self, data: bytes) -> None:
        """Write, or keep until the connection stands."""
        if self._transport is None:
            self._unsent.append(data)
        elif self._transport.get_write_buffer_size() > MAX_UNSENT_OCTETS:
            self._streams.cut(self, "not_reading")
            self._transport.abort()  # closing would wait for it to read
        else:
            self._transport.write(data)

    def close(self) -> None:
        """What is written already (perhaps a 400) may still go out."""
        if self._transport is not None:
            self._transport.close()
            if self._deadline is not None:
                self._deadline.cancel()
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(CLOSING_S, self._transport.abort)


class Streams:
    """All TCP connections of the endpoint, by link and by peer."""

    def __init__(
        self,
        receive: Callable[[Request | Response | MalformedMessage, Hop], None],
        failed: Callable[[Hop], None],
        counted: Callable[[str], None],
        links: count[int],
        is_trunk: Callable[[str], bool],
        is_banned: Callable[[str], bool] = lambda host: False,
    ) -> None:
        self.receive = receive
        self._failed = failed
        self._counted = counted
        self._links = links
        self._is_trunk = is_trunk
        self._is_banned = is_banned
        self._strangers: set[int] = set()
        self._by_link: dict[int, Connection] = {}
        self._by_peer: dict[tuple[str, int], Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Raises ListenError naming the address."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_server(
                lambda: Connection(self, next(self._links)), host, port, reuse_address=True
            )
        except OSError as error:
            raise ListenError(cannot_bind("tcp", host, port, error)) from error

    def send(self, data: bytes, hop: Hop) -> None:
        """Over the connection named by `hop.link`, else one to its address, else a new one."""
        connection = self._by_link.get(hop.link) or self._by_peer.get((hop.host, hop.port))
        if connection is None:
            connection = Connection(self, next(self._links))
            connection.trusted = True
            self._by_peer[hop.host, hop.port] = connection
            task = asyncio.get_running_loop().create_task(self._connect(connection, hop))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        connection.send(data)

    def opened(self, connection: Connection) -> bool:
        """False when there are too many already, or its address is banned."""
        connection.trusted = connection.trusted or self._is_trunk(connection.hop.host)
        strange = not connection.trusted
        if strange and self._is_banned(connection.hop.host):
            self._counted("tcp_refused_banned")
            return False
        if len(self._by_link) >= MAX_CONNECTIONS or (
            strange and len(self._strangers) >= MAX_STRANGERS
        ):
            self._counted("tcp_refused_too_many")
            return False
        if strange:
            self._strangers.add(connection.link)
        self._by_link[connection.link] = connection
        self._by_peer.setdefault(connection.hop[1:3], connection)
        return True

    def closed(self, connection: Connection) -> None:
        self._by_link.pop(connection.link, None)
        self._strangers.discard(connection.link)
        peer = connection.hop[1:3]
        if self._by_peer.get(peer) is connection:
            del self._by_peer[peer]
        self._failed(connection.hop)

    def cut(self, connection: Connection, why: str) -> None:
        self._counted(f"tcp_cut_{why}")
        connection.close()

    def is_open(self, hop: Hop) -> bool:
        return hop.link in self._by_link

    def close(self) -> None:
        for connection in list(self._by_link.values()):
            connection.close()

    async def _connect(self, connection: Connection, hop: Hop) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(lambda: connection, hop.host, hop.port)
        except (OSError, UnicodeError):  # TimeoutError is an OSError
            self._by_peer.pop((hop.host, hop.port), None)
            self._failed(hop)
