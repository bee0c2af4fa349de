"""The back-to-back user agent without I/O: transactions below, calls above.

    receive → TransactionLayer → Calls → legs → TransactionLayer → drain

A shell feeds it messages and time, sends what `drain` returns, and wakes it at
`next_timer`. Nothing here knows a socket, so a whole call runs in virtual time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from relay.call.calls import Calls
from relay.call.entry import Entry
from relay.call.events import Stopped
from relay.call.over_tcp import OverTcp, is_long
from relay.call.ports import LEADS_OUT, Allows, Located, MediaEvent, TransactionUser
from relay.errors import MalformedMessage
from relay.residency.boundary import Use
from relay.sip import transaction as layer
from relay.sip.locate import hop_to, is_numeric
from relay.sip.message import Request, Response
from relay.sip.transaction import Hop, InviteClientTransaction, Transaction, TransactionLayer
from relay.sip.uri import SipUri, transport_to

CARRIED = ("udp", "tcp", "tls")
KEPT_NAMES = 1024
UDP_ONLY_S = 600.0
SUPPORTED = frozenset(("100rel", "timer", "norefersub", "outbound", "gruu"))


class Addresses(Protocol):
    """What the shell knows of its sockets."""

    def sent_by(self, transport: str, peer: str, link: int) -> str:
        """Our `host:port` as this peer must see it (Via, Contact)."""

    def is_open(self, hop: Hop) -> bool:
        """Whether the stream connection of `hop` still stands."""

    def move(self, old: Hop, new: Hop) -> None:
        """What is for the connection of `old` goes over that of `new` from now on."""

    def trust(self, hop: Hop) -> None:
        """A stranger's connection is that of a trunk after all."""

    def peer_names(self, hop: Hop) -> frozenset[str]:
        """The names that the certificate at the other end of a TLS connection proved."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """The shell is asked where `target` is (RFC 3263); it answers with `looked_up`."""

    target: SipUri
    found: Located
    allows: Allows


class UserAgent:
    """Implements `Signalling` for the calls. Not thread-safe: one loop feeds it."""

    def __init__(
        self, calls: Calls, addresses: Addresses, on_bug: Callable[[Exception], None]
    ) -> None:
        self.calls = calls
        calls.signalling = self
        self.counters: Counter[str] = Counter()
        self._layer = TransactionLayer(calls.timers, supported=SUPPORTED, refused=calls.counters)
        self._addresses = addresses
        self._entry = Entry(calls, self._layer, self.counters, addresses.trust)
        self._on_bug = on_bug
        self._lookups: list[LookUp] = []
        self._places: dict[str, tuple[str, ...]] = {}  # a name's addresses as last looked up
        self._now = 0.0
        self._udp_only: dict[tuple[str, int], float] = {}  # no TCP there, until then

    # --- in

    def receive(self, message: Request | Response | MalformedMessage, hop: Hop, now: float) -> None:
        """A parsed message, or what is wrong with it."""
        self._now = now
        self._entry.receive(message, hop, now)

    def transport_failed(self, hop: Hop, now: float) -> None:
        """A stream connection is gone, or could not be made."""
        self._now = now
        self._layer.transport_failed(hop, now)
        if hop.is_websocket:
            self._guard(self.calls.on_flow_lost, hop, now)

    def not_sent(self, output: layer.Send, now: float) -> None:
        """It can never be sent: too long, or to what is no address."""
        self._now = now
        if output.tx is not None:
            self._layer.transport_failed(output.hop, now, output.tx)

    def looked_up(self, lookup: LookUp, hops: tuple[Hop, ...], now: float) -> None:
        """The answer to a LookUp; empty when the name has no address that can be used."""
        self._now = now
        why = ""
        inside = tuple(hop for hop in hops if lookup.allows(Use.DNS_ANSWER, hop.host, hop.port))
        if not hops:
            self.counters["unresolved"] += 1
            why = "its name has no address"
        elif not inside:
            why = LEADS_OUT[0]
        if len(self._places) >= KEPT_NAMES:
            self._places.clear()
        self._places[lookup.target.host] = tuple(hop.host for hop in inside)
        self._guard(lookup.found, inside, why, now)

    def _allows(self, use: Use, host: str, port: int) -> bool:
        """Of what belongs to no call."""
        return self.calls.boundary.judge(use, host).allowed

    def on_media(self, call_id: str, event: MediaEvent, now: float) -> None:
        self._now = now
        self._guard(self.calls.on_media, call_id, event, now)

    def register(self, now: float) -> None:
        """Begin every registration of ours, and ask the trunks how they are."""
        self._now = now
        self._guard(self.calls.health.start, now)
        for registration in self.calls.registrations:
            self._guard(registration.start, now)

    def unregister(self, now: float) -> None:
        """End them: no calls are to come."""
        self._now = now
        self.calls.health.stop()
        for registration in self.calls.registrations:
            self._guard(registration.stop, now)

    def stop(self, now: float) -> None:
        """End every call with BYE, CANCEL or 503."""
        self._now = now
        for call in list(self.calls.active.values()):
            self._guard(call.feed, Stopped(), now)

    @property
    def transactions(self) -> int:
        """Live ones; most wait for repeats of what is over."""
        return len(self._layer)

    def next_timer(self) -> float | None:
        """When `on_timer` is due, in monotonic seconds."""
        first, second = self._layer.next_timer(), self.calls.alarms.next_timer()
        if first is None or second is None:
            return first if second is None else second
        return min(first, second)

    def on_timer(self, now: float) -> None:
        self._now = now
        self._layer.on_timer(now)
        for owner in self.calls.alarms.due(now):
            self._guard(owner.on_timer, now)

    # --- out

    def drain(self) -> list[layer.Send | LookUp]:
        """Let the calls act on everything that happened; returns what the shell must do."""
        todo: list[layer.Send | LookUp] = []
        outputs = self._layer.outputs
        try:
            for output in outputs:  # what the calls add comes behind
                if type(output) is layer.Send:
                    todo.append(output)
                    continue
                try:
                    self._deliver(output)
                except Exception as bug:
                    self._bug(bug)
                    if isinstance(output, layer.RequestReceived):
                        self._guard(self.respond, output.tx, output.request.response(500))
        finally:
            outputs.clear()
            self._layer.release()
        if self._lookups:
            todo += self._lookups
            self._lookups.clear()
        return todo

    def _guard(self, step: Callable[..., None], *args: object) -> None:
        """A bug of one call must not stop the others."""
        try:
            step(*args)
        except Exception as bug:
            self._bug(bug)

    def _bug(self, bug: Exception) -> None:
        self.counters["bugs"] += 1
        self._on_bug(bug)

    def _deliver(self, output: layer.Output) -> None:
        now, calls = self._now, self.calls
        if isinstance(output, layer.ResponseReceived):
            tx = output.tx
            if tx.user is not None:
                tx.user.on_response(tx, output.response, now)
        elif isinstance(output, layer.RequestReceived):
            calls.on_request(output.tx, output.request, output.source, now)
        elif isinstance(output, layer.AckReceived):
            calls.on_ack(output.request, output.source, now)
        elif isinstance(output, layer.CancelReceived):
            calls.on_cancel(output.invite_tx, output.request, now)
        elif isinstance(output, layer.StrayResponse):
            calls.on_late_answer(output.response, output.source, now)
        elif isinstance(output, layer.TimedOut):
            self._no_response(output.tx.user, 408)
        elif isinstance(output, layer.Failed):
            self._no_response(output.tx.user, 503)

    def _no_response(self, user: object, status: int) -> None:
        if hasattr(user, "on_no_response"):
            cast("TransactionUser", user).on_no_response(status, self._now)

    # --- Signalling, for the calls

    def contact(self, hop: Hop, sips: bool = False) -> str:
        where = self._addresses.sent_by(hop.transport, hop.host, hop.link)
        if sips and hop.transport == "tls":
            return f"<sips:{where}>"
        if hop.transport == "udp":
            return f"<sip:{where}>"
        # A URI knows no wss (RFC 7118 section 5.2.2).
        transport = "ws" if hop.transport == "wss" else hop.transport
        return f"<sip:{where};transport={transport}>"

    def peer_names(self, hop: Hop) -> frozenset[str]:
        return self._addresses.peer_names(hop)

    def locate(self, target: SipUri, found: Located, allows: Allows | None = None) -> None:
        allows = allows or self._allows
        if transport_to(target) not in CARRIED:
            found((), f"{transport_to(target)} is not carried here", self._now)
            return
        if not is_numeric(target.host):
            self._lookups.append(LookUp(target, found, allows))
            return
        hop = hop_to(target, target.host)
        if allows(Use.SIGNALLING, hop.host, hop.port):
            found((hop,), "", self._now)
        else:
            found((), LEADS_OUT[1], self._now)

    def move(self, old: Hop, new: Hop) -> None:
        self._layer.follow(old, new)
        self._addresses.move(old, new)

    def leads_to(self, name: str, host: str) -> bool:
        return host in self._places.get(name, ())

    def request(
        self,
        request: Request,
        target: SipUri | Hop,
        reuse: Hop | None,
        user: object,
        allows: Allows | None = None,
    ) -> None:
        hop = self._hop(target, reuse)
        if hop is not None:
            self._request(request, user, hop)
            return

        def found(hops: tuple[Hop, ...], why: str, now: float) -> None:
            if hops:
                self._request(request, user, _as_proved(hops[0], reuse))
            else:
                self._no_response(user, 503)

        assert not isinstance(target, Hop)
        self.locate(target, found, allows)

    def _request(self, request: Request, user: object, hop: Hop) -> None:
        if hop.transport == "udp" and is_long(request) and self._may_be_tcp(request, hop):
            user, hop = (
                OverTcp(request, hop, user, self._back_to_udp),
                Hop("tcp", hop.host, hop.port),
            )
        self._layer.request(request, hop, self._sent_by(hop), self._now).user = user

    def _may_be_tcp(self, request: Request, hop: Hop) -> bool:
        """Unless the URI says UDP, or this peer did not take TCP lately."""
        if ";transport=udp" in request.uri.lower():
            return False
        return self._now >= self._udp_only.get((hop.host, hop.port), self._now)

    def _back_to_udp(self, request: Request, hop: Hop, user: object) -> None:
        """What was too long for UDP found no TCP there (RFC 3261 section 18.1.1)."""
        self.counters["tcp_not_taken"] += 1
        if len(self._udp_only) >= KEPT_NAMES:
            self._udp_only.clear()
        self._udp_only[hop.host, hop.port] = self._now + UDP_ONLY_S
        request.headers.remove("Via")  # ours, the only one
        self._layer.request(request, hop, self._sent_by(hop), self._now).user = user

    def cancel(self, tx: InviteClientTransaction, reason: str = "") -> None:
        self._layer.cancel(tx, self._now, reason)

    def respond(self, tx: Transaction, response: Response) -> None:
        self._layer.respond(tx, response, self._now)

    def send(
        self, request: Request, target: SipUri, reuse: Hop | None, allows: Allows | None = None
    ) -> None:
        hop = self._hop(target, reuse)
        if hop is not None:
            self._send(request, hop)
            return

        def found(hops: tuple[Hop, ...], why: str, now: float) -> None:
            if hops:
                self._send(request, _as_proved(hops[0], reuse))
            else:
                self.counters["ack_not_sent"] += 1

        self.locate(target, found, allows)

    def _send(self, request: Request, hop: Hop) -> None:
        self._layer.send(request, hop, self._sent_by(hop), self._now)

    def _hop(self, target: SipUri | Hop, reuse: Hop | None) -> Hop | None:
        """Where it goes when nothing needs to be located.

        To a voice client over its connection or not at all: its Contact may say anything.
        """
        if reuse is not None and (reuse.is_websocket or self._addresses.is_open(reuse)):
            return reuse
        return target if isinstance(target, Hop) else None

    def _sent_by(self, hop: Hop) -> str:
        return self._addresses.sent_by(hop.transport, hop.host, hop.link)


def _as_proved(hop: Hop, before: Hop | None) -> Hop:
    """A TLS peer whose connection is gone: it is to prove the name that it proved before."""
    if before is not None and before.name and before[:2] == hop[:2]:
        return hop._replace(name=before.name)
    return hop
