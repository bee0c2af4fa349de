"""What access is built on, in memory: call records, recordings, grants and the audit log."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from relay.access.grant import Grant
from relay.access.granting import Granting
from relay.access.ports import Counts, Format, Query
from relay.access.reading import Reading
from relay.access.roles import Policy
from relay.errors import AuditUnavailable, NotKept
from relay.residency.audit import Actor
from relay.residency.record import CallRecord
from tests.unit.access_samples import POLICY


@dataclass
class Entry:
    action: str
    actor: Actor
    subject: str
    details: dict[str, str | int]


@dataclass
class FakeAudit:
    entries: list[Entry] = field(default_factory=list)
    notes: list[Entry] = field(default_factory=list)
    away: bool = False

    def note(self, action: str, actor: Actor, subject: str = "", **details: str | int) -> None:
        self.notes.append(Entry(action, actor, subject, details))

    async def record(
        self, action: str, actor: Actor, subject: str = "", **details: str | int
    ) -> int:
        return self.enter(action, actor, subject, **details)

    def enter(self, action: str, actor: Actor, subject: str = "", **details: str | int) -> int:
        if self.away:
            raise AuditUnavailable("no space left on device")
        self.entries.append(Entry(action, actor, subject, details))
        return len(self.entries)

    async def export(self, first: int = 1) -> AsyncIterator[bytes]:
        for entry in self.entries[first - 1 :]:
            yield entry.action.encode()

    async def lines(self, first: int = 1) -> AsyncIterator[bytes]:
        for entry in self.entries[first - 1 :]:
            said = {"action": entry.action, "subject": entry.subject}
            yield json.dumps(said, separators=(",", ":")).encode()


@dataclass
class FakeRecords:
    """`asked` is every query that came through."""

    calls: dict[str, CallRecord] = field(default_factory=dict)
    asked: list[Query] = field(default_factory=list)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def get(self, call_id: str) -> CallRecord | None:
        return self.calls.get(call_id)

    async def of_recording(self, recording_id: str) -> CallRecord | None:
        found = (c for c in self.calls.values() if c.recording and c.recording.id == recording_id)
        return next(found, None)

    async def find(self, query: Query) -> list[CallRecord]:
        self.asked.append(query)
        found = sorted(self.calls.values(), key=lambda call: (call.started, call.id), reverse=True)
        return [
            call
            for call in found
            if (query.number is None or query.number in (call.caller, call.called))
            and (query.peer is None or any(leg.peer == query.peer for leg in call.legs))
            and (query.since is None or call.started >= query.since)
            and (query.until is None or call.started < query.until)
            and (query.before is None or (call.started, call.id) < query.before)
        ][: query.limit]

    async def count(self, query: Query) -> Counts:
        return Counts(len(await self.find(query)))

    async def receipt(self, call_id: str) -> dict[str, Any] | None:
        return self.receipts.get(call_id)


@dataclass
class FakePlayback:
    octets: bytes
    media_type: str = "audio/wav"

    @property
    def size(self) -> int:
        return len(self.octets)

    async def read(self, start: int, end: int) -> bytes:
        return self.octets[start:end]


@dataclass
class FakeRecordings:
    """By the recording's id; `opened` is what was asked for."""

    audio: dict[str, bytes] = field(default_factory=dict)
    opened: list[tuple[str, Format, bool | None]] = field(default_factory=list)

    async def open(
        self, recording_id: str, form: Format = "wav", trim_silence: bool | None = None
    ) -> FakePlayback:
        self.opened.append((recording_id, form, trim_silence))
        if recording_id not in self.audio:
            raise NotKept("there is no such recording")
        return FakePlayback(self.audio[recording_id])


@dataclass
class FakeGrants:
    kept: dict[str, Grant] = field(default_factory=dict)

    async def add(self, grant: Grant) -> None:
        self.kept[grant.id] = grant

    async def find(self, grant_id: str) -> Grant | None:
        return self.kept.get(grant_id)

    async def of(self, requester: str) -> list[Grant]:
        return [grant for grant in await self.all() if grant.requester == requester]

    async def all(self) -> list[Grant]:
        return sorted(self.kept.values(), key=lambda grant: grant.requested, reverse=True)

    async def change(self, grant_id: str, change: Callable[[Grant], Grant]) -> Grant:
        self.kept[grant_id] = change(self.kept[grant_id])
        return self.kept[grant_id]


class Region:
    """All of it together."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.audit, self.records = FakeAudit(), FakeRecords()
        self.recordings, self.grants = FakeRecordings(), FakeGrants()
        self._numbers = iter(range(1, 1000))
        self.granting = Granting(
            *(policy, self.grants, self.audit, self.audit), lambda: f"g{next(self._numbers)}"
        )
        self.reading = Reading(
            self.granting,
            self.records,
            self.recordings,
            self.audit,
            self.audit,
            lambda recipient, period: f"{recipient} {period}".encode().ljust(32, b"."),
        )

    def keep(self, *calls: CallRecord) -> None:
        for call in calls:
            self.records.calls[call.id] = call
            if call.recording is not None:
                self.recordings.audio[call.recording.id] = bytes(range(256)) * 1024

    def actions(self) -> list[tuple[str, str]]:
        """What the audit log has: the action, and the grant that it names."""
        return [(entry.action, entry.actor.grant) for entry in self.audit.entries]


def clock(now: datetime) -> Callable[[], datetime]:
    return lambda: now
