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
from relay.call.hunt import Hunt, Target
from relay.call.identity import Identity
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
    from relay.config import Account, Trunk

MAX_FORWARDS = 70
# What a number may hold once its escapes are decoded: it goes into our request line, where
# a line break, a space or an @ would make another request of it.
DIALLED = re.compile(r"[A-Za-z0-9+*#_.!~'()&=$,;?/-]+")


def set_up(
    calls: Calls,
    tx: Transaction,
    request: Request,
    source: Hop,
    trunk: Trunk | Account,
    now: float,
) -> None:
    """Start a call, or raise what refuses it; nothing is held in that case."""
    _check(calls, request, source)
    if trunk.prack == "off" and requires(request, OPTION):
        raise Refused(420, "100rel is off on this trunk")
    number = _dialled(request)
    route, targets = calls.router.route(trunk, number)
    if is_sips(request):
        targets = over_tls(targets)
    trunks = (trunk.name,) if route.to == trunk.name else (trunk.name, route.to)
    call = Call(calls, calls.token(), now)
    call.admitted = (*trunks, REGION)
    calls.admission.admit(call.admitted, now)
    try:
        _open(calls, call, tx, request, source, trunk, targets, route.to, now)
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
    found = [target for target in targets if transport_to(target.uri) == "tls"]
    if not found:
        raise Refused(480, "SIPS not allowed: the called side is not reached over TLS, call sip:")
    return found


def _dialled(request: Request) -> str:
    uri = parse_uri(request.uri)
    if not isinstance(uri, SipUri):
        raise Refused(416, "only a sip: address can be called here")
    if not uri.user:
        raise Refused(484, "the address has no number")
    number = unquote(uri.user)
    if DIALLED.fullmatch(number) is None:
        raise Refused(404, "no route to this number")
    return number


def _open(
    calls: Calls,
    call: Call,
    tx: Transaction,
    request: Request,
    source: Hop,
    trunk: Trunk | Account,
    targets: Sequence[Target],
    callee_trunk: str,
    now: float,
) -> None:
    callee = calls.router.peer(callee_trunk)
    first = targets[0].uri
    invitation = Invitation(
        call,
        {Side.CALLER: trunk, Side.CALLEE: callee},
        request,
        (_speaks_ipv6(request.body, source), ":" in first.host),
    )
    call.hunt = Hunt(
        call,
        call,
        callee_trunk,
        targets,
        invitation,
        callee.try_next_after_s,
        delayed_offer=not request.body,
    )
    call.caller = CallerLeg(call, trunk.name, tx, request, source)
    call.recording.mode = calls.router.recording_mode(trunk.name, callee_trunk)
    calls.active[call.id] = call
    call.ring_until(now + calls.ring_timeout_s)
    calls.journal.event(
        "call_started",
        call.id,
        trunk=trunk.name,
        to=callee_trunk,
        caller_number=request.from_.uri.user if isinstance(request.from_.uri, SipUri) else "",
        callee_number=first.user,
    )
    call.hunt.start(now)


def _speaks_ipv6(offer: bytes, source: Hop) -> bool:
    """The family of the caller's voice: a dual-stack phone may signal by the other one."""
    if b"\nc=IN IP" not in offer:
        return ":" in source.host
    return b"\nc=IN IP4 " not in offer


class Invitation:
    """The caller's INVITE for the callee, written anew for each address that is tried.

    Each attempt negotiates afresh, with keys of its own: nothing of an answer that came from
    another address is left. Our ports stay, unless the next address is of the other IP version.
    """

    __slots__ = ("_call", "_families", "_offer", "_request", "_secure", "_trunks", "_written")

    def __init__(
        self,
        call: Call,
        trunks: dict[Side, Trunk | Account],
        request: Request,
        families: tuple[bool, bool],
    ) -> None:
        """Opens the media; `families` says of caller and callee whether theirs is IPv6.

        Raises RelayError; nothing is held then.
        """
        self._call = call
        self._trunks = trunks
        self._request = request
        self._secure = is_sips(request) or trunks[Side.CALLEE].secure
        self._families = families
        self._written = False
        call.media = call.calls.media.open(call.id, *families)
        try:
            self._negotiate()
        except Exception:
            call.media.close()
            raise

    def __call__(self, leg: CalleeLeg, target: SipUri, hop: Hop) -> Request:
        if self._secure and hop.transport != "tls":  # it was redirected there
            raise NotAcceptable("its address is not reached over TLS, which this call needs")
        ipv6 = ":" in hop.host
        if ipv6 != self._families[1]:
            self._move(ipv6)
        elif self._written:
            self._call.negotiation.forget()
            self._negotiate()
        self._written = True
        return invite_for(leg, self._trunks[Side.CALLER], self._request, target, self._offer)

    def _negotiate(self) -> None:
        calls, trunks = self._call.calls, self._trunks
        negotiation = Negotiation(
            self._call.media,
            {side: trunk.symmetric_rtp for side, trunk in trunks.items()},
            calls.session_id(),
            {side: trunk.media_security for side, trunk in trunks.items()},
            calls.boundary.holds,
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
    callee: CalleeLeg, trunk: Trunk | Account, request: Request, target: SipUri, offer: bytes
) -> Request:
    """Our own INVITE: nothing of the caller's dialog is in it but what the lists name."""
    calls = callee.call.calls
    ours = NameAddr.parse(callee.contact).uri
    assert isinstance(ours, SipUri)
    plan, callee_trunk = calls.router.plan(trunk.name), calls.router.peer(callee.trunk)
    identity = Identity(request, trunk, callee_trunk, ours, plan)
    if identity.dropped:
        calls.counters["identity_dropped"] += identity.dropped
    forwards = request.max_forwards
    fields = [
        ("Max-Forwards", str((MAX_FORWARDS if forwards is None else forwards) - 1)),
        ("From", f"{identity.from_};tag={callee.local_tag}"),
        ("To", f"<{target.replace(params=(), port=None)}>"),
        ("Call-ID", calls.token() + calls.token()),
        ("CSeq", "1 INVITE"),
        ("Contact", callee.contact),
        ("Allow", ALLOW),
        *identity.fields,
        *callee.extensions(bool(offer) or supports(request, OPTION)),
    ]
    passed_on = calls.passed_on
    fields += [field for field in request.headers.items() if field[0].lower() in passed_on]
    if offer:
        fields.append(("Content-Type", "application/sdp"))
    return Request("INVITE", str(target), Headers.of_canonical(fields), offer)
