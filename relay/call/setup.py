"""From a caller's INVITE to the callee's: every check, in order, before a port is opened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

from relay.call.admission import REGION
from relay.call.branches import Branches
from relay.call.call import Call
from relay.call.callee import CalleeLeg
from relay.call.caller import CallerLeg
from relay.call.clients import Client
from relay.call.devices import find
from relay.call.end import Party
from relay.call.fork import seek
from relay.call.hunt import Target
from relay.call.identity import Identity, proved
from relay.call.negotiation import Negotiation
from relay.call.ports import Side
from relay.call.refusal import ALLOW, RETRY_AFTER_S
from relay.errors import IntervalTooSmall, MalformedMessage, NotAcceptable, Refused
from relay.sip.dialog import Dialog
from relay.sip.fields import Headers
from relay.sip.headers import NameAddr
from relay.sip.message import Request
from relay.sip.options import requires, supports
from relay.sip.reliable import OPTION
from relay.sip.session_timer import is_too_short
from relay.sip.transaction import Hop, Transaction
from relay.sip.uri import SipUri, parse_uri, transport_to

if TYPE_CHECKING:
    from relay.call.calls import Calls
    from relay.call.leg import Leg
    from relay.config import Account, Trunk

MAX_FORWARDS = 70
SECURE = ("tls", "wss")
# What a number may hold once its escapes are decoded: it goes into our request line, where
# a line break, a space or an @ would make another request of it.
DIALLED = re.compile(r"[A-Za-z0-9+*#_.!~'()&=$,;?/-]+")


def set_up(
    calls: Calls,
    tx: Transaction,
    request: Request,
    source: Hop,
    caller: Trunk | Client,
    now: float,
) -> None:
    """Start a call, or raise what refuses it; nothing is held in that case."""
    _check(calls, request, source)
    trunk = caller.account if isinstance(caller, Client) else caller
    if trunk.prack == "off" and requires(request, OPTION):
        raise Refused(420, "100rel is off on this trunk")
    number, instance = _dialled(request)
    to, targets = find(calls, trunk, number, instance, now)
    if is_sips(request):
        targets = over_tls(targets)
    trunks = (trunk.name,) if to == trunk.name else (trunk.name, to)
    call = Call(calls, calls.token(), now)
    call.admitted = (*trunks, REGION)
    calls.admission.admit(call.admitted, now)
    try:
        _open(calls, call, tx, request, source, caller, targets, to, now)
    except Exception:
        if call.id not in calls.active:  # else it gives back when it ends
            calls.admission.release(call.admitted)
        raise


def _check(calls: Calls, request: Request, source: Hop) -> None:
    if calls.stopping:
        raise Refused(503, "the relay is shutting down", RETRY_AFTER_S)
    if calls.is_loop(request):
        raise Refused(482, "this call has come back to where it started")
    if request.contact is None:
        raise Refused(400, "an INVITE needs a Contact")
    if not Dialog.can_reach(request):  # no BYE of ours could ever leave
        raise MalformedMessage("next hop is not a SIP URI")
    if source.transport == "udp" and not calls.may_reach(Dialog.next_hop_of(request)):
        raise Refused(403, "the address in Contact or Record-Route is outside the region")
    if request.body and request.content_type != "application/sdp":
        raise Refused(415, "an INVITE carries application/sdp or nothing")
    if is_too_short(request, calls.min_session_expires_s):
        raise IntervalTooSmall(calls.min_session_expires_s)


def is_sips(request: Request) -> bool:
    return request.uri[:5].lower() == "sips:"


def over_tls(targets: Sequence[Target]) -> list[Target]:
    """A call to a `sips:` address is TLS to its end, or is no call (RFC 5630 section 3.1)."""
    found = [
        target
        for target in targets
        if (target.hop.transport if target.hop else transport_to(target.uri)) in SECURE
    ]
    if not found:
        raise Refused(480, "SIPS not allowed: the called side is not reached over TLS, call sip:")
    return found


def _dialled(request: Request) -> tuple[str, str]:
    """The number or name that is called, and the `gr` of one device (RFC 5627) or ""."""
    uri = parse_uri(request.uri)
    if not isinstance(uri, SipUri):
        raise Refused(416, "only a sip: address can be called here")
    if not uri.user:
        raise Refused(484, "the address has no number")
    number = unquote(uri.user)
    if DIALLED.fullmatch(number) is None:
        raise Refused(404, "no route to this number")
    return number, uri.param("gr") or ""


def _open(
    calls: Calls,
    call: Call,
    tx: Transaction,
    request: Request,
    source: Hop,
    caller: Trunk | Client,
    targets: Sequence[Target],
    callee_trunk: str,
    now: float,
) -> None:
    client, trunk = (caller, caller.account) if isinstance(caller, Client) else (None, caller)
    callee = calls.router.peer(callee_trunk)
    first = targets[0]
    asks_ipv6 = ":" in source.host if client is not None else _speaks_ipv6(request.body, source)
    takes_ipv6 = ":" in (first.hop.host if first.hop is not None else first.uri.host)
    invitation = Invitation(
        call,
        {Side.CALLER: trunk, Side.CALLEE: callee},
        request,
        (asks_ipv6, takes_ipv6),
        at_once=first.hop is not None,
    )
    call.hunt = seek(call, call, callee, targets, invitation, delayed_offer=not request.body)
    call.caller = CallerLeg(call, trunk.name, tx, request, source, client)
    call.recording.mode = calls.router.recording_mode(trunk.name, callee_trunk)
    calls.active[call.id] = call
    call.ring_until(now + calls.ring_timeout_s)
    calls.journal.event(
        "call_started",
        call.id,
        trunk=trunk.name,
        to=callee_trunk,
        caller_number=client.identity if client is not None else _user(request),
        callee_number=first.client.identity if first.client is not None else first.uri.user,
    )
    call.hunt.start(now)


def _user(request: Request) -> str | None:
    """Who calls, as From says."""
    return request.from_.uri.user if isinstance(request.from_.uri, SipUri) else ""


def _speaks_ipv6(offer: bytes, source: Hop) -> bool:
    """The family of the caller's voice: a dual-stack phone may signal by the other one."""
    if b"\nc=IN IP" not in offer:
        return ":" in source.host
    return b"\nc=IN IP4 " not in offer


