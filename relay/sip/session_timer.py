"""Session timers (RFC 4028): the header fields, and what two sides agree on."""

from __future__ import annotations

from typing import NamedTuple

from relay.errors import MalformedMessage
from relay.sip.headers import parse_number, parse_params
from relay.sip.message import Message, Request
from relay.sip.options import supports
from relay.sip.uri import param_of

SMALLEST_S = 90  # RFC 4028 section 4: no Min-SE means this
MOST_S = 2**31 - 1


class SessionExpires(NamedTuple):
    """A Session-Expires value; `refresher` is "uac", "uas" or "" when nobody is named."""

    interval_s: int
    refresher: str = ""

    @staticmethod
    def parse(text: str) -> SessionExpires:
        """Raises MalformedMessage."""
        seconds, semicolon, rest = text.partition(";")
        interval_s = parse_number(seconds.strip(), MOST_S, "Session-Expires")
        refresher = param_of(parse_params(semicolon + rest), "refresher") if rest else None
        refresher = (refresher or "").lower()
        if refresher not in ("", "uac", "uas"):
            raise MalformedMessage("the refresher of Session-Expires is not uac or uas")
        return SessionExpires(interval_s, refresher)

    def __str__(self) -> str:
        named = f";refresher={self.refresher}" if self.refresher else ""
        return f"{self.interval_s}{named}"


def session_expires(message: Message) -> SessionExpires | None:
    """What a message says; None when it says nothing or nothing usable."""
    raw = message.headers.get("Session-Expires")
    if raw is None:
        return None
    try:
        return SessionExpires.parse(raw)
    except MalformedMessage:
        return None


def min_se(message: Message) -> int:
    """The smallest interval that a peer takes, in seconds."""
    raw = (message.headers.get("Min-SE") or "").partition(";")[0].strip()
    try:
        return max(SMALLEST_S, parse_number(raw, MOST_S, "Min-SE"))
    except MalformedMessage:
        return SMALLEST_S


def is_too_short(request: Request, least_s: int) -> bool:
    """Whether the answer is 422 (section 9): only to who can make more of it."""
    asked = session_expires(request)
    return asked is not None and asked.interval_s < least_s and supports(request, "timer")


def agree(request: Request, wanted_s: int, least_s: int) -> SessionExpires | None:
    """What the 2xx to `request` says (section 9, table 2); None for no timer.

    `wanted_s` 0 asks for none and takes what is asked of us. Where the choice is ours the
    peer refreshes; one that knows no timers is refreshed by us, when a proxy asks for it.
    """
    asked = session_expires(request)
    known = supports(request, "timer")
    if asked is None and not (known and wanted_s):
        return None
    lowest = max(min_se(request), least_s)
    if asked is None:
        interval_s = max(wanted_s, lowest)
    else:
        shorter = min(asked.interval_s, wanted_s) if wanted_s else asked.interval_s
        interval_s = min(asked.interval_s, max(shorter, lowest))  # never longer than asked
        if not known:
            interval_s = asked.interval_s
    refresher = (asked.refresher if asked is not None else "") or "uac"
    return SessionExpires(interval_s, refresher if known else "uas")
