"""Keys in the body of an INFO: the two content types that PBXs use for them."""

from __future__ import annotations

from relay.sip.message import Request

KEYS = frozenset("0123456789*#ABCD")
LONGEST_MS = 60_000


def pressed(request: Request) -> tuple[str, int | None] | None:
    """The key and how long it was pressed, in ms where that is said; None for no key.

    `application/dtmf-relay` has lines `Signal=5` and `Duration=160`; `application/dtmf` has
    the key alone, from some peers the same lines. 10 and 11 stand for * and # (RFC 2833).
    """
    if request.content_type not in ("application/dtmf-relay", "application/dtmf"):
        return None
    text = request.body[:256].decode("ascii", "replace")
    signal, duration = text.strip(), ""
    if "=" in text:
        found = {name.strip().lower(): value.strip() for name, value in _pairs(text)}
        signal, duration = found.get("signal", ""), found.get("duration", "")
    key = {"10": "*", "11": "#"}.get(signal, signal.upper())
    if key not in KEYS:
        return None
    if duration.isascii() and duration.isdigit() and int(duration[:8]) <= LONGEST_MS:
        return key, int(duration[:8])
    return key, None


def _pairs(text: str) -> list[tuple[str, str]]:
    parts = [line.partition("=") for line in text.splitlines()]
    return [(name, value) for name, equals, value in parts if equals]
