"""Erasures in the database: who asked for them, which calls they had, which recordings go.

What is to be removed is written down here before it is removed; `redaction` does both the rows of
now and those that come later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.access.erasure import Erased, Kept, Person, Removal, Request
from relay.database.redaction import PAGE, erase, slices
from relay.database.rows import FINAL, named, recording_of
from relay.database.session import Database
from relay.database.tables import (
    CALLS,
    ERASED_CALLS,
    ERASURES,
    LEGS,
    PARTIES,
    RECORDINGS,
    REMOVALS,
    TOMBSTONES,
)
from relay.errors import NotKept
from relay.keys.ring import KeyRing
from relay.residency.record import RecordingRecord


class Erasures:
    """All of one region's. Raises DatabaseUnavailable; with a person also KeyMissing."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    async def of_person(self, person: Person) -> list[Kept]:
        """Their calls that are not erased yet."""
        indexes = self._keys.indexes(*named(person.value))
        parties = select(PARTIES.c.call_id).where(PARTIES.c.party.in_(indexes))
        calls = _unerased().where(CALLS.c.id.in_(parties))
        if person.account:
            calls = calls.where(CALLS.c.id.in_(_of_peer(person.account)))
        async with self._database.reading() as connection:
            return await _kept(connection, calls)

    async def expired(self, peer: str, before: datetime) -> AsyncIterator[list[Kept]]:
        """Calls of a trunk or an account that ended before and are not erased yet, in pages."""
        calls = _unerased().where(CALLS.c.ended < before, CALLS.c.id.in_(_of_peer(peer)))
        last = ""
        while True:
            async with self._database.reading() as connection:
                page = await _kept(connection, calls.where(CALLS.c.id > last).limit(PAGE))
            if not page:
                return
            last = page[-1].id
            yield page

    async def left(self) -> list[tuple[str, Kept]]:
        """Calls that an erasure should have had (its id; each one that should): they came later,
        or are held."""
        legs = select(LEGS.c.call_id).where(LEGS.c.peer == TOMBSTONES.c.account)
        late = (
            select(PARTIES.c.call_id, TOMBSTONES.c.erasure_id)
            .join(TOMBSTONES, TOMBSTONES.c.party == PARTIES.c.party)
            .join(CALLS, CALLS.c.id == PARTIES.c.call_id)
            .where(CALLS.c.redacted.is_(None), CALLS.c.started < TOMBSTONES.c.before)
            .where(or_(TOMBSTONES.c.account == "", CALLS.c.id.in_(legs)))
        )
        async with self._database.reading() as connection:
            found = {(row.call_id, row.erasure_id) for row in await connection.execute(late)}
            calls: dict[str, Kept] = {}
            for some in slices(sorted({id_ for id_, _ in found})):
                kept = await _kept(connection, _unerased().where(CALLS.c.id.in_(some)))
                calls |= {call.id: call for call in kept}
        return [(erasure, calls[id_]) for id_, erasure in sorted(found) if id_ in calls]

    async def begin(self, request: Request, person: Person | None = None) -> None:
        """Keep the request; of this person nothing from before it is taken any more."""
        row = asdict(request)
        row["asked_by"] = row.pop("by")
        indexes = () if person is None else self._keys.indexes(*named(person.value))
        stones = [
            {
                "party": index,
                "erasure_id": request.id,
                "account": person.account if person is not None else "",
                "before": request.made,
            }
            for index in indexes
        ]
        async with self._database.writing() as connection:
            await connection.execute(insert(ERASURES), row)
            if stones:
                await connection.execute(insert(TOMBSTONES), stones)

    async def redact(self, erasure: str, calls: Iterable[Kept], now: datetime) -> None:
        """Erase what is personal of these calls, and note their recordings for removal."""
        if erased := {call.id: erasure for call in calls}:
            async with self._database.writing() as connection:
                await erase(connection, erased, now)
            await self._database.scrub()

    async def pending(self) -> list[Removal]:
        """Recordings that are to be removed."""
        return await self._removals(REMOVALS.c.removed.is_(None))

    async def removed(self, removal: Removal, now: datetime) -> None:
        async with self._database.writing() as connection:
            this = REMOVALS.c.object == removal.object
            await connection.execute(update(REMOVALS).where(this).values(removed=now))

    async def is_erased(self, name: str) -> bool:
        """Whether a recording must not be kept any more, by its name in the store."""
        return bool(await self._removals(REMOVALS.c.object == name))

    async def erased_of(self, names: Sequence[str]) -> list[str]:
        """Which of these recordings must not be kept any more."""
        found: list[Removal] = []
        for some in slices(names):
            found += await self._removals(REMOVALS.c.object.in_(some))
        return [removal.object for removal in found]

    async def done(self, erasure: str) -> Erased:
        """Raises NotKept."""
        async with self._database.reading() as connection:
            asked = select(ERASURES).where(ERASURES.c.id == erasure)
            row = (await connection.execute(asked)).mappings().one_or_none()
            calls = select(ERASED_CALLS.c.call_id).where(ERASED_CALLS.c.erasure_id == erasure)
            ids = (await connection.execute(calls)).scalars().all()
            more = select(CALLS.c.id).where(CALLS.c.id.in_(calls), CALLS.c.stage < FINAL)
            open_ = (await connection.execute(more)).scalars().all()
        if row is None:
            raise NotKept(f"there is no erasure {erasure}")
        values = {name: value for name, value in row.items() if name != "asked_by"}
        removals = await self._removals(REMOVALS.c.erasure_id == erasure)
        return Erased(Request(by=row["asked_by"], **values), ids, removals, open_)

    async def _removals(self, which: ColumnElement[bool]) -> list[Removal]:
        made = (
            select(REMOVALS, CALLS.c.node)
            .outerjoin(RECORDINGS, RECORDINGS.c.id == REMOVALS.c.recording_id)
            .outerjoin(CALLS, CALLS.c.id == RECORDINGS.c.call_id)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(made.where(which))).mappings().all()
        return [
            Removal(
                *(row["recording_id"], row["object"], row["sha256"], row["octets"]),
                removed=row["removed"],
                node=row["node"] or "",
            )
            for row in rows
        ]


