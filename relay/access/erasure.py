"""Erasing what is kept of a call: what goes, what a legal hold keeps, and the certificate of it.

An erasure takes all that is personal of a call, both its parties', and the recording: their voices
are in it together. What is left counts calls and names nobody. Nothing is opened to decide it: a
person is found by the blind index of a number or an identity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from relay.residency.record import RecordingRecord
from relay.residency.signing import Signer, signed

ERASED = "erased"  # the `problem` of a recording that was
CERTIFICATE = "relay-erasure-certificate"
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
        return had if had is not None and had.problem != ERASED else None


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: what is in it is neither erased nor does it expire, until it is released.

    `scope` says what `subject` is: the name of an "account" or a trunk, the blind index of a
    "person" or the id of a "call".
    """

    id: str
    scope: Scope
    subject: str
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
            (hold.scope, hold.subject): hold for hold in holds if hold.released is None
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


def retention(peers: Collection[str], days: Mapping[str, float]) -> float | None:
    """How many days a call between these peers is kept: the shorter time of both, if any."""
    return min((days[peer] for peer in peers if peer in days), default=None)


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


def certificate(
    request: Request, done: Plan, pending: Collection[str], signer: Signer
) -> dict[str, Any]:
    """The signed certificate: what was erased, how much, and what was not and why.

    `pending` are the ids of recordings that the store has not removed yet. No number is in it: a
    recording is told by its id and the digest of its encrypted octets.
    """
    document = {
        "kind": CERTIFICATE,
        "version": 1,
        "id": request.id,
        "region": request.region,
        "entity": request.entity,
        "made": request.made.isoformat(timespec="seconds"),
        "by": request.by,
        "reference": request.reference,
        "complete": not pending and not done.held,
        "calls_redacted": sorted(call.id for call in done.erased),
        "recordings": _removed(done.recordings, pending),
        "held": [
            {"call": call.id, "hold": hold.id}
            for call, hold in sorted(done.held, key=lambda pair: pair[0].id)
        ],
    }
    return signed(document, signer)


def _removed(
    recordings: Sequence[RecordingRecord], pending: Collection[str]
) -> list[dict[str, Any]]:
    return [
        {
            "id": recording.id,
            "sha256": recording.sha256,
            "octets": recording.octets,
            "audio": "pending" if recording.id in pending else "removed",
            "data_key": "pending" if recording.id in pending else "shredded",
        }
        for recording in sorted(recordings, key=lambda recording: recording.id)
    ]
