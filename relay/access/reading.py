"""The one way to what is kept of persons: call records, recordings, receipts, the audit log.

Each read is checked by role, jurisdiction and grant, and is an audit entry, which names the grant,
before anything is given away: no entry, no data. Who may not read a call sees its pseudonyms.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.access.grant import Grant
from relay.access.granting import Granting
from relay.access.ports import (
    AuditEntries,
    AuditLog,
    CallRecords,
    Counts,
    Format,
    Playback,
    Query,
    Recordings,
)
from relay.access.roles import May, Staff
from relay.access.view import personal
from relay.errors import Forbidden, NotAuthentic, NotKept
from relay.residency.audit import RELAY
from relay.residency.pseudonym import Pseudonyms, pseudonymised
from relay.residency.record import CallRecord

IDS_AN_ENTRY = 10  # a value of an audit entry is short
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Page:
    """Calls, the latest first; `next` is the id that the page after it begins behind."""

    calls: list[dict[str, Any]]
    next: str | None


class Reading:
    """What staff may read. `pseudonym_key` is `KeyRing.pseudonym_key`.

    Everything raises AuditUnavailable, DatabaseUnavailable and KeyMissing; what may not be read
    raises Forbidden, and leaves an entry, too.
    """

    def __init__(
        self,
        granting: Granting,
        records: CallRecords,
        recordings: Recordings,
        audit: AuditLog,
        entries: AuditEntries,
        pseudonym_key: Callable[[str, str], bytes],
    ) -> None:
        self.policy = granting.policy
        self._granting = granting
        self._records = records
        self._recordings = recordings
        self._audit = audit
        self._entries = entries
        self._pseudonym_key = pseudonym_key

    # --- call records

    async def calls(
        self, staff: Staff, query: Query, now: datetime, after: str = "", in_clear: bool = True
    ) -> Page:
        """A page of calls behind the call `after`. Those that may not be read are pseudonyms, as
        all are without `in_clear`."""
        query = await self._allowed(staff, query, now, after)
        found = await self._records.find(query)
        grants = await self._grants(staff, May.READ_CALLS, now) if in_clear else []
        by: dict[str, list[str]] = {}  # what each grant gives; "" is no grant, from inside
        for call in found:
            grant = _which(grants, call)
            if grant is not None:
                by.setdefault(grant, []).append(call.id)
        read = {id_ for ids in by.values() for id_ in ids}
        if query.number is not None:  # which are of it says something, as that there is none
            by = {"": [call.id for call in found]}
        for grant, ids in by.items():
            await self._enter_ids(staff, grant, ids, query)
        shown = [
            _shown(call, None if call.id in read else self._pseudonyms(staff, call))
            for call in found
        ]
        return Page(shown, found[-1].id if len(found) == query.limit else None)

    async def call(
        self, staff: Staff, call_id: str, now: datetime, in_clear: bool | None = None
    ) -> dict[str, Any]:
        """One call: in clear, or refused (True); pseudonyms (False); or as it may be (None).
        Raises NotKept."""
        call = await self._call(call_id)
        if in_clear is False:
            return _shown(call, self._pseudonyms(staff, call))
        try:
            grant = await self._may(staff, May.READ_CALLS, call, now)
        except Forbidden:
            if in_clear:
                raise
            return _shown(call, self._pseudonyms(staff, call))
        await self._audit.record("call-read", staff.actor(grant), call.id)
        return _shown(call, None)

    async def counts(self, staff: Staff, query: Query, now: datetime) -> Counts:
        """How many there are: everybody may know, by hours and begun minutes."""
        found = await self._records.count(await self._allowed(staff, query, now, ""))
        if self._reads_all(staff):
            return found
        # How long the one call of an hour was is told by the minute, as the call itself tells it.
        return replace(found, seconds=60.0 * math.ceil(found.seconds / 60))

    async def receipt(self, staff: Staff, call_id: str, now: datetime) -> dict[str, Any]:
        """Raises NotKept, also for a call that is not final."""
        call = await self._call(call_id)
        grant = await self._may(staff, May.READ_RECEIPTS, call, now)
        await self._audit.record("receipt-read", staff.actor(grant), call.id)
        found = await self._records.receipt(call.id)
        if found is None:
            raise NotKept(f"call {call.id} has no receipt: it is not over, or was erased")
        return found

    # --- recordings

    async def recording(self, staff: Staff, recording_id: str, now: datetime) -> dict[str, Any]:
        """What is known of a recording. Raises NotKept."""
        call = await self._call_of(recording_id)
        grant = await self._may(staff, May.READ_CALLS, call, now)
        await self._audit.record("recording-read", staff.actor(grant), recording_id, call=call.id)
        shown: dict[str, Any] = personal(call)["recording"]
        return {"call": call.id, "started": call.started.isoformat(), **shown}

    async def play(
        self,
        staff: Staff,
        recording_id: str,
        now: datetime,
        form: Format = "wav",
        trim_silence: bool | None = None,
    ) -> Audio:
        """Raises NotKept, and NotAuthentic for one that was changed, of which there is an entry."""
        call = await self._call_of(recording_id)
        grant = await self._may(staff, May.PLAY, call, now)
        await self._audit.record(
            "recording-played", staff.actor(grant), recording_id, call=call.id, form=form
        )
        try:
            playback = await self._recordings.open(recording_id, form, trim_silence)
        except NotAuthentic:
            self._audit.note("recording-not-authentic", RELAY, recording_id, call=call.id)
            raise
        return Audio(self, staff, call, playback)

    # --- the audit log

    async def audit_lines(self, staff: Staff, first: int, now: datetime) -> AsyncIterator[bytes]:
        """The audit log from an entry on, sealed, as `relay audit verify` takes it."""
        try:
            self.policy.check_may(staff, May.AUDIT)
            self.policy.check_inside(staff, May.AUDIT)
        except Forbidden as error:
            raise self._noted(staff, May.AUDIT, "", error) from None
        await self._audit.record("audit-exported", staff.actor(), first=first)
        return self._entries.export(first)

    # --- who may

    async def check(self, staff: Staff, what: May, call: CallRecord, now: datetime) -> None:
        """Whether it still holds: a token ends, a grant ends or is revoked. Raises Forbidden."""
        if now >= staff.until:
            raise Forbidden("token", "your access token has expired")
        await self._may(staff, what, call, now)

    async def _may(self, staff: Staff, what: May, call: CallRecord, now: datetime) -> str:
        """The grant by which it may be read; "" from inside. Raises Forbidden."""
        try:
            self.policy.check_may(staff, what)
            grant = _which(await self._grants(staff, what, now), call)
            if grant is None:
                raise Forbidden(
                    "grant",
                    f"from {staff.jurisdiction} you may {what.value} by a grant only, and none of "
                    f"yours is approved, has not ended and covers call {call.id}",
                )
        except Forbidden as error:
            raise self._noted(staff, what, call.id, error) from None
        return grant

    async def _grants(self, staff: Staff, what: May, now: datetime) -> list[Grant | None]:
        """By what it is allowed: None is the role alone, from inside; empty is not at all."""
        if not staff.may(what):
            return []
        if self.policy.inside(staff):
            return [None]
        return [*await self._granting.usable(staff, now)]

    async def _allowed(self, staff: Staff, query: Query, now: datetime, after: str) -> Query:
        """The query as its reader may ask it. Raises Forbidden.

        A number is asked for from inside only, since each answer tells about it. Who sees
        pseudonyms asks by the hour: times to the second would tell when a call was.
        """
        if after:
            last = await self._call(after)
            query = replace(query, before=(last.started, last.id))
        if self._reads_all(staff):
            return query
        if query.number is not None:
            try:
                self.policy.check_may(staff, May.READ_CALLS)
                self.policy.check_inside(staff, May.READ_CALLS)
            except Forbidden as error:
                raise self._noted(staff, May.READ_CALLS, "", error) from None
        return replace(query, since=_hour(query.since), until=_hour(query.until, HOUR))

    def _reads_all(self, staff: Staff) -> bool:
        return self.policy.inside(staff) and staff.may(May.READ_CALLS)

    def _noted(self, staff: Staff, what: May, subject: str, error: Forbidden) -> Forbidden:
        self._audit.note("access-refused", staff.actor(), subject, rule=error.rule, what=what.value)
        return error

    async def _enter_ids(self, staff: Staff, grant: str, ids: Sequence[str], query: Query) -> None:
        by = "number" if query.number is not None else "list"
        for at in range(0, max(len(ids), 1), IDS_AN_ENTRY):
            some = ids[at : at + IDS_AN_ENTRY]
            await self._audit.record(
                "calls-read", staff.actor(grant), by=by, count=len(some), calls=",".join(some)
            )

    async def _call(self, call_id: str) -> CallRecord:
        found = await self._records.get(call_id)
        if found is None:
            raise NotKept("there is no such call, or it is not kept any more")
        return found

    async def _call_of(self, recording_id: str) -> CallRecord:
        found = await self._records.of_recording(recording_id)
        if found is None or found.recording is None:
            raise NotKept("there is no such recording, or it is not kept any more")
        return found

    def _pseudonyms(self, staff: Staff, call: CallRecord) -> Pseudonyms:
        """The reader's own, of the month of the call: whenever it is read it has the same."""
        month = f"{call.started.astimezone(UTC):%Y-%m}"
        return Pseudonyms(self._pseudonym_key(f"staff:{staff.name}", month))


