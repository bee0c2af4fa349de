"""Erasing what is kept of a call: what goes, what a legal hold keeps, and the certificate of it.

An erasure takes all that is personal of a call, both its parties', and the recording: their voices
are in it together. What is left counts calls and names nobody. Nothing is opened to decide it: a
person is found by the blind index of a number or an identity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from relay.residency.record import RecordingRecord
from relay.residency.signing import Signer, is_signed_by, signed

CERTIFICATE = "relay-erasure-certificate"
NOT_COVERED = [
    "copies that were made outside the relay: backups, downloads, versions that a bucket keeps",
    "records of these calls that a node has not delivered yet: they are redacted when they come",
]
Scope = Literal["account", "person", "call"]


@dataclass(frozen=True, slots=True)
class Kept:
    """Of a call that is kept, what decides whether it stays. `peers` are the trunks and accounts
    of its legs, `parties` the blind indexes of its numbers and identities."""

    id: str
    started: datetime
    ended: datetime | None
    peers: frozenset[str]
    parties: frozenset[str]
    recording: RecordingRecord | None = None

    @property
    def audio(self) -> RecordingRecord | None:
        """The recording, unless it is erased already."""
        had = self.recording
        return had if had is not None and not had.erased else None


@dataclass(frozen=True, slots=True)
class Person:
    """A data subject: a number, or an identity in the calls of its `account`."""

    value: str
    account: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: what is in it is neither erased nor does it expire, until it is released.

    `scope` says what `subjects` are: the name of an "account" or a trunk, the blind indexes of a
    "person" (one for each key that there ever was) or the id of a "call".
    """

    id: str
    scope: Scope
    subjects: tuple[str, ...]
    reason: str
    since: datetime
    by: str
    released: datetime | None = None
    released_by: str = ""


class Holds:
    """Those that are in force."""

    __slots__ = ("_by_subject",)

    def __init__(self, holds: Iterable[Hold]) -> None:
        self._by_subject = {
            (hold.scope, subject): hold
            for hold in holds
            if hold.released is None
            for subject in hold.subjects
        }

    def on(self, call: Kept) -> Hold | None:
        """The hold that a call is under."""
        if not self._by_subject:
            return None
        subjects: list[tuple[Scope, str]] = [("call", call.id)]
        subjects += [("account", peer) for peer in sorted(call.peers)]
        subjects += [("person", party) for party in sorted(call.parties)]
        found = (self._by_subject.get(subject) for subject in subjects)
        return next((hold for hold in found if hold is not None), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which calls are erased, and which stay, each for the hold that it is under."""

    erased: tuple[Kept, ...] = ()
    held: tuple[tuple[Kept, Hold], ...] = ()

    @property
    def recordings(self) -> tuple[RecordingRecord, ...]:
        """The recordings that go."""
        return tuple(call.audio for call in self.erased if call.audio is not None)


def plan(calls: Iterable[Kept], holds: Holds) -> Plan:
    """What an erasure of these calls does."""
    erased: list[Kept] = []
    held: list[tuple[Kept, Hold]] = []
    for call in calls:
        if (hold := holds.on(call)) is not None:
            held.append((call, hold))
        else:
            erased.append(call)
    return Plan(tuple(erased), tuple(held))


def cutoffs(days: Mapping[str, float], now: datetime) -> dict[str, datetime]:
    """Of each trunk and account with a retention, when a call must have ended to be erased: so of
    two peers' times the shorter one counts."""
    return {peer: now - timedelta(days=kept) for peer, kept in days.items()}


@dataclass(frozen=True, slots=True)
class Request:
    """An erasure as it was asked for. `reference` is the operator's own name of it, such as a
    ticket; it names nobody."""

    id: str
    region: str
    entity: str
    made: datetime
    by: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Removal:
    """A recording that an erasure removes: its id, its name in the store, the digest of its
    encrypted octets; when it was removed, None as long as it is there; and the node that made it,
    in whose spool it may be."""

    recording: str
    object: str
    sha256: str
    octets: int
    removed: datetime | None = None
    node: str = ""


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure has done so far: the ids of its calls, and its recordings. Of the calls that
    are `open` more is to come: they last, or their recordings are not closed."""

    request: Request
    calls: Collection[str]
    removals: Collection[Removal]
    open: Collection[str]


def certificate(
    erased: Erased, held: Iterable[tuple[Kept, Hold]], others_pending: int, signer: Signer
) -> dict[str, Any]:
    """The signed certificate: what was erased, how much, and what was not and why. No number is in
    it: calls and recordings are told by their ids and digests.

    `others_pending` are recordings that other erasures have not removed yet: whose voices are in
    them is not known any more, so it may be this person's.
    """
    request, removals = erased.request, erased.removals
    kept = [{"call": call.id, "hold": hold.id} for call, hold in held]
    removed = all(removal.removed for removal in removals) and not others_pending
    document = {
        "kind": CERTIFICATE,
        "version": 1,
        "id": request.id,
        "region": request.region,
        "entity": request.entity,
        "made": request.made.isoformat(timespec="seconds"),
        "by": request.by,
        "reference": request.reference,
        "complete": removed and not kept and not erased.open,
        "calls_redacted": sorted(erased.calls),
        "calls_open": sorted(erased.open),
        "recordings": [
            _removed(removal) for removal in sorted(removals, key=lambda each: each.recording)
        ],
        "other_erasures_pending": others_pending,
        "held": sorted(kept, key=lambda each: each["call"]),
        "not_covered": NOT_COVERED,
    }
    return signed(document, signer)


def problem_of(document: Any, keys: Mapping[str, Ed25519PublicKey]) -> str:
    """What is wrong with a certificate that somebody shows, or ""."""
    if not isinstance(document, dict) or document.get("kind") != CERTIFICATE:
        return "it is no certificate of erasure"
    if not is_signed_by(document, keys):
        return "its signature does not fit: it was changed, or another key signed it"
    return ""


def _removed(removal: Removal) -> dict[str, Any]:
    at = removal.removed
    state = "removed" if at else "pending"
    return {
        "id": removal.recording,
        "sha256": removal.sha256,
        "octets": removal.octets,
        "audio": state,
        "data_key": state,  # it is in the ledger only, wrapped
        "removed": at and at.isoformat(timespec="seconds"),
        "node": removal.node,
    }
