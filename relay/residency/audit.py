"""The audit log: who did what to what, in a chain that no one can change unseen.

An entry is one line of JSON in its canonical form. It bears its number and the SHA-256 of the
line before it, so that changing, leaving out or moving one changes all that follow. A checkpoint
is an entry that is signed: what lies before it can then be changed by nobody who lacks the key.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from relay.residency.signing import Signer, canonical, signed

OPENED = "audit-opened"
CHECKPOINT = "checkpoint"
SEAL = "seal"
NO_ENTRY = "0" * 64
MOST_TEXT = 300  # characters of one value

_NUMBER = re.compile(r"\+\d(?:[-.() ]?\d){4,17}|\b(?:sips?|tel):[^\s<>;\"',]+", re.IGNORECASE)
_ADDRESS = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*)(?![\w/])"
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. `kind`: "staff" (a token), "host" (a command on the node), "relay" (by itself)."""

    kind: str
    name: str
    jurisdiction: str = ""
    grant: str = ""


RELAY = Actor("relay", "relay")


class AuditLog(Protocol):
    """Where entries go. No number, name, address or audio is ever in one: subjects are ids of
    records, or pseudonyms."""

    def note(self, action: str, actor: Actor, subject: str = "", **details: str | int) -> None:
        """Add an entry soon; never blocks, never raises. Equal ones may become one, with how
        many `times`."""

    async def record(
        self, action: str, actor: Actor, subject: str = "", **details: str | int
    ) -> int:
        """Add an entry; its number, when it is on the disk. Raises AuditUnavailable: what was to
        be done must not be done then."""

    def enter(self, action: str, actor: Actor, subject: str = "", **details: str | int) -> int:
        """The same for a command, which may block."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that has no place in the log yet."""

    action: str
    actor: Actor = RELAY
    subject: str = ""
    details: Mapping[str, str | int] = field(default_factory=dict)

    def entry(self, number: int, at: datetime, previous: str) -> dict[str, Any]:
        """The entry at this place: `previous` is the digest of the line before."""
        who = self.actor
        actor = {"kind": who.kind, "name": who.name}
        actor |= {"jurisdiction": who.jurisdiction} if who.jurisdiction else {}
        actor |= {"grant": who.grant} if who.grant else {}
        entry = {
            "action": self.action,
            "actor": actor,
            "at": instant(at),
            "n": number,
            "previous": previous,
        }
        if self.subject:
            entry["subject"] = without_personal(self.subject)
        if self.details:
            entry["details"] = {name: _plain(value) for name, value in self.details.items()}
        return entry


def checkpoint(
    number: int, at: datetime, previous: str, log: Mapping[str, str], signer: Signer
) -> dict[str, Any]:
    """A signed entry; `log` says which one it is: `region`, `node` and `chain`."""
    return signed(Draft(CHECKPOINT, details=log).entry(number, at, previous), signer)


def seal(
    first: int, last: int, digest: str, at: datetime, log: Mapping[str, str], signer: Signer
) -> dict[str, Any]:
    """The last line of an export: without it, the end has been cut off. `digest` is of the
    line of entry `last`."""
    document = {"action": SEAL, "at": instant(at), "first": first, "last": last, "head": digest}
    return signed({**document, **log}, signer)


def line_of(entry: Mapping[str, Any]) -> bytes:
    """The line of an entry, without its end."""
    return canonical(entry)


def digest_of(line: bytes) -> str:
    """What the next entry names as `previous`; of entry 1 it is the name of the chain."""
    return hashlib.sha256(line).hexdigest()


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def network_of(host: str) -> str:
    """An address as an entry may have it: its /24 or /48. Anything else as it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    prefix = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network((address, prefix), strict=False))


def without_personal(text: str) -> str:
    """Numbers with a plus and SIP addresses left out, addresses cut to their network: what
    should not have been passed does not get in, and no control character that would act on the
    terminal of who reads it."""
    text = _NUMBER.sub("(number)", text[:MOST_TEXT])
    if not text.isprintable():
        text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return _ADDRESS.sub(lambda match: network_of(match[0]), text)


def _plain(value: str | int) -> str | int:
    return value if isinstance(value, int) else without_personal(str(value))
