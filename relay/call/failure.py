"""What a failed attempt means: for good or not, and what the caller hears of it."""

from __future__ import annotations

from relay.call.events import Rejected
from relay.call.hiding import header, without_addresses
from relay.errors import MalformedMessage
from relay.sip.message import Response
from relay.sip.reasons import REASONS
from relay.sip.uri import SipUri

# The callee's own word: another address would say the same. 401 and 407 are here because
# the peer is alive and asks for what we have not.
FINAL = frozenset({400, 401, 404, 405, 407, 410, 416, 422, 482, 484, 486})
REDIRECTS = frozenset({300, 301, 302})
# RFC 3261 section 16.7, step 6: these tell a caller how to do better.
INFORMATIVE = frozenset({415, 420, 484})
UNHEARD = {408: "did not answer", 502: "answered with a Contact that cannot be used"}
# What a failure may tell the caller besides status and reason.
PASSED_ON_FAILURE = ("Retry-After", "Reason", "Warning")
# A challenge of the callee's side cannot be met by the caller.
MAPPED = {401: 502, 407: 502, 420: 502, 421: 502, 422: 502}


def is_final(status: int) -> bool:
    """Nobody else needs to be tried."""
    return status in FINAL or status >= 600


def ours(status: int, text: str) -> Rejected:
    """A failure that we found ourselves; the text is the caller's Warning."""
    return Rejected(status, REASONS.get(status, ""), (), text)


def rank(failure: Rejected) -> tuple[int, int]:
    """Lower is better: what a peer said before what we found, the lowest class first."""
    if failure.status >= 600:
        return 0, 0
    if failure.text:
        return 9, failure.status
    return failure.status // 100, 0 if failure.status in INFORMATIVE else 1


def told(status: int, response: Response) -> Rejected:
    """What the caller hears of the peer's failure."""
    mapped = 480 if 300 <= status < 400 else MAPPED.get(status)
    if mapped is not None:
        return Rejected(mapped, REASONS[mapped])
    headers = tuple(
        (name, shown)
        for name in PASSED_ON_FAILURE
        for value in response.headers.all(name)
        if (shown := header(name, value))
    )
    reason = without_addresses(response.reason) or REASONS.get(status, "")
    return Rejected(status, reason, headers)


def redirect(response: Response, user: str | None) -> SipUri | None:
    """Where a redirect's first Contact leads (RFC 3261 section 8.1.3.4), to `user` when it
    names none; None when that is no SIP address."""
    try:
        contact = response.contact
    except MalformedMessage:
        return None
    uri = contact.uri if contact is not None else None
    if not isinstance(uri, SipUri):
        return None
    transport = tuple(pair for pair in uri.params if pair[0].lower() == "transport")
    return SipUri(uri.scheme, uri.user or user, None, uri.host, uri.port, transport)
