"""Refusals in SIP: status, the text a PBX engineer reads, and when to try again."""

from __future__ import annotations

from relay.errors import (
    IntervalTooBrief,
    IntervalTooSmall,
    MalformedSdp,
    NoMediaPorts,
    Refused,
    RelayError,
)
from relay.sip.message import Request, Response

ALLOWED = (
    *("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS"),
    *("UPDATE", "INFO", "REFER", "NOTIFY", "PRACK"),
)
ALLOW = ", ".join(ALLOWED)
# Methods that exist but that this relay does not serve: 405, not 501 (RFC 3261 section 8.2.1).
KNOWN = frozenset({*ALLOWED, "REGISTER", "SUBSCRIBE", "MESSAGE", "PUBLISH"})
RETRY_AFTER_S = 5


def status_of(error: RelayError) -> int:
    """What a failure is answered with."""
    return error.status if isinstance(error, Refused) else error.status_hint


def refusal(request: Request, error: RelayError, to_tag: str) -> Response:
    """The final response that tells `error` to the peer (Warning: RFC 3261 section 20.43)."""
    if isinstance(error, Refused):
        return refuse(request, error.status, to_tag, error.text, error.retry_after_s)
    retry = RETRY_AFTER_S if isinstance(error, NoMediaPorts) else None
    status = 488 if isinstance(error, MalformedSdp) and not request.body else error.status_hint
    response = refuse(request, status, to_tag, str(error), retry)
    if isinstance(error, IntervalTooSmall):
        response.headers.add("Min-SE", str(error.least_s))
    elif isinstance(error, IntervalTooBrief):
        response.headers.add("Min-Expires", str(error.least_s))
    return response


def refuse(
    request: Request,
    status: int,
    to_tag: str,
    text: str = "",
    retry_after_s: int | None = None,
) -> Response:
    """A final response with the text in Warning and, for limits, in Reason (RFC 3326)."""
    response = request.response(status, to_tag=to_tag)
    headers = response.headers
    if text:
        quoted = text.replace("\\", "").replace('"', "'")
        headers.add("Warning", f'399 relay "{quoted}"')
        if status == 503:
            headers.add("Reason", f'SIP;cause=503;text="{quoted}"')
    if retry_after_s is not None:
        headers.add("Retry-After", str(retry_after_s))
    if status in (405, 501):
        headers.add("Allow", ALLOW)
    if status == 420:
        for option in request.headers.all("Require"):
            if option.lower() not in ("timer", "norefersub"):
                headers.add("Unsupported", option)
    if status == 415:
        headers.add("Accept", "application/sdp")
    return response


def unserved(method: str) -> int:
    """405 for a method that SIP knows, 501 for one that it does not."""
    return 405 if method in KNOWN else 501