class Audio:
    """A recording that is played: whether it may be is asked at each read."""

    def __init__(
        self, reading: Reading, staff: Staff, call: CallRecord, playback: Playback
    ) -> None:
        self._reading = reading
        self._staff = staff
        self._call = call
        self._playback = playback
        self.size = playback.size
        self.media_type = playback.media_type

    async def read(self, start: int, end: int, now: datetime) -> bytes:
        """From `start` up to, not including, `end`. Raises Forbidden once it is over."""
        await self._reading.check(self._staff, May.PLAY, self._call, now)
        return await self._playback.read(start, end)


def _which(grants: Sequence[Grant | None], call: CallRecord) -> str | None:
    """The id of the first one that covers a call; "" from inside, None if none does."""
    for grant in grants:
        if grant is None:
            return ""
        if grant.scope.covers(call):
            return grant.id
    return None


def _shown(call: CallRecord, pseudonyms: Pseudonyms | None) -> dict[str, Any]:
    if pseudonyms is None:
        return {"view": "personal", **personal(call)}
    return {"view": "pseudonyms", **pseudonymised(call, pseudonyms)}


def _hour(moment: datetime | None, more: timedelta = timedelta(0)) -> datetime | None:
    """Down to the hour, or up to it."""
    if moment is None:
        return None
    begun = moment.replace(minute=0, second=0, microsecond=0)
    return begun if begun == moment else begun + more