def _unerased() -> Select[Any]:
    columns = (CALLS.c.id, CALLS.c.started, CALLS.c.ended)
    return select(*columns).where(CALLS.c.redacted.is_(None)).order_by(CALLS.c.id)


def _of_peer(peer: str) -> Select[Any]:
    return select(LEGS.c.call_id).where(LEGS.c.peer == peer)


async def _kept(connection: AsyncConnection, calls: Select[Any]) -> list[Kept]:
    found = (await connection.execute(calls)).all()
    peers: dict[str, set[str]] = {}
    parties: dict[str, set[str]] = {}
    recordings: dict[str, RecordingRecord] = {}
    for some in slices([call.id for call in found]):
        legs = select(LEGS.c.call_id, LEGS.c.peer).where(LEGS.c.call_id.in_(some))
        for call, peer in await connection.execute(legs):
            peers.setdefault(call, set()).add(peer)
        them = select(PARTIES.c.call_id, PARTIES.c.party).where(PARTIES.c.call_id.in_(some))
        for call, party in await connection.execute(them):
            parties.setdefault(call, set()).add(party)
        audio = select(RECORDINGS).where(RECORDINGS.c.call_id.in_(some))
        for row in (await connection.execute(audio)).mappings():
            recordings[row["call_id"]] = recording_of(row)
    return [
        Kept(
            call.id,
            call.started,
            call.ended,
            frozenset(peers.get(call.id, ())),
            frozenset(parties.get(call.id, ())),
            recordings.get(call.id),
        )
        for call in found
    ]
