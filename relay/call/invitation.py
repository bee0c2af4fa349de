"""The caller's INVITE as the callee gets it: our own words, and what the lists let cross."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call.branches import Branches
from relay.call.callee import CalleeLeg
from relay.call.end import Party
from relay.call.identity import Identity, proved
from relay.call.negotiation import Negotiation
from relay.call.ports import Side
from relay.call.refusal import ALLOW
from relay.errors import NotAcceptable
from relay.sip.fields import Headers
from relay.sip.headers import NameAddr
from relay.sip.message import Request
from relay.sip.options import supports
from relay.sip.reliable import OPTION
from relay.sip.transaction import Hop
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.call.call import Call
    from relay.call.leg import Leg
    from relay.config import Account, Trunk

MAX_FORWARDS = 70
SECURE = ("tls", "wss")


def is_sips(request: Request) -> bool:
    """Whether TLS to its end was asked for (RFC 5630)."""
    return request.uri[:5].lower() == "sips:"


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
            self._call.trail.allows_media,
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
