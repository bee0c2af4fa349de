"""The SIP endpoint: sockets and a clock around the user agent.

listener → parse → UserAgent.receive → drain → listener, then one timer
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from relay.call.calls import Calls
from relay.call.ports import MediaEvent
from relay.call.user_agent import CARRIED, LookUp, UserAgent
from relay.errors import MalformedMessage
from relay.residency.boundary import Use
from relay.signalling.dns import Resolver
from relay.signalling.stream import Streams
from relay.signalling.udp import UdpListener
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import Hop
from relay.sip.uri import DEFAULT_PORTS

if TYPE_CHECKING:
    from relay.config import Sip
    from relay.signalling.tls import Credentials


PADDING = b"\r\n\0"
ANSWER = b"SIP/2.0 "


class Endpoint:
    """All listeners of one node. Everything runs on the loop that called `start`."""

    def __init__(
        self,
        calls: Calls,
        sip: Sip,
        on_bug: Callable[[Exception], None],
        credentials: Credentials,
    ) -> None:
        self._agent = UserAgent(calls, self, on_bug)
        self.counters = self._agent.counters
        self._listens = sip.listen
        advertise = filter(None, (sip.advertise, sip.advertise_ipv6))
        self._advertise = {":" in host: host for host in advertise}  # by family: is it IPv6?
        self._dns = sip.dns
        self._boundary = calls.boundary
        self._families = [
            kind
            for kind, colon in (("A", False), ("AAAA", True))
            if any((":" in listen.host) == colon for listen in sip.listen)
        ]
        self._links = count(1)
        self._udp: dict[int, UdpListener] = {}
        self._first_udp: dict[bool, UdpListener] = {}  # of each family: is it IPv6?
        # (transport, family) → our listening address
        self._listening: dict[tuple[str, int], tuple[str, int]] = {}
        self._credentials = credentials
        self._streams = Streams(
            self._receive,
            self._stream_failed,
            self._count,
            self._links,
            lambda host: calls.router.at(host) is not None,
            lambda host, names: calls.router.identify(host, names) is not None,
            calls.guard.is_banned,
            calls.uses,
            credentials,
            calls.boundary.permits,
            sip.websocket,
            calls.keeps,
        )
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._lookups: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind every listener. Raises ListenError."""
        self._loop = asyncio.get_running_loop()
        self._resolver = Resolver(
            self._dns.servers, self._dns.timeout_s, self._loop.time, self._count, self._may_ask
        )
        for listen in self._listens:
            if listen.transport == "udp":
                udp = UdpListener(next(self._links), self._datagram)
                await udp.bind(listen.host, listen.port)
                self._udp[udp.link] = udp
                self._first_udp.setdefault(udp.family == socket.AF_INET6, udp)
            else:
                kind = listen.transport
                server = await self._streams.listen(kind, listen.host, listen.port)
                self._servers.append(server)
                sock = server.sockets[0]
                self._listening.setdefault((kind, sock.family), sock.getsockname()[:2])
        self._credentials.watch()

    def close(self) -> None:
        """Stop listening; open connections are closed."""
        for server in self._servers:
            server.close()
        self._streams.close()
        self._credentials.close()
        for udp in self._udp.values():
            udp.close()
        for task in self._lookups:
            task.cancel()
        self._resolver.close()
        if self._timer is not None:
            self._timer.cancel()

    def on_media(self, call_id: str, event: MediaEvent) -> None:
        """What the engine saw, for the calls."""
        self._agent.on_media(call_id, event, self._loop.time())
        self._settle()

    def register(self) -> None:
        """Register wherever a trunk wants it; `unregister` ends that."""
        self._agent.register(self._loop.time())
        self._settle()

    def unregister(self) -> None:
        self._agent.unregister(self._loop.time())
        self._settle()

    def end_calls(self) -> None:
        """Every call gets its BYE, CANCEL or 503."""
        self._agent.stop(self._loop.time())
        self._settle()

    @property
    def transactions(self) -> int:
        return self._agent.transactions

    # --- Addresses, for the user agent

    def sent_by(self, transport: str, peer: str, link: int) -> str:
        """Our `host:port` towards a peer; the host that is advertised to its family, if any."""
        host, port = "", 0
        ipv6 = ":" in peer
        if transport == "udp":
            udp = self._udp.get(link) or self._first_udp.get(ipv6)
            if udp is not None:
                host, port = udp.host, udp.port
        else:
            family = socket.AF_INET6 if ipv6 else socket.AF_INET
            host, port = self._listening.get((transport, family), ("", 0))
            if not host and (udp := self._first_udp.get(ipv6)) is not None:
                host, port = udp.host, DEFAULT_PORTS[transport]  # its own requests: our link
        host = self._advertise.get(ipv6, host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def is_open(self, hop: Hop) -> bool:
        return self._streams.is_open(hop)

    def move(self, old: Hop, new: Hop) -> None:
        self._streams.move(old, new)

    def trust(self, hop: Hop) -> None:
        self._streams.trust(hop)

    def peer_names(self, hop: Hop) -> frozenset[str]:
        return self._streams.peer_names(hop)

    # --- in, out, one timer

    def _datagram(self, data: bytes, hop: Hop) -> None:
        if data[:1] in PADDING and not data.strip(PADDING):
            return  # a keep-alive
        try:
            message: Request | Response | MalformedMessage = parse(data)
        except MalformedMessage as error:
            message = error.with_traceback(None)  # whose frame is this one: a cycle
        self._agent.receive(message, hop, self._loop.time())
        self._settle()

    def _receive(self, message: Request | Response | MalformedMessage, hop: Hop) -> None:
        self._agent.receive(message, hop, self._loop.time())
        self._settle()

    def _stream_failed(self, hop: Hop) -> None:
        self._agent.transport_failed(hop, self._loop.time())
        self._settle()

    def _settle(self) -> None:
        """Carry out what the agent wants and wake it at its next deadline."""
        while outputs := self._agent.drain():
            for output in outputs:
                if isinstance(output, LookUp):
                    self._locate(output)
                elif not self._transmit(output.data, output.hop):
                    self._count("not_sendable")
                    self._agent.not_sent(output, self._loop.time())
        when = self._agent.next_timer()
        if when is None:
            return
        if self._timer is not None:
            if self._timer_at <= when:
                return  # it looks again when it fires
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._agent.on_timer(self._loop.time())
        self._settle()

    def _transmit(self, data: bytes, hop: Hop) -> bool:
        """False when it is known at once that this will not leave."""
        if not self._may_leave(data, hop):
            return False
        if hop.transport != "udp":
            return self._streams.send(data, hop)
        udp = self._udp.get(hop.link) or self._first_udp.get(":" in hop.host)
        return udp is not None and udp.send(data, hop.host, hop.port)

    def _may_leave(self, data: bytes, hop: Hop) -> bool:
        """The last lock, after all who have asked the boundary: no request leaves for an address
        outside. An answer goes back to where its request came from, and says no more than that."""
        return data.startswith(ANSWER) or self._boundary.permits(hop.host)

    def _may_ask(self, host: str) -> bool:
        """Whether a DNS server may hear what names are looked up here."""
        return self._boundary.judge(Use.RESOLVER, host).allowed

    def _locate(self, lookup: LookUp) -> None:
        """At once from the cache, else when DNS has answered: no other call waits for it."""
        hops = self._resolver.known(lookup.target, CARRIED, self._families)
        if hops is not None:
            self._agent.looked_up(lookup, hops, self._loop.time())
            return
        task = self._loop.create_task(self._look_up(lookup))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)

    async def _look_up(self, lookup: LookUp) -> None:
        hops: tuple[Hop, ...] = ()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._dns.timeout_s):
                hops = await self._resolver.find(lookup.target, CARRIED, self._families)
        self._agent.looked_up(lookup, hops, self._loop.time())
        self._settle()

    def _count(self, name: str) -> None:
        self.counters[name] += 1
