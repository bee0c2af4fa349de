"""Topology hiding: what a peer wrote in its own words crosses without its addresses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.sip.message import Request

_QUAD = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_IPV6 = r"\[?[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}\]?"
_NAME = r"(?:[A-Za-z0-9_-]+\.)+[A-Za-z]{2,}"
ADDRESS = re.compile(rf"(?:sips?:\S*|\S*@\S*|{_QUAD}|{_IPV6}|{_NAME})(?::[0-9]+)?")
_REASON = re.compile(r"\s*([A-Za-z0-9.-]{1,32})\s*;(?:.*;)?\s*cause\s*=\s*([0-9]{1,5})\b")
_WARNING = re.compile(r"\s*([0-9]{3})\s+\S+\s")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SECONDS = re.compile(r"\s*([0-9]{1,9})")


# More is no text for people, and the patterns take its square.
LONGEST = 256


def without_addresses(text: str) -> str:
    """Host names, addresses and URIs become an ellipsis; what is very long is cut."""
    return ADDRESS.sub("...", text[:LONGEST])


def header(name: str, value: str) -> str:
    """A Reason (RFC 3326), Warning or Retry-After as the other leg may have it.

    "" when there is nothing that could be told.
    """
    value = value[: 2 * LONGEST]
    if name == "Retry-After":
        seconds = _SECONDS.match(value)
        return seconds[1] if seconds else ""
    if name == "Warning":  # its agent is the peer's host
        warning = _WARNING.match(value)
        return f'{warning[1]} relay "{_text(value)}"' if warning else ""
    reason = _REASON.match(value)
    if reason is None:
        return ""
    text = _text(value)
    return f"{reason[1]};cause={reason[2]}" + (f';text="{text}"' if text else "")


def reasons(request: Request) -> str:
    """Why a BYE or CANCEL comes, as the other leg may have it; "" when it does not say."""
    return ", ".join(filter(None, (header("Reason", v) for v in request.headers.all("Reason"))))


def _text(value: str) -> str:
    quoted = _TEXT.search(value)
    return without_addresses(quoted[1]) if quoted else ""
