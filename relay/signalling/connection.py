"""Connections: octets become SIP messages, and each is kept for as long as it is used.

`Connection` is what every one does, `SipStream` is SIP over TCP or TLS (RFC 3261 section 18,
RFC 5626 section 4.4.1); voice clients have theirs in `relay.signalling.websocket`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from relay.call.router import NOBODY
from relay.signalling.tls import names_of
from relay.sip.parser import KeepAlive, Pong, StreamParser
from relay.sip.transaction import Hop

if TYPE_CHECKING:
    from relay.signalling.stream import Streams

MAX_MESSAGE_OCTETS = 65536
MAX_UNSENT_OCTETS = 1 << 20  # a peer that does not read is cut off
SILENT_S = 32.0  # one that has not sent a whole message by then is cut off; a stranger's anyway
CLOSING_S = 4.0  # for what is written already
PING_S = 60.0  # over a connection that we opened (RFC 5626 section 4.4.1)
PONG_S = 10.0
IDLE_S = 600.0  # without a message, and no call's: closed
PING = b"\r\n\r\n"
PONG = b"\r\n"


class Connection(asyncio.Protocol):
    """One accepted or opened connection; `link` is the number by which hops name it.

    `names` are those that the peer's certificate proved. With `ours` we opened it, and
    `hop.name` is one that it must prove. `formerly` are the hops whose messages it took over
    (`Streams.move`).
    """

    __slots__ = (
        "_heard",
        "_loop",
        "_streams",
        "_timer",
        "_transport",
        "_unsent",
        "_used",
        "_watched",
        "formerly",
        "hop",
        "keys",
        "names",
        "ours",
        "trusted",
    )

    max_unsent_octets = MAX_UNSENT_OCTETS

    def __init__(self, streams: Streams, hop: Hop, ours: bool) -> None:
        self.hop = hop
        self.ours = ours
        self.names = NOBODY
        self.trusted = False  # opened by us, by a trunk, or by who has shown a password or token
        self.keys: list[tuple[str, str, int, str]] = []  # under which it is found by peer
        self.formerly: tuple[Hop, ...] = ()
        self._streams = streams
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._heard = self._used = self._loop.time()
        self._watched = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if peer is not None:  # else it is gone already
            self.hop = self.hop._replace(host=peer[0], port=peer[1])
        if self.hop.transport == "tls":
            self.names = names_of(transport.get_extra_info("peercert"))
            if not self.ours and self.names:
                self.hop = self.hop._replace(name=min(self.names))
        if peer is None or not self._streams.opened(self):
            self._transport.abort()
            return
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What was sent and not even acknowledged by TCP: the peer is gone.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PONG_S * 1000))
        self.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if isinstance(exc, ssl.SSLError):
            self._streams.broken(self, exc)
        self._streams.closed(self)

    @property
    def waiting(self) -> list[bytes]:
        """Of one that is gone: what the peer has hardly received."""
        return self._unsent

    def begin(self) -> None:
        """It stands, and has a place."""
        raise NotImplementedError

    def send(self, data: bytes) -> bool:
        """Write a message, or keep it until it can be written. False when it never will be."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Octets, unless the peer does not read."""
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > self.max_unsent_octets:
            self._streams.cut(self, "not_reading")
            self._transport.abort()  # closing would wait for it to read
        else:
            self._transport.write(data)

    def close(self, why: str = "") -> None:
        """What is written already (perhaps a 400) may still go out. `why` is that of `cut`."""
        if self._transport is not None:
            self._transport.close()
            self.arm(CLOSING_S, self._transport.abort)

    # --- keep-alive

    def keep(self) -> None:
        """It is no stranger's: no longer for SILENT_S alone, but as long as it is used."""
        if not self._watched:
            self._watched = True
            self.arm(PING_S, self.watch)

    def watch(self) -> None:
        """Close it when nobody has used it for long; ping the peer where that is ours to do."""
        raise NotImplementedError

    def arm(self, delay_s: float, step: Callable[..., None], *args: object) -> None:
        """The one timer that a connection has."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, step, *args)


class SipStream(Connection):
    """One TCP connection or TLS session."""

    __slots__ = ("_parser", "_ponged")

    def __init__(self, streams: Streams, hop: Hop, ours: bool) -> None:
        super().__init__(streams, hop, ours)
        self._parser = StreamParser(max_octets=MAX_MESSAGE_OCTETS)
        self._ponged = False  # it answers pings: from then on it must

    def begin(self) -> None:
        self.arm(SILENT_S, self._streams.cut, self, "silent")
        assert self._transport is not None
        for data in self._unsent:
            self._transport.write(data)
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        if self._parser.broken:
            return
        self._heard = self._loop.time()
        items = self._parser.feed(data)
        if items and self.trusted:
            self.keep()
        for item in items:
            if isinstance(item, Pong):
                self._ponged = True
                continue
            self._used = self._heard
            if isinstance(item, KeepAlive):
                self.send(PONG)
            else:
                self._streams.received(self, item)
        if self._parser.broken:
            self._streams.cut(self, "malformed")

    def send(self, data: bytes) -> bool:
        self._used = self._loop.time()
        if self._transport is None:
            self._unsent.append(data)
        else:
            self.write(data)
        return True

    def watch(self) -> None:
        if self._loop.time() - self._used >= IDLE_S and not self._streams.is_used(self.hop):
            self._streams.cut(self, "idle")
        elif self.ours and self._transport is not None:
            self._transport.write(PING)
            self._parser.awaits_pong = True
            self.arm(PONG_S, self._check_pong, self._loop.time())
        else:
            self.arm(PING_S, self.watch)

    def _check_pong(self, pinged: float) -> None:
        """Anything that came is a sign of life. A peer that never answers a ping may not know
        of them: of those only TCP tells that they are gone."""
        if self._ponged and self._heard < pinged and self._transport is not None:
            self._streams.cut(self, "no_pong")
            self._transport.abort()
        else:
            self.arm(PING_S - PONG_S, self.watch)
