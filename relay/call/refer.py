"""What a REFER asks for: whether it may, whom it means, and who is told to call (RFC 3515)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

from relay.call.devices import find
from relay.call.setup import DIALLED, over_tls
from relay.call.transitions import State
from relay.errors import MalformedMessage, Refused
from relay.sip.fields import Headers
from relay.sip.headers import NameAddr
from relay.sip.message import Request
from relay.sip.uri import OtherUri, SipUri

if TYPE_CHECKING:
    from relay.call.call import Call
    from relay.call.hunt import Target
    from relay.call.leg import Leg
    from relay.call.numbers import NumberingPlan

MOST_TRANSFERS = 5  # of one call: two PBXs that refer to each other would never end
# What is carried over from the transferee's own call to the target.
_IDENTITIES = frozenset(
    ("From", "P-Asserted-Identity", "Remote-Party-ID", "Privacy", "Diversion", "History-Info")
)


def check(call: Call) -> None:
    """Whether this call can be transferred now. Raises Refused."""
    if call.ended:
        raise Refused(481, "the call is over")
    if call.calls.stopping:
        raise Refused(503, "the relay is shutting down")
    if call.transferring:
        raise Refused(491, "another transfer of this call is under way")
    if (
        call.state is not State.UP
        or call.exchange is not None
        or any(leg.waits_for_ack for leg in call.legs)
    ):
        raise Refused(491, "another request of this call is under way")
    if sum(transfer.leg.dialog is not None for transfer in call.transfers) >= MOST_TRANSFERS:
        raise Refused(403, f"this call has been transferred {MOST_TRANSFERS} times")


def find_target(leg: Leg, refer: Request, now: float) -> tuple[str, Sequence[Target], bool]:
    """The peer that Refer-To leads to, and its addresses, as for a call of the transferor's;
    and whether that must be TLS to its end.

    Raises Refused. Whatever host is named, only our routes decide: nothing else is called.
    """
    calls = leg.call.calls
    trunk = calls.router.peer(leg.trunk)
    if trunk.transfer == "disable-all":
        raise Refused(403, "transfers are disabled on this trunk")
    _check_token(leg, now)
    uri = _refer_to(refer)
    user = _user(uri) if isinstance(uri, SipUri) else uri.rest
    number = unquote(user)
    if DIALLED.fullmatch(number) is None:
        raise Refused(404, "no route to this number")
    try:
        is_number = calls.router.plan(trunk.name).called(number).startswith("+")
        if trunk.transfer == "sip-only" and (is_number or not isinstance(uri, SipUri)):
            raise Refused(403, "this trunk may transfer to SIP addresses only, not to numbers")
        instance = uri.param("gr") if isinstance(uri, SipUri) else None
        to, targets = find(calls, trunk, number, instance or "", now)
    except Refused as refused:
        if refused.status == 404 and isinstance(uri, SipUri) and not _is_ours(uri, leg):
            text = "the address in Refer-To is not reached from here: only numbers with a route are"
            raise Refused(403, text) from None
        raise
    if uri.scheme == "sips":
        targets = over_tls(targets)
    return to, targets, uri.scheme == "sips"


def _check_token(leg: Leg, now: float) -> None:
    """A voice client's transfer is a call that it makes: its token, by now perhaps a newer one,
    has to allow that. Raises Refused."""
    if leg.client is not None and leg.reuse is not None:
        client = leg.call.calls.clients.at(leg.reuse, now)
        if client is None:
            raise Refused(403, "the access token has expired: REGISTER with a new one")
        if not client.may_call_out:
            raise Refused(403, "this access token does not allow calls (out)")


def _refer_to(refer: Request) -> SipUri | OtherUri:
    values = refer.headers.all("Refer-To")
    if len(values) != 1:
        raise Refused(400, "a REFER needs one Refer-To")
    try:
        uri = NameAddr.parse(values[0]).uri
    except MalformedMessage:
        raise Refused(400, "Refer-To cannot be read") from None
    if uri.scheme not in ("sip", "sips", "tel"):
        raise Refused(416, "a call can be transferred to a sip:, sips: or tel: address")
    return uri


def _user(uri: SipUri) -> str:
    asked = [item.partition("=")[0].lower() for item in uri.headers.split("&")]
    if "replaces" in asked:
        raise Refused(501, "attended transfer (Replaces) is not served, blind transfer is")
    method = uri.param("method")
    if method is not None and method.upper() != "INVITE":
        raise Refused(501, "a REFER can ask for an INVITE only")
    if not uri.user:
        raise Refused(404, "the address in Refer-To has no number")
    return uri.user


def _is_ours(uri: SipUri, leg: Leg) -> bool:
    ours = NameAddr.parse(leg.contact).uri
    return isinstance(ours, SipUri) and ours.host.lower() == uri.host.lower()


def invitation(transferee: Leg, transferor: Leg, refer: Request) -> Request:
    """What the target's INVITE is written from: who the transferee is, and what REFER adds."""
    call = transferee.call
    calls = call.calls
    if transferee is call.caller:
        items = call.caller.invite.request.headers.items()
        fields = [field for field in items if field[0] in _IDENTITIES]
    else:
        assert transferee.dialog is not None
        fields = [("From", str(transferee.dialog.remote))]
    if (referrer := refer.headers.get("Referred-By")) is not None:
        if (client := transferor.client) is not None:  # who it is, not who it says that it is
            number = client.caller_number or client.identity
            referrer = f"<{SipUri('sip', number, None, 'client.invalid')}>"
        fields.append(("Referred-By", _by_plan(referrer, calls.router.plan(transferor.trunk))))
    items = refer.headers.items()
    fields += [field for field in items if field[0].lower() in calls.passed_on]
    return Request("INVITE", "", Headers.of_canonical(fields))


def _by_plan(identity: str, plan: NumberingPlan) -> str:
    """An identity with its number as the plan writes it; one that cannot be read as it is."""
    try:
        found = NameAddr.parse(identity)
    except MalformedMessage:
        return identity
    if not isinstance(found.uri, SipUri) or not found.uri.user:
        return identity
    return str(NameAddr(found.display, found.uri.replace(user=plan.calling(found.uri.user))))