def party(peer: Trunk | Account) -> Party:
    """How its media are carried."""
    return Party(peer.media_security, peer.symmetric_rtp, peer.transcode)


class Invitation:
    """The caller's INVITE for the callee, written anew for each address that is tried.

    Each attempt negotiates afresh, with keys of its own: nothing of an answer that came from
    another address is left. Our ports stay, unless the next address is of the other IP version.
    Those that are made `at_once` share one negotiation: their keys come from DTLS.
    """

    __slots__ = (
        "_at_once",
        "_call",
        "_families",
        "_offer",
        "_request",
        "_secure",
        "_trunks",
        "_written",
    )

    def __init__(
        self,
        call: Call,
        trunks: dict[Side, Trunk | Account],
        request: Request,
        families: tuple[bool, bool],
        at_once: bool = False,
    ) -> None:
        """Opens the media; `families` says of caller and callee whether theirs is IPv6.

        Raises RelayError; nothing is held then.
        """
        self._call = call
        self._trunks = trunks
        self._request = request
        self._secure = is_sips(request) or trunks[Side.CALLEE].secure
        self._families = families
        self._at_once = at_once
        self._written = False
        call.media = call.calls.media.open(call.id, *families)
        try:
            self._negotiate()
        except Exception:
            call.media.close()
            raise

    def __call__(self, leg: CalleeLeg, target: SipUri, hop: Hop) -> Request:
        if self._secure and hop.transport not in SECURE:  # it was redirected there
            raise NotAcceptable("its address is not reached over TLS, which this call needs")
        if not self._at_once:
            self._start_afresh(":" in hop.host)
        return invite_for(leg, self._call.caller, self._request, target, self._offer)

    def _start_afresh(self, ipv6: bool) -> None:
        if ipv6 != self._families[1]:
            self._move(ipv6)
        elif self._written:
            self._call.negotiation.forget()
            self._negotiate(self._call.negotiation)
        self._written = True

    def _negotiate(self, former: Negotiation | None = None) -> None:
        calls, trunks = self._call.calls, self._trunks
        negotiation = Negotiation(
            self._call.media,
            calls.media,
            {side: party(trunk) for side, trunk in trunks.items()},
            calls.session_id(),
            calls.boundary.holds,
            former=former,
        )
        body = self._request.body
        self._offer = negotiation.offer(Side.CALLER, body) if body else b""
        self._call.negotiation = negotiation
        self._call.branches = Branches(negotiation, not body)

    def _move(self, ipv6: bool) -> None:
        """Other ports, as long as nobody has been told or recorded the ones we have."""
        call = self._call
        if call.recording.running or call.negotiation.agreed:
            raise NotAcceptable("its address is of another IP version than the call's media")
        families = (self._families[0], ipv6)
        moved = call.calls.media.open(call.id, *families)
        call.media.close()
        call.media, self._families = moved, families
        self._negotiate()


def invite_for(
    callee: CalleeLeg, caller: Leg, request: Request, target: SipUri, offer: bytes
) -> Request:
    """Our own INVITE: nothing of the caller's dialog is in it but what the lists name."""
    calls = callee.call.calls
    ours = NameAddr.parse(callee.contact).uri
    assert isinstance(ours, SipUri)
    identity = _identity(callee, caller, request, ours)
    to = target if callee.client is None else ours.replace(user=callee.client.identity)
    if identity.dropped:
        calls.counters["identity_dropped"] += identity.dropped
    forwards = request.max_forwards
    fields = [
        ("Max-Forwards", str((MAX_FORWARDS if forwards is None else forwards) - 1)),
        ("From", f"{identity.from_};tag={callee.local_tag}"),
        ("To", f"<{to.replace(params=(), port=None)}>"),
        ("Call-ID", calls.token() + calls.token()),
        ("CSeq", "1 INVITE"),
        ("Contact", callee.contact),
        ("Allow", ALLOW),
        *identity.fields,
        # Only one device can have its early description acknowledged.
        *callee.extensions(callee.alone and (bool(offer) or supports(request, OPTION))),
    ]
    passed_on = calls.passed_on
    fields += [field for field in request.headers.items() if field[0].lower() in passed_on]
    if offer:
        fields.append(("Content-Type", "application/sdp"))
    return Request("INVITE", str(target), Headers.of_canonical(fields), offer)


def _identity(callee: CalleeLeg, caller: Leg, request: Request, ours: SipUri) -> Identity:
    """Who calls: a trunk's word as far as it is believed, a voice client's token."""
    router = callee.call.calls.router
    peer, plan = router.peer(caller.trunk), router.plan(caller.trunk)
    believed = peer.trusted
    if (client := caller.client) is not None:
        number = client.caller_number if callee.client is None else None
        request, believed = proved(request, number or client.identity), True
    return Identity(request, believed, router.peer(callee.trunk), ours, plan)
