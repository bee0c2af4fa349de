"""The transparency report of a quarter: counts only, as one document.

It is published, so no customer and no person is in it: nothing is told by account or number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from relay.residency.pseudonym import minutes_of
from relay.residency.record import ERASED, CallRecord

KIND = "relay-transparency-report"
_QUARTER = re.compile(r"(\d{4})-?[Qq]([1-4])")

# What the audit log's actions are counted as, in the order of the page.
Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Quarter:
    """A quarter of a year, in UTC: `since` is in it, `until` is not; `months` as "2026-10"."""

    name: str
    since: datetime
    until: datetime
    months: tuple[str, str, str]

    @staticmethod
    def parse(text: str) -> Quarter:
        """Of "2026Q4". Raises ValueError."""
        match = _QUARTER.fullmatch(text)
        if match is None or match[1] in ("0000", "9999"):
            raise ValueError(f"{text!r} is not a quarter such as 2026Q4")
        year, number = int(match[1]), int(match[2])
        first = 3 * number - 2
        until = (year + 1, 1) if number == 4 else (year, first + 3)
        return Quarter(
            f"{year:04}Q{number}",
            datetime(year, first, 1, tzinfo=UTC),
            datetime(*until, 1, tzinfo=UTC),
            tuple(f"{year:04}-{month:02}" for month in range(first, first + 3)),  # type: ignore[arg-type]
        )

    def holds(self, at: datetime) -> bool:
        return self.since <= at < self.until


@dataclass(frozen=True, slots=True)
class Place:
    """Something of the region's, where it is ("recordings", "s3://…"), and how that lies: on the
    node, inside, outside …"""

    what: str
    where: str
    lies: str


@dataclass(frozen=True, slots=True)
class Region:
    """Whose report it is; `manifest` says "signed" or "unsigned", `policy` is its digest."""

    id: str
    jurisdiction: str
    entity: str
    policy: str
    manifest: str
    enforced: bool
    places: tuple[Place, ...]
    keys: tuple[tuple[str, str], ...]  # (id, "active" | "retired" …)


@dataclass(slots=True)
class Tally:
    """What the records of a quarter come to, by month; `add` takes them one by one."""

    quarter: Quarter
    calls: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    minutes: Counter[str] = field(default_factory=Counter)
    recordings: Counter[str] = field(default_factory=Counter)
    incomplete: Counter[str] = field(default_factory=Counter)
    erased: Counter[str] = field(default_factory=Counter)
    recorded_octets: int = 0
    recorded_s: float = 0.0
    addresses_inside: int = 0
    addresses_outside: int = 0
    outside_used: int = 0

    def add(self, record: CallRecord) -> None:
        """A call counts in the month that it began in."""
        if not self.quarter.holds(record.started):
            return
        month = f"{record.started.astimezone(UTC):%Y-%m}"
        self.calls[month] += 1
        self.answered[month] += record.answered is not None
        self.minutes[month] += minutes_of(record)
        for leg in record.legs:
            for seen in leg.seen:
                self.addresses_inside += seen.inside
                self.addresses_outside += not seen.inside
                self.outside_used += seen.allowed and not seen.inside
        if (recording := record.recording) is not None:
            self.recordings[month] += 1
            self.recorded_octets += recording.octets
            self.recorded_s += recording.duration_s
            if recording.problem == ERASED:
                self.erased[month] += 1
            elif not recording.complete:
                self.incomplete[month] += 1


def document(tally: Tally, region: Region, actions: Counts, made: datetime) -> dict[str, Any]:
    """The report as JSON; `actions` counts the audit log's entries, by action and month."""
    return {
        "kind": KIND,
        "version": 1,
        "quarter": tally.quarter.name,
        "months": list(tally.quarter.months),
        "made": made.isoformat(timespec="seconds"),
        "region": {
            "id": region.id,
            "jurisdiction": region.jurisdiction,
            "entity": region.entity,
            "policy": region.policy,
            "manifest": region.manifest,
            "enforced": region.enforced,
        },
        **_of_calls(tally),
        **_of_people(tally.quarter, actions),
        "boundary": {
            "refused": _acted(tally.quarter, actions, "boundary-refused"),
            "would_refuse": _acted(tally.quarter, actions, "boundary-would-refuse"),
            "addresses_inside": tally.addresses_inside,
            "addresses_outside": tally.addresses_outside,
            "outside_used": tally.outside_used,
        },
        "places": [
            {"what": place.what, "where": place.where, "lies": place.lies}
            for place in region.places
        ],
        "keys": [{"id": key, "state": state} for key, state in region.keys],
    }


def _of_calls(tally: Tally) -> dict[str, Any]:
    """What the records say."""
    quarter = tally.quarter
    return {
        "calls": {
            "all": _by_month(quarter, tally.calls),
            "answered": _by_month(quarter, tally.answered),
            "minutes": _by_month(quarter, tally.minutes),
        },
        "recordings": {
            "made": _by_month(quarter, tally.recordings),
            "incomplete": _by_month(quarter, tally.incomplete),
            "erased_since": _by_month(quarter, tally.erased),
            "octets": tally.recorded_octets,
            "hours": round(tally.recorded_s / 3600, 2),
        },
    }


def _of_people(quarter: Quarter, actions: Counts) -> dict[str, dict[str, dict[str, int]]]:
    """What was done, as the audit log has it."""
    counted = {
        "grants": {
            "requested": "grant-requested",
            "approved": "grant-approved",
            "revoked": "grant-revoked",
            "used": "grant-used",
        },
        "erasures": {
            "requested": "erasure-done",
            "calls_redacted": "erasure-done:calls",
            "recordings_removed": "erasure-done:recordings",
            "expired": "retention-done:calls",
            "holds_set": "hold-set",
            "holds_released": "hold-released",
        },
        "exports": {"made": "export-made", "rows": "export-made:calls"},
    }
    return {
        part: {name: _acted(quarter, actions, action) for name, action in names.items()}
        for part, names in counted.items()
    }


def _acted(quarter: Quarter, actions: Counts, action: str) -> dict[str, int]:
    return _by_month(quarter, actions.get(action, {}))


def _by_month(quarter: Quarter, counts: Mapping[str, int]) -> dict[str, int]:
    return {month: counts.get(month, 0) for month in quarter.months}
