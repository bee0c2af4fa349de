"""SIP over UDP: one socket, one datagram a message (RFC 3261 section 18)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, cast

from relay.errors import cannot_bind
from relay.sip.transaction import Hop

# Too long, or no address that a datagram goes to: trying again changes nothing.
NEVER = (errno.EMSGSIZE, errno.EINVAL, errno.EACCES)

Receive = Callable[[bytes, Hop], None]


class UdpListener(asyncio.DatagramProtocol):
    """A bound socket. `link` is the number by which hops name it."""

    def __init__(self, link: int, receive: Receive) -> None:
        self.link = link
        self.family = socket.AF_INET
        self.host = ""
        self.port = 0
        self._receive = receive
        self._transport: asyncio.DatagramTransport | None = None
        self._refused = False

    async def bind(self, host: str, port: int) -> None:
        """Raises ListenError naming the address."""
        loop = asyncio.get_running_loop()
        try:
            sock = _bound(host, port)
            await loop.create_datagram_endpoint(lambda: self, sock=sock)
        except OSError as error:
            raise cannot_bind("udp", host, port, error) from error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        sock = transport.get_extra_info("socket")
        self.family = sock.family
        self.host, self.port = transport.get_extra_info("sockname")[:2]
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # a burst of calls waits here
            sock.setsockopt(socket.SOL_SOCKET, option, 4 << 20)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._receive(data, Hop("udp", addr[0], addr[1], self.link))

    def error_received(self, exc: Exception) -> None:
        """What the kernel says of a datagram, while it is being sent."""
        self._refused = getattr(exc, "errno", None) in NEVER

    def send(self, data: bytes, host: str, port: int) -> bool:
        """False when this can never be sent; of all else the transaction's timers decide."""
        self._refused = False
        if self._transport is not None:
            try:
                self._transport.sendto(data, (host, port))
            except ValueError:  # no address of this socket's family
                return False
        return not self._refused

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _bound(host: str, port: int) -> socket.socket:
    """A socket of one family: `[::]` takes no IPv4, whose peers would seem to have IPv6
    addresses. Raises OSError."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
