"""From a caller's INVITE to the callee's: every check, in order, before a port is opened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

from relay.call.admission import REGION
from relay.call.call import Call
from relay.call.caller import CallerLeg
from relay.call.clients import Client
from relay.call.devices import find
from relay.call.fork import seek
from relay.call.hunt import Target
from relay.call.invitation import SECURE, Invitation, is_sips
from relay.call.ports import Side
from relay.call.record import Notes, refused
from relay.call.refusal import RETRY_AFTER_S, status_of
from relay.call.trail import Trail
from relay.errors import IntervalTooSmall, MalformedMessage, Refused, RelayError
from relay.residency.boundary import Use
from relay.sip.dialog import Dialog
from relay.sip.message import Request
from relay.sip.options import requires
from relay.sip.reliable import OPTION
from relay.sip.session_timer import is_too_short
from relay.sip.transaction import Hop, Transaction
from relay.sip.uri import SipUri, parse_uri, transport_to

if TYPE_CHECKING:
    from relay.call.calls import Calls
    from relay.config import Trunk

OVERLOADED = 503
"""Of calls beyond a limit no record is kept: counters have them, and a flood fills no disk."""

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
    """Start a call, or raise what refuses it; nothing is held in that case but its record."""
    trail = Trail(calls.boundary, calls.token())
    try:
        _set_up(calls, trail, tx, request, source, caller, now)
    except RelayError as error:
        if status_of(error) != OVERLOADED:
            calls.kept.keep(refused(calls, trail, request, source, caller, error))
        raise


def _set_up(
    calls: Calls,
    trail: Trail,
    tx: Transaction,
    request: Request,
    source: Hop,
    caller: Trunk | Client,
    now: float,
) -> None:
    _check(calls, request, source, trail)
    trunk = caller.account if isinstance(caller, Client) else caller
    if trunk.prack == "off" and requires(request, OPTION):
        raise Refused(420, "100rel is off on this trunk")
    number, instance = _dialled(request)
    to, targets = find(calls, trunk, number, instance, now)
    if is_sips(request):
        targets = over_tls(targets)
    trunks = (trunk.name,) if to == trunk.name else (trunk.name, to)
    call = Call(calls, trail.call_id, now, trail)
    call.admitted = (*trunks, REGION)
    calls.admission.admit(call.admitted, now)
    try:
        _open(calls, call, tx, request, source, caller, targets, to, now)
    except Exception:
        if call.id not in calls.active:  # else it gives back when it ends
            calls.admission.release(call.admitted)
        raise


def _check(calls: Calls, request: Request, source: Hop, trail: Trail) -> None:
    if calls.stopping:
        raise Refused(503, "the relay is shutting down", RETRY_AFTER_S)
    if calls.kept.full:
        raise Refused(503, "too many call records wait for the database", RETRY_AFTER_S)
    if calls.is_loop(request):
        raise Refused(482, "this call has come back to where it started")
    if request.contact is None:
        raise Refused(400, "an INVITE needs a Contact")
    if not Dialog.can_reach(request):  # no BYE of ours could ever leave
        raise MalformedMessage("next hop is not a SIP URI")
    trail.admit(Side.CALLER, Use.SIGNALLING, source.host, source.port)
    use = Use.ROUTE if request.record_routes else Use.CONTACT
    if source.transport == "udp" and not trail.may_reach(
        Side.CALLER, use, Dialog.next_hop_of(request)
    ):
        raise Refused(403, "the address in Contact or Record-Route is outside the region")
    if request.body and request.content_type != "application/sdp":
        raise Refused(415, "an INVITE carries application/sdp or nothing")
    if is_too_short(request, calls.min_session_expires_s):
        raise IntervalTooSmall(calls.min_session_expires_s)


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
    call.recording.policy = calls.router.recording(trunk.name, callee_trunk)
    call.recording.check(call.recording.policy)
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
    called = first.client.identity if first.client is not None else first.uri.user or ""
    call.notes = Notes(call.caller.who(request), called, calls.wall_clock())
    calls.active[call.id] = call
    call.ring_until(now + calls.ring_timeout_s)
    calls.journal.event(
        "call_started",
        call.id,
        trunk=trunk.name,
        to=callee_trunk,
        caller_number=client.identity if client is not None else _user(request),
        callee_number=called,
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
