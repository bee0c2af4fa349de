"""What of a call may be shown outside of the region: keyed pseudonyms, and the rest made coarse.

A pseudonym is HMAC-SHA256 under a key that never leaves the region, one for each recipient and
period (`KeyRing.pseudonym_key`): the same person is the same name for one reader in one period,
two readers cannot join what they see, and numbers cannot be tried out one by one.
"""

from __future__ import annotations

import base64
import hmac
import math
from datetime import datetime
from functools import lru_cache
from typing import Any

import phonenumbers

from relay.residency.record import CallRecord, LegRecord

OCTETS = 10  # 80 bits: 16 characters of base32
UNKNOWN = "ZZ"  # ISO 3166: no country's


class Pseudonyms:
    """Of one recipient and one period; `key` has 32 octets."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise ValueError("a key of pseudonyms has 32 octets")
        self._key = key

    def of(self, kind: str, value: str) -> str:
        """The pseudonym of a value; the same value of another kind has another one. An empty
        value has none."""
        if not value:
            return ""
        octets = hmac.digest(self._key, f"{kind}\0{value}".encode(), "sha256")[:OCTETS]
        return base64.b32encode(octets).decode().lower()


@lru_cache(maxsize=4096)
def country_of(number: str) -> str:
    """The country (ISO 3166) of an E.164 number; `ZZ` for what is none."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return UNKNOWN
    return phonenumbers.region_code_for_number(parsed) or UNKNOWN


def hour_of(moment: datetime) -> str:
    """The hour that it is in."""
    return moment.replace(minute=0, second=0, microsecond=0).isoformat()


def minutes_of(call: CallRecord) -> int:
    """How long it was answered for, in minutes begun."""
    if call.answered is None or call.ended is None:
        return 0
    return math.ceil(max(0.0, (call.ended - call.answered).total_seconds()) / 60)


def pseudonymised(call: CallRecord, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """A call as staff outside sees it. Its id is the relay's own, and random: it says nothing of
    anybody, and is what a grant is asked for by."""
    return {
        "id": call.id,
        "region": call.region,
        "hour": hour_of(call.started),
        "minutes": minutes_of(call),
        "answered": call.answered is not None,
        "status": call.status,
        "ended_by": call.ended_by,
        "caller": pseudonyms.of("number", call.caller),
        "called": pseudonyms.of("number", call.called),
        "caller_country": country_of(call.caller),
        "called_country": country_of(call.called),
        "legs": [_leg(leg, pseudonyms) for leg in call.legs],
        "recorded": call.recording is not None and not call.recording.erased,
    }


def _leg(leg: LegRecord, pseudonyms: Pseudonyms) -> dict[str, Any]:
    return {
        "side": leg.side,
        "peer": leg.peer,
        "kind": leg.kind,
        "identity": pseudonyms.of("identity", leg.identity and f"{leg.peer}/{leg.identity}"),
        "codec": leg.codec,
        "encryption": leg.encryption,
        "status": leg.status,
        "mos": leg.mos if leg.mos is None else round(leg.mos, 1),
        "outside": sum(not seen.inside for seen in leg.seen),
    }
