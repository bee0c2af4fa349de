"""The SIP endpoint: bytes in, transactions, bytes out, and one timer.

    listener → parse → TransactionLayer → Calls → TransactionLayer → listener
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, cast

from relay.call.calls import Calls
from relay.call.ports import TransactionUser
from relay.call.refusal import refuse
from relay.errors import MalformedMessage
from relay.signalling.stream import Streams
from relay.signalling.udp import UdpListener
from relay.sip import transaction as layer
from relay.sip.message import Message, Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import Hop, InviteClientTransaction, ServerTx, TransactionLayer
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.config import Listen

MAX_DATAGRAM_OCTETS = 65535


class Endpoint:
    """Implements `Signalling` for the application and feeds it what arrives."""

    def __init__(
        self,
        calls: Calls,
        listens: Sequence[Listen],
        advertise: str | None,
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._calls = calls
        calls.signalling = self
        self._listens = listens
        self._advertise = advertise
        self._on_bug = on_bug
        self._layer = TransactionLayer(calls.timers)
        self._links = count(1)
        self._udp: dict[int, UdpListener] = {}
        self._tcp: dict[int, tuple[str, int]] = {}  # family → our listening address
        self._streams = Streams(self._message, self._stream_failed, self._count, self._links)
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._settling = False
        self._lookups: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind every listener. Raises ListenError."""
        self._loop = asyncio.get_running_loop()
        for listen in self._listens:
            if listen.transport == "udp":
                listener = UdpListener(next(self._links), self._datagram)
                await listener.bind(listen.host, listen.port)
                self._udp[listener.link] = listener
            else:
                server = await self._streams.listen(listen.host, listen.port)
                self._servers.append(server)
                sock = server.sockets[0]
                self._tcp.setdefault(sock.family, sock.getsockname()[:2])

    def close(self) -> None:
        """Stop listening; open connections are closed."""
        for server in self._servers:
            server.close()
        self._streams.close()
        for listener in self._udp.values():
            listener.close()
        for task in self._lookups:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def idle(self) -> bool:
        """Nothing is waiting to be sent or answered."""
        return self._calls.idle

    # --- Signalling, for the application

    def contact(self, target: SipUri | None, hop: Hop | None) -> str:
        if hop is not None:
            transport, peer = hop.transport, hop.host
        else:
            assert target is not None
            transport, peer = target.transport or "udp", target.host
        where = self._sent_by(transport, peer, hop.link if hop else 0)
        param = "" if transport == "udp" else f";transport={transport}"
        return f"<sip:{where}{param}>"

    def request(self, request: Request, target: SipUri, reuse: Hop | None, user: object) -> None:
        def go(hop: Hop) -> None:
            tx = self._layer.request(request, hop, self._sent_by_hop(hop), self._loop.time())
            tx.user = user

        def fail() -> None:
            cast("TransactionUser", user).on_no_response(503, self._loop.time())

        self._to(target, reuse, go, fail)

    def cancel(self, tx: InviteClientTransaction) -> None:
        self._layer.cancel(tx, self._loop.time())

    def respond(self, tx: ServerTx, response: Response) -> None:
        self._layer.respond(tx, response, self._loop.time())

    def send(self, request: Request, target: SipUri, reuse: Hop | None) -> None:
        def go(hop: Hop) -> None:
            self._layer.send(request, hop, self._sent_by_hop(hop), self._loop.time())

        self._to(target, reuse, go, lambda: self._count("ack_not_sent"))

    # --- in

    def _datagram(self, data: bytes, hop: Hop) -> None:
        if len(data) > MAX_DATAGRAM_OCTETS:
            self._count("oversized")
            return
        if not data.strip(b"\r\n\0"):
            return  # keep-alive
        try:
            message: Request | Response | MalformedMessage = parse(data)
        except MalformedMessage as error:
            message = error
        self._message(message, hop)

    def _message(self, message: Request | Response | MalformedMessage, hop: Hop) -> None:
        now = self._loop.time()
        if isinstance(message, MalformedMessage):
            self._count("malformed")
            self._answer_malformed(message, hop, now)
        else:
            try:
                self._layer.receive(message, hop, now)
            except MalformedMessage:
                self._count("malformed")
        self._settle()

    def _answer_malformed(self, error: MalformedMessage, hop: Hop, now: float) -> None:
        """400 where RFC 3261 allows it, and only to a known trunk."""
        request = error.message
        if not isinstance(request, Request) or self._calls.router.identify(hop.host) is None:
            return
        response = refuse(request, 400, self._calls.token(), str(error))
        self._layer.send(response, hop, "", now)

    def _stream_failed(self, hop: Hop) -> None:
        self._layer.transport_failed(hop, self._loop.time())
        self._settle()

    # --- the loop: everything that the layer has to say, then one timer

    def _settle(self) -> None:
        if self._settling:
            return
        self._settling = True
        try:
            while outputs := self._layer.drain():
                for output in outputs:
                    try:
                        self._carry_out(output)
                    except Exception as bug:  # one call's bug must not stop the others
                        self._count("bugs")
                        self._on_bug(bug)
        finally:
            self._settling = False
        self._arm()

    def _carry_out(self, output: layer.Output) -> None:
        now = self._loop.time()
        calls = self._calls
        if isinstance(output, layer.Send):
            self._transmit(output.data, output.hop)
        elif isinstance(output, layer.RequestReceived):
            calls.on_request(output.tx, output.request, output.source, now)
        elif isinstance(output, layer.ResponseReceived):
            if output.tx.user is not None:
                cast("TransactionUser", output.tx.user).on_response(
                    output.tx, output.response, now
                )
        elif isinstance(output, layer.AckReceived):
            calls.on_ack(output.request, output.source, now)
        elif isinstance(output, layer.CancelReceived):
            calls.on_cancel(output.invite_tx, now)
        elif isinstance(output, (layer.TimedOut, layer.Failed)):
            status = 408 if isinstance(output, layer.TimedOut) else 503
            if isinstance(output.tx.user, object) and hasattr(output.tx.user, "on_no_response"):
                output.tx.user.on_no_response(status, now)

    def _transmit(self, data: bytes, hop: Hop) -> None:
        if hop.transport != "udp":
            self._streams.send(data, hop)
            return
        listener = self._udp.get(hop.link) or self._udp_for(hop.host)
        if listener is None:
            self._count("no_udp_listener")
        else:
            listener.send(data, hop.host, hop.port)

    def _arm(self) -> None:
        """One timer for transactions and calls: the earlier deadline."""
        deadlines = [
            when
            for when in (self._layer.next_timer(), self._calls.alarms.next_timer())
            if when is not None
        ]
        if not deadlines:
            return
        when = min(deadlines)
        if self._timer is not None:
            if self._timer_at <= when:
                return  # it will look again when it fires
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._layer.on_timer(now)
        self._calls.alarms.on_timer(now)
        self._settle()

    def settle(self) -> None:
        """After the application acted by itself (media event, shutdown)."""
        self._settle()

    # --- where to, and as whom

    def _to(
        self,
        target: SipUri,
        reuse: Hop | None,
        go: Callable[[Hop], None],
        fail: Callable[[], None],
    ) -> None:
        """Call `go` with the hop of `target`, at once for a numeric address."""
        if reuse is not None and self._streams.is_open(reuse):
            go(reuse)
            return
        transport = target.transport or "udp"
        port = target.port or 5060
        if transport not in ("udp", "tcp"):
            fail()
        elif _is_numeric(target.host):
            go(Hop(transport, target.host, port))
        else:
            task = self._loop.create_task(self._look_up(target.host, transport, port, go, fail))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

    async def _look_up(
        self,
        host: str,
        transport: str,
        port: int,
        go: Callable[[Hop], None],
        fail: Callable[[], None],
    ) -> None:
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            go(Hop(transport, str(found[0][4][0]), port))
        except OSError:
            self._count("unresolved")
            fail()
        self._settle()

    def _udp_for(self, host: str) -> UdpListener | None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return next((u for u in self._udp.values() if u.family == family), None)

    def _sent_by_hop(self, hop: Hop) -> str:
        return self._sent_by(hop.transport, hop.host, hop.link)

    def _sent_by(self, transport: str, peer: str, link: int) -> str:
        """Our `host:port` towards a peer; the advertised host when one is configured."""
        host, port = "", 0
        if transport == "udp":
            listener = self._udp.get(link) or self._udp_for(peer)
            if listener is not None:
                host, port = listener.host, listener.port
        else:
            family = socket.AF_INET6 if ":" in peer else socket.AF_INET
            host, port = self._tcp.get(family, ("", 0))
        if self._advertise is not None and (":" in self._advertise) == (":" in peer):
            host = self._advertise
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _count(self, name: str) -> None:
        self.counters[name] += 1


def _is_numeric(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


__all__ = ["Endpoint", "Message"]
